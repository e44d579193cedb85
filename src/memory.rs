//! The memory itself, without files, threads or users, and every choice that makes one.
//!
//! A [`MemoryConfig`] says what a memory is. Start from a [`Preset`] and change fields:
//!
//! ```
//! use titanmem::memory::{
//!     MemoryArchitecture, NeuralMemory, Preset, SparseChannelMlp,
//! };
//! use titanmem::burn::tensor::Tensor;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = Preset::Sparse.config();
//! config.update.surprise_threshold = 0.5;
//! config.miras.architecture = MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
//!     channels: 2048,
//!     active_channels: 32,
//! });
//! let device = titanmem::Device::Cpu.open()?;
//! let memory = NeuralMemory::new(config, &device)?;
//! let mut state = memory.initial_state();
//!
//! let row = Tensor::<2>::full([1, 64], 0.125, &device);
//! let report = memory.write(&mut state, row.clone(), row.clone())?;
//! assert_eq!(report.tokens_written, 1);
//! // The second time it is known, and nothing is written.
//! let report = memory.write(&mut state, row.clone(), row.clone())?;
//! assert_eq!(report.tokens_written, 0);
//! let error = (memory.read(&state, row.clone()) - row).abs().max();
//! assert!(error.into_scalar::<f32>() < 1e-3);
//! # Ok(())
//! # }
//! ```
//!
//! The four choices have the names of [MIRAS](https://arxiv.org/abs/2504.13173):
//!
//! | choice | its variants |
//! | --- | --- |
//! | what the memory is: [`MemoryArchitecture`] | [`Matrix`], [`Mlp`], [`GatedMlp`], [`SwiGluMlp`], [`FactorizedMlp`], [`GatedResidualMlp`], [`SparseChannelMlp`] |
//! | what counts as an error: [`AttentionalBias`] | [`DotProduct`], [`L2`], [`Lp`], [`Huber`] |
//! | what is kept: [`RetentionGate`] | [`NoRetention`], [`L2Retention`], [`SurpriseSigmoid`], [`ElasticNet`], [`Lq`], [`Kl`], [`RowNorm`] |
//! | how a gradient moves the weights: [`LearningAlgorithm`] | [`GradientDescent`], [`Momentum`], [`NormalisedStep`], [`NewtonSchulz`] |
//!
//! [`UpdateConfig`] says when an update happens and what it may touch. What each setting does is
//! in [`guide::tuning`](crate::guide::tuning).

// What a configuration is made of.
#[doc(inline)]
pub use titans_core::{
    Activation, AttentionalBias, ChoiceDescriptor, ComputeDevice, ConfigError, DotProduct,
    ElasticNet, FactorizedMlp, ForgetScope, GateSpan, GatedMlp, GatedResidualMlp, GradientBase,
    GradientDescent, Huber, HuberForm, Kl, L2, L2Retention, L2Scale, LearningAlgorithm, LevelError,
    Lp, Lq, Matrix, MemoryArchitecture, MemoryConfig, MemoryDescriptor, MirasConfig, Mlp, Momentum,
    NewtonSchulz, NewtonSchulzSchedule, NoRetention, NormalisedStep, Params, Preset, Products,
    Reduction, RetentionGate, RetentionTarget, RowNorm, SparseChannelMlp, SparseGate,
    SurpriseSigmoid, SwiGluMlp, UpdateConfig, Wrap,
};
// The memory, its state, and what is handed to it.
#[doc(inline)]
pub use titans_core::{
    DecayOrder, DeltaChunk, DeltaResult, Form, GateValues, HostState, InputError, MemoryState,
    NeuralMemory, Passed, ReadTime, Reading, SparseDelta, StateDelta, StateError, StateRole,
    StateTensor, Tail, TokenGates, Tokens, UpdateCoefficients, UpdatePlan, WriteReport,
    delta_chunk,
};
// What computes it, for those who bring operations of their own.
#[doc(inline)]
pub use titans_core::{
    ActiveChannels, Changes, DenseLearned, DenseOps, DenseRule, DenseTokens, DenseUpdated,
    Expansion, HostOps, LARGEST_RELATIVE_ERROR, MemoryOps, RoundedHostOps, TensorOps, WriteRule,
    Written, relative_error, top_k_into,
};
