//! The four choices that make a memory (MIRAS, arXiv:2504.13173), as run-time values.
//!
//! Each choice is a closed set, named in file headers and chosen by configuration:
//! what the memory is ([`MemoryArchitecture`]), what counts as an error
//! ([`AttentionalBias`]), what is kept ([`RetentionGate`]) and how a gradient moves the
//! weights ([`LearningAlgorithm`]). [`Preset`] bundles four of them with their source.

mod architecture;
mod attentional_bias;
mod descriptor;
mod learning_algorithm;
mod preset;
mod retention_gate;

pub use architecture::{MemoryArchitecture, SparseChannelMlp};
pub use attentional_bias::AttentionalBias;
pub use descriptor::{ChoiceDescriptor, Params};
pub use learning_algorithm::{LearningAlgorithm, NormalisedStep};
pub use preset::Preset;
pub use retention_gate::{RetentionGate, SurpriseSigmoid};

use crate::error::ConfigError;

/// The four choices together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MirasConfig {
    /// What the memory is.
    pub architecture: MemoryArchitecture,
    /// What counts as an error.
    pub attentional_bias: AttentionalBias,
    /// What is kept.
    pub retention_gate: RetentionGate,
    /// How a gradient moves the weights.
    pub learning_algorithm: LearningAlgorithm,
}

impl MirasConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        self.architecture.validate()?;
        self.retention_gate.validate()?;
        self.learning_algorithm.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_of_every_preset_round_trips_through_its_descriptor() {
        for preset in Preset::ALL {
            let choices = preset.config().miras;
            assert_eq!(
                MemoryArchitecture::from_descriptor(&choices.architecture.descriptor()),
                Ok(choices.architecture)
            );
            assert_eq!(
                AttentionalBias::from_descriptor(&choices.attentional_bias.descriptor()),
                Ok(choices.attentional_bias)
            );
            assert_eq!(
                RetentionGate::from_descriptor(&choices.retention_gate.descriptor()),
                Ok(choices.retention_gate)
            );
            assert_eq!(
                LearningAlgorithm::from_descriptor(&choices.learning_algorithm.descriptor()),
                Ok(choices.learning_algorithm)
            );
        }
    }

    #[test]
    fn an_unknown_choice_is_quoted_and_the_known_ones_are_listed() {
        let bregman = ChoiceDescriptor::new("bregman", []);
        let error = RetentionGate::from_descriptor(&bregman).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown retention gate \"bregman\"; this build knows none, surprise-sigmoid"
        );
    }

    #[test]
    fn a_missing_or_extra_parameter_is_refused() {
        let short = ChoiceDescriptor::new("surprise-sigmoid", [("gain", 0.8)]);
        let long = ChoiceDescriptor::new("l2", [("power", 2.0)]);
        assert!(RetentionGate::from_descriptor(&short).is_err());
        assert!(AttentionalBias::from_descriptor(&long).is_err());
    }
}
