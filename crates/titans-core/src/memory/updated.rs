//! What one update leaves, whichever form computed it.

use burn::tensor::Tensor;

use super::learned::Learned;
use super::surprise::Surprise;

/// What an update leaves.
pub(crate) struct Updated {
    pub(crate) learned: Learned,
    pub(crate) surprise: Surprise,
    /// Norm of the gradient of the whole update, steps included, `[memories, 1]`, where it
    /// was asked for or came along.
    pub(crate) update_norm: Option<Tensor<2>>,
    /// Reads after each token, if there were queries.
    pub(crate) token_reads: Option<Tensor<3>>,
}

/// How much of an update is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// What a write reports: which tokens were written, and how surprising each was.
    Surprise,
    /// Norms and losses, too, each of which costs a pass over what it is about; the norm of
    /// the update costs a matrix product per tensor.
    All,
}
