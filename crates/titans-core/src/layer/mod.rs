//! Layers of a model: a memory beside attention, in the wirings of Titans.
//!
//! ```text
//! LMM   x ------------> memory ----------------> + -> out
//! MAC   x -> read M of the last segment -> attention over [persistent | read | x] -> y
//!       y -> memory (write, then read) --------> gated by y --------------> out
//! MAG   x -> memory ---------------------------> gated by attention(x) ---> out
//! MAL   x -> memory -> y -> attention(y) ------------------------------> + -> out
//! ```
//!
//! (Titans, arXiv:2501.00663, section 4.) [`Wiring`] names them, and plain attention beside
//! them; [`TitansLayer`] computes them. All are causal: what a token gives never depends on
//! a later one. A stream may be given in pieces of any length; [`LayerState`] carries what
//! one piece leaves for the next, and its size does not grow, but for full attention.

mod attention;
mod block;
mod block_config;
mod closed_form;
mod convolution;
mod gates;
mod gathered;
mod init;
mod norm;
mod pooling;
mod projection;
mod restore;
mod state;
mod winners;
mod wiring;

pub use attention::{Attention, AttentionConfig, AttentionState, Span};
pub use block::{BlockOutput, BlockState, NeuralMemoryBlock};
pub use block_config::{BlockConfig, KeyConfig, Target};
pub use convolution::CausalConvolution;
pub use gates::{GateHeads, GateKind, GateNoise, WriteGate, WriteGateConfig, WriteGates};
pub use init::Initial;
pub use norm::RmsNorm;
pub use pooling::segment_sums;
pub use projection::{DenseProjection, ProjectionState};
pub use state::{HostLayerState, LayerState};
pub use winners::{WinnerKeys, WinnerKeysConfig};
pub use wiring::{LayerConfig, LayerOutput, TitansLayer, Wiring};

use burn::tensor::{Int, Tensor, TensorData};

/// For which tokens of a piece an output is wanted.
///
/// Nearly all of a long text is read without being asked anything, and an output costs as
/// much as a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reads {
    /// For every token.
    All,
    /// For none.
    Nothing,
    /// For these tokens of the piece, equally many for each sequence of the batch.
    At(Vec<Vec<usize>>),
}

impl Reads {
    /// The wanted rows of `[batch, tokens, dim]`.
    ///
    /// # Panics
    /// If the positions are not those of this batch and piece.
    pub(crate) fn pick(&self, rows: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, dim] = rows.dims();
        match self {
            Self::All => rows,
            Self::Nothing => empty(&rows, batch, dim),
            Self::At(positions) => {
                let wanted = same_counts(positions, batch, tokens);
                if wanted == 0 {
                    return empty(&rows, batch, dim);
                }
                let flat = rows.reshape([batch * tokens, dim]);
                let indices = flat_indices(positions, tokens, &flat.device());
                flat.select(0, indices).reshape([batch, wanted, dim])
            }
        }
    }
}

/// How many positions each sequence has.
fn same_counts(positions: &[Vec<usize>], batch: usize, tokens: usize) -> usize {
    let count = positions.first().map_or(0, Vec::len);
    assert!(
        positions.len() == batch
            && positions
                .iter()
                .all(|of_one| of_one.len() == count && of_one.iter().all(|at| *at < tokens)),
        "positions do not fit {batch} sequences of {tokens} tokens"
    );
    count
}

/// Positions as row numbers of the batch laid out as one.
fn flat_indices(
    positions: &[Vec<usize>],
    tokens: usize,
    device: &burn::tensor::Device,
) -> Tensor<1, Int> {
    let indices: Vec<i32> = (positions.iter().enumerate())
        .flat_map(|(sequence, at)| at.iter().map(move |at| (sequence * tokens + at) as i32))
        .collect();
    let count = indices.len();
    Tensor::from_data(TensorData::new(indices, [count]), &device.clone().inner())
}

/// No tokens: `[batch, 0, dim]`. The library narrows to no less than one.
fn empty(like: &Tensor<3>, batch: usize, dim: usize) -> Tensor<3> {
    Tensor::zeros([batch, 0, dim], (&like.device().inner(), like.dtype()))
}

/// `count` tokens from `start`, which may be none.
fn tokens_of(rows: Tensor<3>, start: usize, count: usize) -> Tensor<3> {
    let [batch, _, dim] = rows.dims();
    match count {
        0 => empty(&rows, batch, dim),
        _ => rows.narrow(1, start, count),
    }
}

/// `rows @ weight`, `[batch, tokens, width]`.
fn project(rows: Tensor<3>, weight: Tensor<2>) -> Tensor<3> {
    let [batch, tokens, dim] = rows.dims();
    let [_, width] = weight.dims();
    if tokens == 0 {
        return empty(&rows, batch, width);
    }
    rows.reshape([batch * tokens, dim])
        .matmul(weight)
        .reshape([batch, tokens, width])
}

/// `x / ||x||` along the last axis; a vector near zero stays near zero.
fn unit(rows: Tensor<3>) -> Tensor<3> {
    let energy = (rows.clone() * rows.clone()).sum_dim(2);
    rows / (energy + 1e-6).sqrt()
}
