//! The mathematics of a memory that learns at test time.
//!
//! A [`NeuralMemory`] holds the frozen parameters and the rules, a [`MemoryState`] what was
//! learned. [`write`](NeuralMemory::write) learns from keys and values,
//! [`read`](NeuralMemory::read) recalls. What the memory is and how it learns are four
//! choices ([`MirasConfig`]), bundled under names by [`Preset`].
//!
//! Layers of a model use [`pass`](NeuralMemory::pass): many memories at once, gates and
//! queries beside the tokens, differentiable through every update.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use titans_core::{
//!     Form, GateValues, NeuralMemory, Preset, ReadTime, Reading, Tail, TokenGates, Tokens,
//! };
//!
//! let device = Device::flex();
//! let memory = NeuralMemory::new(Preset::Titans.config(), &device)?;
//! let mut states = vec![memory.initial_state(), memory.initial_state()];
//!
//! let rows = || Tensor::<3>::full([2, 20, 64], 0.125, &device);
//! let retention = Tensor::full([2, 20], 0.99, &device);
//! let tokens = Tokens {
//!     gates: TokenGates {
//!         retention: Some(GateValues::PerToken(retention)),
//!         ..TokenGates::default()
//!     },
//!     ..Tokens::new(rows(), rows())
//! };
//! let reading = Reading { queries: rows(), when: ReadTime::Token };
//! let passed = memory.pass(&mut states, tokens, Some(reading), Tail::Hold, Form::Chunkwise)?;
//! assert_eq!(passed.retrieved.map(|reads| reads.dims()), Some([2, 20, 64]));
//!
//! // Updates take 16 tokens; four wait for the rest of theirs.
//! assert_eq!(states[0].tokens_pending(), 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
mod layer;
mod memory;
mod miras;
mod ops;

pub use device::ComputeDevice;
pub use error::{ConfigError, InputError, StateError};
pub use layer::{
    Attention, AttentionConfig, AttentionState, BlockConfig, BlockOutput, BlockState,
    CausalConvolution, DenseProjection, GateHeads, GateKind, GateNoise, HostLayerState, Initial,
    KeyConfig, LayerConfig, LayerOutput, LayerState, NeuralMemoryBlock, ProjectionState, Reads,
    RmsNorm, Span, Target, TitansLayer, WinnerKeys, WinnerKeysConfig, Wiring, WriteGate,
    WriteGateConfig, WriteGates, segment_sums,
};
pub use memory::{
    DecayOrder, DeltaChunk, DeltaResult, ForgetScope, Form, GateSpan, GateValues, GradientBase,
    HostState, MemoryConfig, MemoryDescriptor, MemoryState, NeuralMemory, Passed, ReadTime,
    Reading, Reduction, SparseDelta, SparseGate, StateDelta, StateRole, StateTensor, Tail,
    TokenGates, Tokens, UpdateConfig, UpdatePlan, WriteReport, delta_chunk,
};
pub use miras::{
    Activation, AttentionalBias, ChoiceDescriptor, DotProduct, ElasticNet, FactorizedMlp, GatedMlp,
    GatedResidualMlp, GradientDescent, Huber, HuberForm, Kl, L2, L2Retention, L2Scale,
    LearningAlgorithm, Lp, Lq, Matrix, MemoryArchitecture, MirasConfig, Mlp, Momentum,
    NewtonSchulz, NewtonSchulzSchedule, NoRetention, NormalisedStep, Params, Preset, RetentionGate,
    RetentionTarget, RowNorm, SparseChannelMlp, SurpriseSigmoid, SwiGluMlp, Wrap,
};
pub use ops::{
    ActiveChannels, Changes, DenseLearned, DenseOps, DenseRule, DenseTokens, DenseUpdated,
    Expansion, HostOps, LARGEST_RELATIVE_ERROR, MemoryOps, Products, RoundedHostOps, TensorOps,
    UpdateCoefficients, WriteRule, Written, relative_error, top_k_into,
};
pub use titans_cpu::LevelError;

/// The example of the crate's page is compiled, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
