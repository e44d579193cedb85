//! The operations of a memory that may have a faster form elsewhere.
//!
//! For sparse memories [`TensorOps`] is the reference: the equations, token by token, on dense
//! tensors. Dense memories are tensor operations all through ([`NeuralMemory`]), which is
//! theirs; [`MemoryOps::dense`] puts something faster in the place of an update and a read.
//! [`HostOps`] is what runs by default; [`RoundedHostOps`] makes the products of dense memories
//! in fewer bits. A GPU crate adds its own [`MemoryOps`]; a test
//! holds every implementation against the reference.
//!
//! [`NeuralMemory`]: crate::NeuralMemory

mod changes;
mod dense;
mod expansion;
mod finite;
mod host;
mod host_dense;
mod host_rounded;
mod products;
mod tensor;
mod top_k;

pub use changes::Changes;
pub use dense::{DenseLearned, DenseOps, DenseRule, DenseTokens, DenseUpdated};
pub use expansion::Expansion;
pub use host::HostOps;
pub use host_rounded::RoundedHostOps;
pub use products::Products;
pub use tensor::TensorOps;
pub use top_k::top_k_into;

pub(crate) use host::host_floats;
pub(crate) use host_dense::HostTensor;

use std::fmt::Debug;

use burn::tensor::{Device, Int, Tensor};

use self::changes::changes_on_host;
use crate::memory::{UpdateCoefficients, largest_elements, products, scan};
use crate::miras::RetentionGate;

/// The active channels of some tokens.
#[derive(Clone, Debug)]
pub struct ActiveChannels {
    /// `[tokens, active]`, ascending in each row.
    pub indices: Tensor<2, Int>,
    /// `[tokens, active]`. Of a sparse memory: unit energy in each row, or all zero where no
    /// activation was positive.
    pub features: Tensor<2>,
}

/// What decides whether and how a token is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WriteRule {
    /// Fraction of the error that a write removes, per unit of feature energy.
    pub step_size: f32,
    /// Divide the step by the features' energy; not needed where that is one.
    pub normalise: bool,
    /// Relative error above which a token is written.
    pub surprise_threshold: f32,
    /// What the written coordinates keep.
    pub retention_gate: RetentionGate,
}

impl WriteRule {
    /// Smoothed surprise after a token, and what the token's write keeps.
    pub(crate) fn forget(&self, smoothed: f32, surprise: f32) -> (f32, f32) {
        match self.retention_gate {
            RetentionGate::SurpriseSigmoid(gate) => {
                let smoothed = gate.smoothing * smoothed + (1.0 - gate.smoothing) * surprise;
                (smoothed, 1.0 - gate.forgotten(smoothed))
            }
            _ => (smoothed, 1.0),
        }
    }
}

/// The result of a write.
#[derive(Clone, Debug)]
pub struct Written {
    /// `[channels, value_dim]`.
    pub weights: Tensor<2>,
    /// Smoothed surprise after the last token.
    pub smoothed_surprise: f32,
    /// Relative error of each token before its own write.
    pub surprise: Vec<f32>,
    /// How many tokens were written.
    pub tokens_written: usize,
    /// Rows of the weights that changed, ascending.
    pub touched_rows: Vec<u32>,
}

/// The largest `||error|| / ||value||` that is reported, however small the value.
pub const LARGEST_RELATIVE_ERROR: f32 = 1e3;

/// `||error|| / ||value||` from the norms.
pub(crate) fn relative(error: f32, value: f32) -> f32 {
    error
        / value
            .max(error / LARGEST_RELATIVE_ERROR)
            .max(f32::MIN_POSITIVE)
}

/// How far a prediction is from a value, `||prediction - value|| / ||value||`, at most 1000:
/// what the surprise gate compares with its threshold.
pub fn relative_error(prediction: &[f32], value: &[f32]) -> f32 {
    let norm = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|x| x * x).sum::<f32>().sqrt();
    let mut error = prediction.iter().zip(value).map(|(p, v)| p - v);
    relative(norm(&mut error), norm(&mut value.iter().copied()))
}

/// Channel selection, sparse read and gated write.
///
/// Object-safe, so that a memory holds `Arc<dyn MemoryOps>` and a device picks its own.
pub trait MemoryOps: Debug + Send + Sync {
    /// Keeps the `active` largest activations `key @ expansion` of each token, ties by
    /// index, rectified and scaled to unit energy. The bits of a token do not depend on
    /// the tokens beside it.
    ///
    /// # Shapes
    /// - `keys`: `[tokens, key_dim]`
    fn activate(&self, keys: Tensor<2>, expansion: &Expansion, active: usize) -> ActiveChannels;

    /// `prediction = features @ weights` over the active channels.
    ///
    /// # Shapes
    /// - `weights`: `[channels, value_dim]`
    /// - returns: `[tokens, value_dim]`
    fn read(&self, weights: &Tensor<2>, active: &ActiveChannels) -> Tensor<2>;

