//! The mathematics of a memory that learns at test time.
//!
//! A [`NeuralMemory`] holds the frozen parameters and the rules, a [`MemoryState`] what was
//! learned. [`write`](NeuralMemory::write) learns from keys and values,
//! [`read`](NeuralMemory::read) recalls. What the memory is and how it learns are four
//! choices ([`MirasConfig`]), bundled under names by [`Preset`].
//!
//! This crate knows tensors and nothing else: no files, no threads, no clock, and no
//! randomness without a seed. Building a memory can fail with [`ConfigError`]; reading and
//! writing cannot.
//!
//! | symbol in the papers | here |
//! | --- | --- |
//! | k, v, q | `keys`, `values`, `queries` |
//! | M, W | the memory, its `weights` |
//! | theta (Titans), eta (MIRAS) | `step_size` |
//! | 1 - alpha (Titans), alpha (MIRAS) | `retention` |
//! | eta (Titans), beta (article) | `momentum_decay` |
//! | gradient of the inner loss | `surprise`, as a relative norm |

#![forbid(unsafe_code)]

mod device;
mod error;
mod memory;
mod miras;
mod ops;

pub use device::ComputeDevice;
pub use error::{ConfigError, StateError};
pub use memory::{
    HostState, MemoryConfig, MemoryState, NeuralMemory, StateRole, StateTensor, WriteReport,
};
pub use miras::{
    AttentionalBias, ChoiceDescriptor, LearningAlgorithm, MemoryArchitecture, MirasConfig,
    NormalisedStep, Params, Preset, RetentionGate, SparseChannelMlp, SurpriseSigmoid,
};
pub use ops::{ActiveChannels, HostOps, MemoryOps, TensorOps, WriteRule, Written, top_k_into};
