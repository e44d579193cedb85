//! The tensors of an architecture, and the linear maps that use them.

use burn::tensor::Tensor;

/// One learned tensor: `rows x columns`, used as `input @ tensor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TensorSpec {
    /// Its name within the state. Files store it, so it never changes.
    pub(crate) name: String,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// How a memory that knows nothing begins.
    pub(crate) start: Start,
}

impl TensorSpec {
    pub(crate) fn new(name: impl Into<String>, rows: usize, columns: usize) -> Self {
        Self {
            name: name.into(),
            rows,
            columns,
            start: Start::Random,
        }
    }

    pub(crate) fn zero(name: impl Into<String>, rows: usize, columns: usize) -> Self {
        Self {
            start: Start::Zero,
            ..Self::new(name, rows, columns)
        }
    }

    /// The learned gain of a normalisation, one row that multiplies a one.
    pub(crate) fn gain(columns: usize) -> Self {
        Self::zero("gain", 1, columns)
    }

    /// A vector has no spectrum: orthogonalisation leaves it alone.
    pub(crate) fn is_matrix(&self) -> bool {
        self.name != "gain"
    }

    pub(crate) fn len(&self) -> usize {
        self.rows * self.columns
    }
}

/// Initial values of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Zero,
    /// Uniform with variance 1 / rows, from the seed.
    Random,
}

/// How the parameter tensors act on inputs.
///
/// The same architecture reads with one set of weights for all tokens
/// ([`StaticMaps`]) or with other weights for each token (the dual form of the chunk).
pub(crate) trait LinearMaps {
    /// `input @ tensor`, token by token.
    ///
    /// # Shapes
    /// - `input`: `[memories, tokens, rows]`
    /// - returns: `[memories, tokens, columns]`
    fn apply(&self, tensor: usize, input: Tensor<3>) -> Tensor<3>;
}

/// The same weights for every token.
pub(crate) struct StaticMaps<'a>(pub(crate) &'a [Tensor<3>]);

impl LinearMaps for StaticMaps<'_> {
    fn apply(&self, tensor: usize, input: Tensor<3>) -> Tensor<3> {
        input.matmul(self.0[tensor].clone())
    }
}

/// The gradient of each token with respect to one tensor: `inputs_t^T deltas_t`.
#[derive(Clone, Debug)]
pub(crate) struct OuterGradient {
    /// `[memories, tokens, rows]`.
    pub(crate) inputs: Tensor<3>,
    /// `[memories, tokens, columns]`.
    pub(crate) deltas: Tensor<3>,
}

/// What the backward pass of some tokens gives.
#[derive(Clone, Debug)]
pub(crate) struct TokenGradients {
    /// `[memories, tokens, value_dim]`.
    pub(crate) prediction: Tensor<3>,
    /// One per tensor.
    pub(crate) outers: Vec<OuterGradient>,
    /// Input of the last linear map, `[memories, tokens, features]`: what a normalised
    /// step divides by.
    pub(crate) features: Tensor<3>,
}
