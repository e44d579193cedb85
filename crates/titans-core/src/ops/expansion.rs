//! The frozen expansion of a sparse memory, laid out for the host.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use burn::tensor::Tensor;
use pulp::{Simd, WithSimd};
use titans_cpu::{Screen, vectorised};

use super::host_tensor::host_floats;

/// Channels that lie side by side for one key coordinate.
const PANEL: usize = 32;
/// Tokens whose sums are in registers at once: with two vectors of channels each, twelve
/// of the sixteen registers of AVX2, and enough to hide the latency of a multiply-add.
const TOKENS: usize = 6;

/// `activations = key @ expansion`, with the bits of a token independent of its company.
///
/// A library's matrix product may add in another order for another number of rows. Then a
/// stream cut in other places would activate, at a near tie, other channels. Here every
/// activation is one chain of multiply-adds over the key's coordinates, in their order.
#[derive(Clone, Debug)]
pub struct Expansion {
    tensor: Tensor<2>,
    /// `[panel, key coordinate, channel in panel]`, the last panel filled up with zeros.
    panels: Arc<[f32]>,
    /// What finds large activations, where the machine can.
    screen: Option<Arc<Screen>>,
    /// Bits of the smallest active channel's activation per length of its key, of some token
    /// before; zero if there was none. It is a guess: a wrong one costs time only, so the order
    /// of threads does not matter.
    smallest: Arc<AtomicU32>,
}

impl Expansion {
    /// # Shapes
    /// - `tensor`: `[key_dim, channels]`
    pub fn new(tensor: Tensor<2>) -> Self {
        let [key_dim, channels] = tensor.dims();
        let rows = host_floats(tensor.clone());
        let mut panels = vec![0.0; channels.div_ceil(PANEL) * key_dim * PANEL];
        for (coordinate, row) in rows.chunks_exact(channels).enumerate() {
            for (panel, part) in row.chunks(PANEL).enumerate() {
                let start = (panel * key_dim + coordinate) * PANEL;
                panels[start..start + part.len()].copy_from_slice(part);
            }
        }
        Self {
            screen: Screen::new(&rows, channels).map(Arc::new),
            tensor,
            panels: panels.into(),
            smallest: Arc::default(),
        }
    }

    /// The same numbers on their device, `[key_dim, channels]`.
    pub fn tensor(&self) -> &Tensor<2> {
        &self.tensor
    }

    pub(super) fn screen(&self) -> Option<&Screen> {
        self.screen.as_deref()
    }

    /// What was [noted](Self::note_smallest).
    pub(super) fn smallest(&self) -> Option<f32> {
        let smallest = f32::from_bits(self.smallest.load(Ordering::Relaxed));
        (smallest > 0.0).then_some(smallest)
    }

    /// Notes the smallest active channel's activation per length of its key, if it is one.
    pub(super) fn note_smallest(&self, smallest: f32) {
        if smallest.is_finite() && smallest > 0.0 {
            self.smallest.store(smallest.to_bits(), Ordering::Relaxed);
        }
    }

    /// Width of the rows that [`activations_into`](Self::activations_into) writes: the
    /// channels, filled up.
    pub(super) fn padded_channels(&self) -> usize {
        let [key_dim, _] = self.tensor.dims();
        self.panels.len() / key_dim
    }

    /// The activations of some keys, a row of `padded_channels` for each.
    pub(super) fn activations_into(&self, keys: &[f32], activations: &mut [f32]) {
        let [key_dim, _] = self.tensor.dims();
        vectorised(Product {
            keys,
            key_dim,
            panels: &self.panels,
            activations,
            width: self.padded_channels(),
        });
    }
}

struct Product<'a> {
    keys: &'a [f32],
    key_dim: usize,
    panels: &'a [f32],
    activations: &'a mut [f32],
    width: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let tokens = self.keys.len() / self.key_dim;
        let pair = 2 * S::F32_LANES;
        let groups = interleaved(self.keys, self.key_dim);
        let panels = self.panels.chunks_exact(self.key_dim * PANEL);
        for (panel_idx, panel) in panels.enumerate() {
            let of_group = groups.chunks_exact(self.key_dim).enumerate();
            for (group_idx, keys) in of_group {
                let first = group_idx * TOKENS;
                for offset in (0..PANEL).step_by(pair) {
                    let sums = sums(simd, keys, panel, offset);
                    let count = TOKENS.min(tokens - first);
                    for (token, sums) in sums.iter().enumerate().take(count) {
                        let start = (first + token) * self.width + panel_idx * PANEL + offset;
                        let row = &mut self.activations[start..start + pair];
                        let (vectors, _) = S::as_mut_simd_f32s(row);
                        vectors.copy_from_slice(sums);
                    }
                }
            }
        }
    }
}

/// Keys in groups: of each coordinate the numbers of a group's tokens side by side. A short
/// group repeats its last token.
fn interleaved(keys: &[f32], key_dim: usize) -> Vec<[f32; TOKENS]> {
    let tokens = keys.len() / key_dim;
    let mut groups = Vec::with_capacity(tokens.div_ceil(TOKENS) * key_dim);
    for first in (0..tokens).step_by(TOKENS) {
        for coordinate in 0..key_dim {
            groups.push(std::array::from_fn(|token| {
                keys[(first + token).min(tokens - 1) * key_dim + coordinate]
            }));
        }
    }
    groups
}

/// Two vectors of activations for each of a group of tokens.
#[inline(always)]
fn sums<S: Simd>(
    simd: S,
    keys: &[[f32; TOKENS]],
    panel: &[f32],
    offset: usize,
) -> [[S::f32s; 2]; TOKENS] {
    let mut sums = [[simd.splat_f32s(0.0); 2]; TOKENS];
    for (keys, weights) in keys.iter().zip(panel.chunks_exact(PANEL)) {
        let (weights, _) = S::as_simd_f32s(&weights[offset..offset + 2 * S::F32_LANES]);
        let (first, second) = (weights[0], weights[1]);
        for (key, sums) in keys.iter().zip(&mut sums) {
            let key = simd.splat_f32s(*key);
            sums[0] = simd.mul_add_f32s(key, first, sums[0]);
            sums[1] = simd.mul_add_f32s(key, second, sums[1]);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn equals_the_matrix_product_and_does_not_depend_on_the_company() {
        let device = Device::flex();
        device.seed(9);
        for (tokens, key_dim, channels) in [(1, 1, 1), (13, 7, 33), (29, 64, 101)] {
            let random = |rows, columns| -> Tensor<2> {
                Tensor::random([rows, columns], Distribution::Normal(0.0, 1.0), &device)
            };
            let (keys, weights) = (random(tokens, key_dim), random(key_dim, channels));
            let expected = host_floats(keys.clone().matmul(weights.clone()));
            let expansion = Expansion::new(weights);
            let width = expansion.padded_channels();
            let keys = host_floats(keys);
            let mut all = vec![f32::NAN; tokens * width];
            expansion.activations_into(&keys, &mut all);
            for (token, row) in all.chunks_exact(width).enumerate() {
                let expected = &expected[token * channels..][..channels];
                for (ours, theirs) in row.iter().zip(expected) {
                    assert!((ours - theirs).abs() < 1e-4, "{ours} {theirs}");
                }
                let mut alone = vec![f32::NAN; width];
                expansion.activations_into(&keys[token * key_dim..][..key_dim], &mut alone);
                assert_eq!(row, alone);
            }
        }
    }
}
