//! Sizes and choices of the memory of a layer.

use super::WriteGateConfig;
use crate::memory::MemoryConfig;

/// What a token's key is told apart by, and what the memory is to answer there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Key and value of the same token.
    #[default]
    Same,
    /// The key of a token with the value of the next: the memory answers with what comes
    /// (a lookahead target, FwPKM, arXiv:2601.00671).
    Next,
}

/// How keys are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeyConfig {
    /// [`DenseProjection`](super::DenseProjection), with gates from
    /// [`GateHeads`](super::GateHeads): any memory.
    Dense {
        /// Tokens that the convolutions see.
        kernel: usize,
        /// Largest step that the gate gives.
        largest_step: f32,
    },
    /// [`WinnerKeys`](super::WinnerKeys): a delta memory without decay, whose step is its
    /// configuration's.
    Winners {
        /// Width of the two codes.
        code_dim: usize,
        /// Coordinates of a key that are not zero.
        active: usize,
        /// Seed of the frozen features.
        seed: u64,
    },
}

/// Sizes and choices of a [`NeuralMemoryBlock`](super::NeuralMemoryBlock).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockConfig {
    /// Width of the rows.
    pub dim: usize,
    /// The memory, `key_dim` and `value_dim` among it.
    pub memory: MemoryConfig,
    /// How keys are made.
    pub keys: KeyConfig,
    /// What a key is paired with.
    pub target: Target,
    /// The write gate; without one, every token is written.
    pub write_gate: Option<WriteGateConfig>,
    /// In training, how many tokens of a piece take part in the closed form at least: those
    /// that are written, and closed ones nearest to it, which get their gradient so. All
    /// others get none.
    pub gathered: usize,
}
