//! What a memory has learned, on the device and in host memory.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use crate::ops::host_floats;

/// Name of the learned weights among the tensors of a [`HostState`].
pub(super) const WEIGHTS: &str = "weights";
/// Name of the smoothed surprise among the scalars of a [`HostState`].
pub(super) const SMOOTHED_SURPRISE: &str = "smoothed_surprise";

/// The learned part of a memory: constant in size, whatever it has read.
///
/// Cloning shares the tensors; a write to one of the clones leaves the others as they were.
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

    /// A copy in host memory: everything that a file must keep.
    pub fn to_host(&self) -> HostState {
        let scalars = [(SMOOTHED_SURPRISE, self.smoothed_surprise)];
        HostState {
            tensors: vec![StateTensor {
                name: WEIGHTS.to_owned(),
                role: StateRole::Weights,
                shape: self.weights.dims().to_vec(),
                values: host_floats(self.weights.clone()),
            }],
            scalars: scalars
                .map(|(name, value)| (name.to_owned(), f64::from(value)))
                .into(),
            tokens_seen: self.tokens_seen,
            tokens_written: self.tokens_written,
        }
    }
}

/// A [`MemoryState`] as names, shapes and numbers, without a device.
///
/// [`NeuralMemory::state_from_host`](crate::NeuralMemory::state_from_host) is the way back;
/// there and back gives the same bits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostState {
    /// The tensors, always in the same order for one configuration.
    pub tensors: Vec<StateTensor>,
    /// Numbers that belong to no tensor; each is an `f32` kept as an `f64`.
    pub scalars: BTreeMap<String, f64>,
    /// Tokens read so far.
    pub tokens_seen: u64,
    /// Tokens written so far.
    pub tokens_written: u64,
}

/// One tensor of a [`HostState`].
#[derive(Clone, Debug, PartialEq)]
pub struct StateTensor {
    /// Its name, unique within its role.
    pub name: String,
    /// What it is to the memory.
    pub role: StateRole,
    /// Sizes of the dimensions.
    pub shape: Vec<usize>,
    /// As many values as the shape has coordinates, in row-major order.
    pub values: Vec<f32>,
}

/// What a tensor is to the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StateRole {
    /// What the memory has learned.
    Weights,
    /// The accumulated surprise of the learning algorithm.
    Momentum,
    /// What an unfinished update still needs.
    Pending,
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
