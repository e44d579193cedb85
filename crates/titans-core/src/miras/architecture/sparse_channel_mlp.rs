//! A wide hidden layer of which only a few channels are active per key.

use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::maps::{LinearMaps, OuterGradient, StaticMaps, TensorSpec, TokenGradients};
use super::rule::ArchitectureRule;
use crate::error::{ConfigError, at_least_one, in_range};
use crate::miras::descriptor::{ParamReader, Params, params};
use crate::ops::{host_floats, top_k_into};

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
    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            channels: params.count("channels")?,
            active_channels: params.count("active_channels")?,
        })
    }

    /// The frozen expansion, `[key_dim, channels]`, the same for a seed on every machine.
    ///
    /// Entries are uniform with unit variance over `key_dim`. Uniform and straight from
    /// the generator's 32-bit words, so that the values depend on the definition of ChaCha
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

    /// The features of keys, `[memories, tokens, channels]`, zero where not active.
    ///
    /// The selection is made in host memory and carries no gradient; the features do.
    pub(crate) fn features(&self, keys: Tensor<3>, expansion: Tensor<2>) -> Tensor<3> {
        let activations = keys.matmul(expansion.unsqueeze_dim(0));
        let mut active = vec![0.0; activations.shape().num_elements()];
        let mut selected = Vec::new();
        let rows = host_floats(activations.clone());
        for (row, mask) in rows
            .chunks_exact(self.channels)
            .zip(active.chunks_exact_mut(self.channels))
        {
            top_k_into(row, self.active_channels, &mut selected);
            for &(channel, _) in &selected {
                mask[channel as usize] = 1.0;
            }
        }
        let options = (&activations.device(), activations.dtype());
        let mask: Tensor<3> =
            Tensor::from_data(TensorData::new(active, activations.dims()), options);
        let hidden = relu(activations) * mask;
        let energy = (hidden.clone() * hidden.clone()).sum_dim(2);
        let silent = energy.clone().equal_elem(0.0);
        hidden / energy.mask_fill(silent, 1.0).sqrt()
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

impl ArchitectureRule for SparseChannelMlp {
    fn name(&self) -> &'static str {
        "sparse-channel-mlp"
    }

    fn params(&self) -> Params {
        params([
            ("channels", self.channels as f64),
            ("active_channels", self.active_channels as f64),
        ])
    }

    fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("channels", self.channels)?;
        at_least_one("active_channels", self.active_channels)?;
        in_range(
            "active_channels",
            self.active_channels as f32,
            "at most `channels`",
            |active| active <= self.channels as f32,
        )
    }

    fn tensors(&self, _key_dim: usize, value_dim: usize) -> Vec<TensorSpec> {
        vec![TensorSpec::zero("weights", self.channels, value_dim)]
    }

    /// `inputs` are the features of the keys, `[memories, tokens, channels]`.
    fn predict(&self, maps: &dyn LinearMaps, inputs: Tensor<3>) -> Tensor<3> {
        maps.apply(0, inputs)
    }

    fn gradients(
        &self,
        weights: &[Tensor<3>],
        inputs: Tensor<3>,
        at_prediction: &dyn Fn(&Tensor<3>) -> Tensor<3>,
    ) -> TokenGradients {
        let prediction = StaticMaps(weights).apply(0, inputs.clone());
        let outers = vec![OuterGradient {
            inputs: inputs.clone(),
            deltas: at_prediction(&prediction),
        }];
        TokenGradients {
            prediction,
            outers,
            features: inputs,
        }
    }
}
