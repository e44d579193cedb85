//! A whole configuration as names and numbers.

use super::config::MemoryConfig;
use super::update::UpdateConfig;
use crate::error::ConfigError;
use crate::miras::{
    AttentionalBias, ChoiceDescriptor, LearningAlgorithm, MemoryArchitecture, MirasConfig,
    RetentionGate,
};

/// A [`MemoryConfig`] as names and numbers: what file headers hold, and what a text of a
/// configuration says.
///
/// ```
/// use titans_core::{MemoryConfig, Preset};
///
/// let config = Preset::Yaad.config();
/// let mut descriptor = config.descriptor();
/// assert_eq!(descriptor.attentional_bias.name, "huber");
/// assert_eq!(MemoryConfig::from_descriptor(&descriptor), Ok(config));
///
/// descriptor.attentional_bias.params.remove("threshold");
/// let error = MemoryConfig::from_descriptor(&descriptor).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "attentional bias \"huber\": threshold is missing, expected a number"
/// );
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryDescriptor {
    /// Width of keys and queries.
    pub key_dim: usize,
    /// Width of values.
    pub value_dim: usize,
    /// Seed of the frozen parameters and of the initial weights.
    pub seed: u64,
    /// What the memory is.
    pub architecture: ChoiceDescriptor,
    /// What counts as an error.
    pub attentional_bias: ChoiceDescriptor,
    /// What is kept.
    pub retention_gate: ChoiceDescriptor,
    /// How a gradient moves the weights.
    pub learning_algorithm: ChoiceDescriptor,
    /// When updates happen and what they touch.
    pub update: ChoiceDescriptor,
}

impl MemoryConfig {
    /// The names and numbers of this configuration.
    pub fn descriptor(&self) -> MemoryDescriptor {
        MemoryDescriptor {
            key_dim: self.key_dim,
            value_dim: self.value_dim,
            seed: self.seed,
            architecture: self.miras.architecture.descriptor(),
            attentional_bias: self.miras.attentional_bias.descriptor(),
            retention_gate: self.miras.retention_gate.descriptor(),
            learning_algorithm: self.miras.learning_algorithm.descriptor(),
            update: self.update.descriptor(),
        }
    }

    /// The configuration that names and numbers describe.
    ///
    /// # Errors
    /// A name that this build does not know, a parameter that is missing, unknown or of another
    /// form, and what [`validate`](Self::validate) refuses.
    pub fn from_descriptor(descriptor: &MemoryDescriptor) -> Result<Self, ConfigError> {
        let config = Self {
            key_dim: descriptor.key_dim,
            value_dim: descriptor.value_dim,
            seed: descriptor.seed,
            miras: MirasConfig {
                architecture: MemoryArchitecture::from_descriptor(&descriptor.architecture)?,
                attentional_bias: AttentionalBias::from_descriptor(&descriptor.attentional_bias)?,
                retention_gate: RetentionGate::from_descriptor(&descriptor.retention_gate)?,
                learning_algorithm: LearningAlgorithm::from_descriptor(
                    &descriptor.learning_algorithm,
                )?,
            },
            update: UpdateConfig::from_descriptor(&descriptor.update)?,
        };
        config.validate()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::miras::Preset;

    #[test]
    fn every_preset_round_trips_through_its_descriptor() {
        for preset in Preset::ALL {
            let config = preset.config();
            assert_eq!(
                MemoryConfig::from_descriptor(&config.descriptor()),
                Ok(config)
            );
        }
    }

    #[test]
    fn what_no_memory_can_be_is_refused_although_every_name_is_known() {
        let mut descriptor = Preset::Sparse.config().descriptor();
        descriptor.key_dim = 0;
        let error = MemoryConfig::from_descriptor(&descriptor).expect_err("no width");
        assert_eq!(error.to_string(), "key_dim must be at least 1");
    }
}
