//! The sizes and choices of a memory.

use super::update::{GradientBase, UpdateConfig};
use crate::error::{ConfigError, at_least_one};
use crate::miras::{MemoryArchitecture, MirasConfig, TensorSpec};

/// Everything that decides what a memory computes.
///
/// Start from a [`Preset`](crate::Preset) and change fields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryConfig {
    /// Width of keys and queries.
    pub key_dim: usize,
    /// Width of values.
    pub value_dim: usize,
    /// Seed of the frozen parameters and of the initial weights.
    pub seed: u64,
    /// The four choices.
    pub miras: MirasConfig,
    /// When updates happen and what they touch.
    pub update: UpdateConfig,
}

impl MemoryConfig {
    /// All parameters: frozen and learned.
    pub fn parameters(&self) -> usize {
        self.learned_parameters() + self.frozen_expansion_len()
    }

    /// Bytes of what is learned, at any time and after any number of tokens: weights,
    /// momentum, what a gate or the gradient base must remember, and the tokens of an
    /// unfinished update at their most.
    pub fn state_bytes(&self) -> usize {
        let orders = self.miras.learning_algorithm.momentum_decays().len();
        let keeps_base = matches!(self.update.gradient_base, GradientBase::EveryTokens(_));
        let keeps_initial = self.update.gradient_base == GradientBase::Initial
            || self.miras.retention_gate.needs_initial();
        let copies = 1 + orders + usize::from(keeps_base) + usize::from(keeps_initial);
        let pending = (self.update.update_size - 1) * (self.key_dim + self.value_dim);
        (copies * self.learned_parameters() + pending + 1) * size_of::<f32>()
    }

    /// Checks every number once.
    ///
    /// # Errors
    /// The first size that is zero or number that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("key_dim", self.key_dim)?;
        at_least_one("value_dim", self.value_dim)?;
        self.miras.validate(self.key_dim, self.value_dim)?;
        self.update.validate()
    }

    /// The learned tensors, in the order in which a state holds them.
    pub(crate) fn tensors(&self) -> Vec<TensorSpec> {
        self.miras
            .architecture
            .tensors(self.key_dim, self.value_dim)
    }

    fn learned_parameters(&self) -> usize {
        self.tensors().iter().map(TensorSpec::len).sum()
    }

    fn frozen_expansion_len(&self) -> usize {
        match self.miras.architecture {
            MemoryArchitecture::SparseChannelMlp(mlp) => mlp.channels * self.key_dim,
            _ => 0,
        }
    }
}

impl MirasConfig {
    fn validate(&self, key_dim: usize, value_dim: usize) -> Result<(), ConfigError> {
        self.architecture.validate(key_dim, value_dim)?;
        self.attentional_bias.validate()?;
        self.retention_gate.validate()?;
        self.learning_algorithm.validate()
    }
}
