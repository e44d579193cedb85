//! What a memory has learned, and what one write did.

use burn::tensor::Tensor;

use crate::ops::host_floats;

/// The learned part of a memory: constant in size, whatever it has read.
#[derive(Clone, Debug)]
pub struct MemoryState {
    /// `[channels, value_dim]`.
    pub(super) weights: Tensor<2>,
    /// The article's scalar momentum; see [`NormalisedStep`](crate::NormalisedStep).
    pub smoothed_surprise: f32,
    /// Tokens read so far.
    pub tokens_seen: u64,
    /// Tokens written so far.
    pub tokens_written: u64,
}

impl MemoryState {
    pub(super) fn new(weights: Tensor<2>) -> Self {
        Self {
            weights,
            smoothed_surprise: 0.0,
            tokens_seen: 0,
            tokens_written: 0,
        }
    }

    /// A copy of the weights in host memory, `[channels, value_dim]` in row-major order.
    pub fn host_weights(&self) -> Vec<f32> {
        host_floats(self.weights.clone())
    }
}

/// What one call of [`write`](crate::NeuralMemory::write) did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteReport {
    /// Relative error of each token before its own write; 1 means that nothing was known.
    pub surprise: Vec<f32>,
    /// How many of the tokens were written.
    pub tokens_written: usize,
    /// Rows of the weights that changed, ascending.
    pub touched_channels: Vec<u32>,
}
