//! Root-mean-square normalisation.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::Initial;

/// `x / sqrt(mean(x^2)) * scale` (arXiv:1910.07467).
#[derive(Module, Debug)]
pub struct RmsNorm {
    scale: Param<Tensor<1>>,
}

impl RmsNorm {
    /// Scales of one.
    pub fn new(dim: usize, initial: &Initial) -> Self {
        Self {
            scale: initial.constant([dim], 1.0),
        }
    }

    /// # Shapes
    /// - `rows`: `[batch, tokens, dim]`
    pub fn forward(&self, rows: Tensor<3>) -> Tensor<3> {
        let [_, _, dim] = rows.dims();
        let mean = (rows.clone() * rows.clone()).mean_dim(2);
        rows / (mean + 1e-6).sqrt() * self.scale.val().reshape([1, 1, dim])
    }
}