    /// Writes the tokens one after the other, each against the weights that the one
    /// before it left. Where the weights are nobody else's, it may write in place.
    ///
    /// # Shapes
    /// - `weights`: `[channels, value_dim]`
    /// - `values`: `[tokens, value_dim]`
    fn write(
        &self,
        weights: Tensor<2>,
        smoothed_surprise: f32,
        active: &ActiveChannels,
        values: Tensor<2>,
        rule: &WriteRule,
    ) -> Written;

    /// Writes to many memories, each as if it were alone, bit for bit.
    ///
    /// # Shapes
    /// - `weights`: `[channels, value_dim]` of each memory
    /// - `smoothed_surprise`: one of each memory
    /// - `active`: `[memories * tokens, active]`, the tokens of a memory one after the other
    /// - `values`: `[memories, tokens, value_dim]`
    /// - returns: one of each memory
    ///
    /// # Panics
    /// If the numbers of memories differ.
    fn write_batch(
        &self,
        weights: Vec<Tensor<2>>,
        smoothed_surprise: &[f32],
        active: &ActiveChannels,
        values: Tensor<3>,
        rule: &WriteRule,
    ) -> Vec<Written> {
        let [memories, tokens, _] = values.dims();
        assert_eq!(weights.len(), memories, "weights for each memory");
        assert_eq!(
            smoothed_surprise.len(),
            memories,
            "surprises of each memory"
        );
        (0..memories)
            .zip(weights)
            .map(|(memory, weights)| {
                let start = memory * tokens;
                let active = ActiveChannels {
                    indices: active.indices.clone().narrow(0, start, tokens),
                    features: active.features.clone().narrow(0, start, tokens),
                };
                let values = values.clone().narrow(0, memory, 1).squeeze_dim(0);
                self.write(weights, smoothed_surprise[memory], &active, values, rule)
            })
            .collect()
    }

    /// Keeps the `count` coordinates of each memory that are largest by size, over all its
    /// tensors together, ties by position, and makes every other one exactly zero.
    ///
    /// # Shapes
    /// - `gradient`: one `[memories, rows, columns]` per tensor
    fn keep_largest(&self, gradient: Vec<Tensor<3>>, count: usize) -> Vec<Tensor<3>> {
        largest_elements(gradient, count)
    }

    /// Applies an update to the coordinates that it changes; the others do not fade.
    ///
    /// `after = retention * accumulator + update` where `update` is not zero, else
    /// `accumulator`, bit for bit.
    ///
    /// # Shapes
    /// - `accumulator`, `update`: `[memories, rows, columns]`
    /// - `retention`: `[memories, 1]`
    fn apply_written(
        &self,
        accumulator: Tensor<3>,
        update: Tensor<3>,
        retention: &Tensor<2>,
    ) -> Tensor<3> {
        let untouched = update.clone().equal_elem(0.0);
        let after = accumulator.clone() * retention.clone().unsqueeze_dim::<3>(2) + update;
        after.mask_where(untouched, accumulator)
    }

    /// How the weights and momenta after an update are made from those before it and from the
    /// gradients of its tokens: an affine scan over the tokens.
    ///
    /// # Shapes
    /// - `steps`, `retention`, each of `momentum_decays`: `[memories, tokens]`, at least one
    ///   token
    fn update_coefficients(
        &self,
        steps: &Tensor<2>,
        momentum_decays: &[Tensor<2>],
        retention: &Tensor<2>,
    ) -> UpdateCoefficients {
        UpdateCoefficients::new(steps, momentum_decays, retention)
    }

    /// `c_t = decay_t c_(t-1) + input_t` from `c_0 = before`.
    ///
    /// # Shapes
    /// - `before`: `[memories, 1]`
    /// - `decay`, `input`: `[memories, tokens]`
    /// - returns: `[memories, tokens]`
    fn affine_scan(&self, before: &Tensor<2>, decay: &Tensor<2>, input: &Tensor<2>) -> Tensor<2> {
        scan(before, decay, input)
    }

    /// `P[t, s] = product of decay_j for s < j <= t`, zero for `s > t`: how much of what came
    /// at each token is there after each later one.
    ///
    /// # Shapes
    /// - `decay`: `[memories, tokens]`, at least one token
    /// - returns: `[memories, tokens, tokens]`
    fn running_products(&self, decay: &Tensor<2>) -> Tensor<3> {
        products(decay)
    }

    /// Whether all numbers of each memory are finite.
    ///
    /// # Shapes
    /// - `tensors`: `[memories, rows, columns]` each, none without numbers
    fn all_finite(&self, tensors: &[Tensor<3>]) -> Vec<bool> {
        finite::all_finite(tensors)
    }

    /// What a write has changed: of each memory and each of its tensors the coordinates that
    /// have other bits than before.
    ///
    /// # Shapes
    /// - `before`, `after`: one `[memories, rows, columns]` per tensor
    /// - returns: of each memory, one per tensor
    ///
    /// # Panics
    /// If the shapes before and after differ.
    fn changes(&self, before: &[Tensor<3>], after: &[Tensor<3>]) -> Vec<Vec<Changes>> {
        changes_on_host(before, after)
    }

    /// What updates and reads dense memories on this device, where there is something that
    /// is faster than tensor operations, which are the reference.
    fn dense(&self, device: &Device) -> Option<&dyn DenseOps> {
        let _ = device;
        None
    }
}
