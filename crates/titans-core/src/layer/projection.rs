//! Queries, keys and values of a dense memory.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::silu;

use super::{CausalConvolution, Initial, project, unit};

/// `q, k = l2(silu(conv(x W)))`, `v = silu(conv(x W))` (Titans, section 4.4).
#[derive(Module, Debug)]
pub struct DenseProjection {
    queries: Param<Tensor<2>>,
    keys: Param<Tensor<2>>,
    values: Param<Tensor<2>>,
    query_convolution: CausalConvolution,
    key_convolution: CausalConvolution,
    value_convolution: CausalConvolution,
}

/// What the three convolutions carry from piece to piece.
#[derive(Clone, Debug)]
pub struct ProjectionState {
    pub(super) tails: [Tensor<3>; 3],
}

impl DenseProjection {
    /// Random projections, convolutions of `kernel` tokens.
    pub fn new(
        dim: usize,
        [key_dim, value_dim]: [usize; 2],
        kernel: usize,
        initial: &mut Initial,
    ) -> Self {
        Self {
            queries: initial.matrix(dim, key_dim, 1.0),
            keys: initial.matrix(dim, key_dim, 1.0),
            values: initial.matrix(dim, value_dim, 1.0),
            query_convolution: CausalConvolution::new(kernel, key_dim, initial),
            key_convolution: CausalConvolution::new(kernel, key_dim, initial),
            value_convolution: CausalConvolution::new(kernel, value_dim, initial),
        }
    }

    /// Before the first token.
    pub fn initial_state(&self, batch: usize) -> ProjectionState {
        ProjectionState {
            tails: [
                self.query_convolution.empty_tail(batch),
                self.key_convolution.empty_tail(batch),
                self.value_convolution.empty_tail(batch),
            ],
        }
    }

    /// Queries, keys and values of a piece.
    ///
    /// # Shapes
    /// - `rows`: `[batch, tokens, dim]`
    pub fn forward(&self, rows: Tensor<3>, state: &mut ProjectionState) -> [Tensor<3>; 3] {
        let [queries, keys, values] = &mut state.tails;
        let through = |weight: &Param<Tensor<2>>, convolution: &CausalConvolution, tail| {
            silu(convolution.forward(project(rows.clone(), weight.val()), tail))
        };
        [
            unit(through(&self.queries, &self.query_convolution, queries)),
            unit(through(&self.keys, &self.key_convolution, keys)),
            through(&self.values, &self.value_convolution, values),
        ]
    }

    /// Queries of rows that stand in no stream: as [`forward`](Self::forward), without the
    /// convolution.
    pub fn queries_alone(&self, rows: Tensor<3>) -> Tensor<3> {
        unit(silu(project(rows, self.queries.val())))
    }
}
