//! Weights keep the norms they began with.

use burn::tensor::Tensor;

use super::rule::{RetentionRule, RetentionStep};
use crate::miras::descriptor::Params;

/// `W_t = (W_(t-1) + update_t) * ||W_initial|| / ||W_(t-1) + update_t||`, the norms taken
/// over the inputs of each output (LaCT, arXiv:2505.23884, in place of decay).
///
/// Old content shrinks geometrically with every update that is large beside the weights.
/// An output whose norms are zero is left as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowNorm;

impl RetentionRule for RowNorm {
    fn name(&self) -> &'static str {
        "row-norm"
    }

    fn params(&self) -> Params {
        Params::new()
    }

    fn needs_initial(&self) -> bool {
        true
    }

    fn is_affine(&self) -> bool {
        false
    }

    fn advance(&self, mut step: RetentionStep) -> Tensor<3> {
        let initial = step.initial.take();
        let moved = step.affine(None);
        let [_, rows, _] = moved.dims();
        match initial {
            // One row is a gain, whose norm per output would fix its size.
            Some(initial) if rows > 1 => {
                let (before, now) = (norms(initial), norms(moved.clone()));
                let free = before
                    .clone()
                    .equal_elem(0.0)
                    .bool_or(now.clone().equal_elem(0.0));
                let now = now.mask_fill(free.clone(), 1.0);
                moved * (before / now).mask_fill(free, 1.0)
            }
            _ => moved,
        }
    }
}

/// Norm of the weights into each output, `[memories, 1, columns]`; exactly zero for zeros.
fn norms(weights: Tensor<3>) -> Tensor<3> {
    let energy = (weights.clone() * weights).sum_dim(1);
    let silent = energy.clone().equal_elem(0.0);
    energy
        .mask_fill(silent.clone(), 1.0)
        .sqrt()
        .mask_fill(silent, 0.0)
}
