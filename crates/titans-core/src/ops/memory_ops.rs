//! The operations that a memory is given.

use std::fmt::Debug;

use burn::tensor::{Device, Tensor};

use super::changes::{Changes, changes_on_host};
use super::coefficients::{UpdateCoefficients, products, scan};
use super::dense::DenseOps;
use super::expansion::Expansion;
use super::finite::all_finite;
use super::largest::largest_elements;
use super::sparse::{ActiveChannels, WriteRule, Written};

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
        all_finite(tensors)
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
