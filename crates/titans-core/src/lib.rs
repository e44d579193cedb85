//! The mathematics of a memory that learns at test time.
//!
//! A [`NeuralMemory`] holds the frozen parameters and the rules, a [`MemoryState`] what was
//! learned. [`write`](NeuralMemory::write) learns from keys and values,
//! [`read`](NeuralMemory::read) recalls. What the memory is and how it learns are four
//! choices ([`MirasConfig`]), bundled under names by [`Preset`].
//!
//! This crate knows tensors and nothing else: no files, no clock, no randomness without a
//! seed, and no threads beyond the pool that Burn computes on. Building a memory can fail
//! with [`ConfigError`], and a write with [`InputError`] when a number is not finite.
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
pub use error::{ConfigError, InputError, StateError};
pub use memory::{
    DecayOrder, DeltaChunk, DeltaResult, ForgetScope, Form, GateSpan, GateValues, GradientBase,
    HostState, MemoryConfig, MemoryState, NeuralMemory, Passed, ReadTime, Reading, Reduction,
    SparseDelta, SparseGate, StateDelta, StateRole, StateTensor, Tail, TokenGates, Tokens,
    UpdateConfig, WriteReport, delta_chunk,
};
pub use miras::{
    Activation, AttentionalBias, ChoiceDescriptor, DotProduct, ElasticNet, FactorizedMlp, GatedMlp,
    GatedResidualMlp, GradientDescent, Huber, HuberForm, Kl, L2, L2Retention, L2Scale,
    LearningAlgorithm, Lp, Lq, Matrix, MemoryArchitecture, MirasConfig, Mlp, Momentum,
    NewtonSchulz, NewtonSchulzSchedule, NoRetention, NormalisedStep, Params, Preset, RetentionGate,
    RetentionTarget, RowNorm, SparseChannelMlp, SurpriseSigmoid, SwiGluMlp, Wrap,
};
pub use ops::{
    ActiveChannels, Expansion, HostOps, MemoryOps, TensorOps, WriteRule, Written, top_k_into,
};
