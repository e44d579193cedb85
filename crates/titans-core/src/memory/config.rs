//! The sizes and choices of a memory.

use crate::error::{ConfigError, at_least_one};
use crate::miras::{MemoryArchitecture, MirasConfig};

/// Everything that decides what a memory computes.
///
/// Start from a [`Preset`](crate::Preset) and change fields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryConfig {
    /// Width of keys and queries.
    pub key_dim: usize,
    /// Width of values.
    pub value_dim: usize,
    /// Seed of the frozen parameters.
    pub seed: u64,
    /// The four choices.
    pub miras: MirasConfig,
}

impl MemoryConfig {
    /// All parameters: frozen and learned.
    pub fn parameters(&self) -> usize {
        let MemoryArchitecture::SparseChannelMlp(mlp) = self.miras.architecture;
        mlp.channels * (self.key_dim + self.value_dim)
    }

    /// Shape of the learned weights, `[channels, value_dim]`.
    pub fn weights_shape(&self) -> [usize; 2] {
        let MemoryArchitecture::SparseChannelMlp(mlp) = self.miras.architecture;
        [mlp.channels, self.value_dim]
    }

    /// Bytes of what is learned, at any time and after any number of tokens: the weights
    /// and the smoothed surprise.
    pub fn state_bytes(&self) -> usize {
        let [channels, value_dim] = self.weights_shape();
        (channels * value_dim + 1) * size_of::<f32>()
    }

    /// Checks every number once.
    ///
    /// # Errors
    /// The first size that is zero or number that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("key_dim", self.key_dim)?;
        at_least_one("value_dim", self.value_dim)?;
        self.miras.validate()
    }
}
