//! A wide hidden layer of which only a few channels are active per key.

use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::error::{ConfigError, at_least_one, in_range};

/// Two layers: a frozen, seeded expansion and a linear read-out that learns.
///
/// ```text
/// a      = key @ expansion                       one activation per channel
/// h_j    = relu(a_j) if j is among the k largest, else 0
/// f      = h / ||h||                             unit energy
/// M(key) = f @ weights
/// ```
///
/// Two keys share few of their k active channels, and a write touches only the rows of
/// the active ones: one association changes k / channels of the memory, so later writes
/// rarely meet earlier ones. The k-winner hidden layer is that of the sparse-coding
/// literature; top-k channel gating with 1-3 % of a memory changed per update is the
/// reading of the article's sparse gate under which one-shot recall works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SparseChannelMlp {
    /// Hidden channels: rows of the weights.
    pub channels: usize,
    /// Channels that stay active per key.
    pub active_channels: usize,
}

impl SparseChannelMlp {
    pub(crate) const NAME: &'static str = "sparse-channel-mlp";

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("channels", self.channels)?;
        at_least_one("active_channels", self.active_channels)?;
        in_range(
            "active_channels",
            self.active_channels as f32,
            "at most `channels`",
            |active| active <= self.channels as f32,
        )
    }

    /// The frozen expansion, `[key_dim, channels]`, the same for a seed on every machine.
    ///
    /// Entries are uniform with unit variance over `key_dim`. Uniform and straight from
    /// the generator's 32-bit words, so that the values hang on the definition of ChaCha
    /// and on nothing that a library may change; not signs, because sign keys times sign
    /// weights would tie most activations.
    pub(crate) fn frozen_expansion(&self, key_dim: usize, seed: u64) -> Vec<f32> {
        let mut words = ChaCha8Rng::seed_from_u64(seed);
        let bound = (3.0 / key_dim as f32).sqrt();
        (0..key_dim * self.channels)
            .map(|_| {
                let unit = (words.next_u32() >> 8) as f32 / (1u32 << 24) as f32;
                (2.0 * unit - 1.0) * bound
            })
            .collect()
    }

    pub(crate) fn expansion_tensor(
        &self,
        key_dim: usize,
        values: Vec<f32>,
        device: &Device,
    ) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, [key_dim, self.channels]), device)
    }
}
