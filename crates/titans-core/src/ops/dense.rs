//! What a dense memory may have done for it elsewhere: one update, and a read.

use std::fmt::Debug;

use burn::tensor::{DType, Tensor};

use super::products::Products;
use super::relative_error::relative_errors;
use crate::miras::Mlp;

/// A multi-layer perceptron that learns by gradients of a squared error: everything of its
/// configuration that an update needs to know.
///
/// ```text
/// e_t = M(key_t; W_0) - value_t;   surprise_t = ||e_t|| / ||value_t||
/// g_t = gradient of slope / 2 ||e_t||^2 at W_0, times step_t;   0 if surprise_t <= threshold
/// S_t = momentum_decay_t S_(t-1) - g_t        per order; the second is fed by the first
/// W_t = retention_t W_(t-1) + S_t             without momentum, - g_t instead of S_t
/// ```
///
/// for the tokens of one update, all of whose gradients are taken at its first weights
/// (Titans, arXiv:2501.00663, eq. 13-14 and section 3.2). No token's weights are needed but
/// the last one's: `docs/chunkwise.md` has the closed form, and
/// `crates/titans-core/src/memory/chunkwise.rs` is it in tensor operations, the twin of
/// every [`DenseOps`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DenseRule {
    /// The layers, wrapped in nothing.
    pub mlp: Mlp,
    /// Width of keys.
    pub key_dim: usize,
    /// Width of values.
    pub value_dim: usize,
    /// What multiplies the error in the gradient at the prediction.
    pub slope: f32,
    /// Relative error at or under which a token is not written; zero writes everything.
    pub surprise_threshold: f32,
}

impl DenseRule {
    /// Width of the keys, of each hidden layer, and of the values; layer `l` is
    /// `[widths[l], widths[l + 1]]`.
    pub fn widths(&self) -> Vec<usize> {
        let mut widths = vec![self.mlp.hidden; self.mlp.depth + 1];
        (widths[0], widths[self.mlp.depth]) = (self.key_dim, self.value_dim);
        widths
    }
}

/// What some dense memories have learned, side by side.
#[derive(Clone, Debug)]
pub struct DenseLearned {
    /// `[memories, rows, columns]` for each layer.
    pub weights: Vec<Tensor<3>>,
    /// As the weights, for each order of momentum: none, one or two.
    pub momenta: Vec<Vec<Tensor<3>>>,
}

/// The tokens of one update of some dense memories.
#[derive(Clone, Debug)]
pub struct DenseTokens {
    /// `[memories, tokens, key_dim]`.
    pub keys: Tensor<3>,
    /// `[memories, tokens, value_dim]`.
    pub values: Tensor<3>,
    /// `[memories, tokens]`; a mean over the tokens is divided already.
    pub steps: Tensor<2>,
    /// `[memories, tokens]` for each order of momentum.
    pub momentum_decays: Vec<Tensor<2>>,
    /// `[memories, tokens]`.
    pub retention: Tensor<2>,
}

/// What one update leaves.
#[derive(Clone, Debug)]
pub struct DenseUpdated {
    /// After the last token.
    pub learned: DenseLearned,
    /// `||M(k) - v|| / ||v||` of each token at the weights before the update,
    /// `[memories, tokens]`; at most 1000, however small the value.
    pub relative_error: Tensor<2>,
}

/// Updates and reads of dense memories.
///
/// What is given is never part of a graph of gradients, lies on the device that was asked
/// for, and is of a type that is [taken](Self::takes). Whatever is not finite may become
/// whatever is not finite: the caller looks at what was learned.
///
/// A prediction, be it an answer or what an error is taken of, depends in its bits on its key
/// and the weights alone, not on the keys beside it; a memory's update not on the memories
/// beside it.
pub trait DenseOps: Debug + Send + Sync {
    /// Whether numbers of this type are taken.
    fn takes(&self, dtype: DType) -> bool {
        dtype == DType::F32
    }

    /// To which type the operands of matrix products are rounded, where the device has it.
    fn products(&self) -> Products {
        Products::F32
    }

    /// Whether many memories are better stacked into one call than given in a call for each.
    /// Stacking copies what they have learned.
    fn stacks(&self) -> bool {
        true
    }

    /// Makes one update. Tensors that nobody else holds may be changed where they are.
    fn update(&self, rule: &DenseRule, learned: DenseLearned, tokens: DenseTokens) -> DenseUpdated;

    /// `M(query)`.
    ///
    /// # Shapes
    /// - `weights`: `[memories, rows, columns]` for each layer
    /// - `queries`: `[memories, tokens, key_dim]`
    /// - returns: `[memories, tokens, value_dim]`
    fn read(&self, rule: &DenseRule, weights: &[Tensor<3>], queries: Tensor<3>) -> Tensor<3>;

    /// Tensors that the caller drops: room for what the next update makes, if nobody else
    /// holds them.
    fn recycle(&self, tensors: Vec<Tensor<3>>) {
        drop(tensors);
    }

    /// The relative errors that an update would report, without making it.
    ///
    /// # Shapes
    /// As [`read`](Self::read), with `values` `[memories, tokens, value_dim]`; returns
    /// `[memories, tokens]`.
    fn relative_error(
        &self,
        rule: &DenseRule,
        weights: &[Tensor<3>],
        keys: Tensor<3>,
        values: Tensor<3>,
    ) -> Tensor<2> {
        relative_errors(self.read(rule, weights, keys), values)
    }
}
