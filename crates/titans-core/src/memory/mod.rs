//! The memory itself: read, write, and what a write reports.

mod config;
mod state;

pub use config::MemoryConfig;
pub use state::{HostState, MemoryState, StateRole, StateTensor, WriteReport};

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::{ConfigError, StateError};
use crate::miras::{LearningAlgorithm, MemoryArchitecture};
use crate::ops::{ActiveChannels, HostOps, MemoryOps, WriteRule};

/// Tokens whose activations exist at once.
///
/// At 8192 channels a block is 4 MB: wide enough for the matrix product to run at speed,
/// small enough to stay near the cache. The numbers do not depend on it.
const BLOCK: usize = 128;

/// A neural memory: the frozen parameters and the rules; what is learned is a
/// [`MemoryState`].
///
/// One `NeuralMemory` serves any number of states, so the frozen part exists once however
/// many users there are. Cheap to clone.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use titans_core::{NeuralMemory, Preset};
///
/// let device = Device::flex();
/// let memory = NeuralMemory::new(Preset::Sparse.config(), &device)?;
/// let mut state = memory.initial_state();
///
/// let key = Tensor::<2>::ones([1, 64], &device);
/// let value = Tensor::<2>::full([1, 64], 0.125, &device);
/// let report = memory.write(&mut state, key.clone(), value.clone());
/// assert_eq!(report.tokens_written, 1);
///
/// let error = (memory.read(&state, key.clone()) - value.clone()).abs().max();
/// assert!(error.into_scalar::<f32>() < 1e-5);
///
/// // Known by now: not written again.
/// assert_eq!(memory.write(&mut state, key, value).tokens_written, 0);
/// # Ok::<(), titans_core::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct NeuralMemory {
    config: MemoryConfig,
    expansion: Tensor<2>,
    ops: Arc<dyn MemoryOps>,
}

impl NeuralMemory {
    /// Builds the memory with the operations that suit every device.
    ///
    /// # Errors
    /// A configuration whose sizes or numbers lie outside what the equations allow.
    pub fn new(config: MemoryConfig, device: &Device) -> Result<Self, ConfigError> {
        Self::with_ops(config, device, Arc::new(HostOps))
    }

    /// Builds the memory with operations of the caller's choice, for example
    /// [`TensorOps`](crate::TensorOps), the reference.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_ops(
        config: MemoryConfig,
        device: &Device,
        ops: Arc<dyn MemoryOps>,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let MemoryArchitecture::SparseChannelMlp(mlp) = config.miras.architecture;
        let frozen = mlp.frozen_expansion(config.key_dim, config.seed);
        Ok(Self {
            config,
            expansion: mlp.expansion_tensor(config.key_dim, frozen, device),
            ops,
        })
    }

    /// The configuration that this memory was built from.
    pub fn config(&self) -> &MemoryConfig {
        &self.config
    }

    /// The device on which it computes.
    pub fn device(&self) -> Device {
        self.expansion.device()
    }

    /// The frozen parameters in host memory, `[key_dim, channels]` in row-major order.
    ///
    /// A file stores their digest, so that a state is never read with another expansion.
    pub fn frozen_parameters(&self) -> Vec<f32> {
        let MemoryArchitecture::SparseChannelMlp(mlp) = self.config.miras.architecture;
        mlp.frozen_expansion(self.config.key_dim, self.config.seed)
    }

    /// A memory that knows nothing: all weights zero.
    pub fn initial_state(&self) -> MemoryState {
        MemoryState::new(Tensor::zeros(self.config.weights_shape(), &self.device()))
    }

    /// The state that [`MemoryState::to_host`] copied, bit for bit.
    ///
    /// # Errors
    /// [`StateError`] when a tensor or a scalar of this configuration is missing, of another
    /// shape or not finite, or when there is one that this configuration does not have.
    pub fn state_from_host(&self, host: HostState) -> Result<MemoryState, StateError> {
        let shape = self.config.weights_shape();
        let mut tensors = host.tensors.into_iter();
        let found = tensors.next().ok_or_else(|| StateError::Missing {
            what: "tensor",
            name: state::WEIGHTS.to_owned(),
        })?;
        if found.name != state::WEIGHTS || found.role != StateRole::Weights {
            return Err(StateError::Unexpected {
                what: "tensor",
                name: found.name,
            });
        }
        if let Some(surplus) = tensors.next() {
            return Err(StateError::Unexpected {
                what: "tensor",
                name: surplus.name,
            });
        }
        if found.shape != shape || found.values.len() != shape[0] * shape[1] {
            return Err(StateError::Shape {
                name: found.name,
                expected: shape.to_vec(),
                found: found.shape,
            });
        }
        if let Some(index) = found.values.iter().position(|value| !value.is_finite()) {
            return Err(StateError::NotFinite {
                name: found.name,
                index,
            });
        }
        let mut scalars = host.scalars;
        let smoothed =
            scalars
                .remove(state::SMOOTHED_SURPRISE)
                .ok_or_else(|| StateError::Missing {
                    what: "scalar",
                    name: state::SMOOTHED_SURPRISE.to_owned(),
                })?;
        if let Some((name, _)) = scalars.pop_first() {
            return Err(StateError::Unexpected {
                what: "scalar",
                name,
            });
        }
        if !smoothed.is_finite() {
            return Err(StateError::NotFinite {
                name: state::SMOOTHED_SURPRISE.to_owned(),
                index: 0,
            });
        }
        let weights = Tensor::from_data(TensorData::new(found.values, shape), &self.device());
        Ok(MemoryState {
            smoothed_surprise: smoothed as f32,
            tokens_seen: host.tokens_seen,
            tokens_written: host.tokens_written,
            ..MemoryState::new(weights)
        })
    }

    /// Recalls: `M(query)` with the weights as they are, nothing is learned.
    ///
    /// # Shapes
    /// - `queries`: `[tokens, key_dim]`
    /// - returns: `[tokens, value_dim]`
    ///
    /// # Panics
    /// If `queries` are not `key_dim` wide.
    pub fn read(&self, state: &MemoryState, queries: Tensor<2>) -> Tensor<2> {
        let [tokens, _] = self.check_width("queries", &queries, self.config.key_dim);
        if tokens == 0 {
            return Tensor::zeros([0, self.config.value_dim], &self.device());
        }
        self.ops
            .read(&state.weights, &self.active_channels(queries))
    }

    /// Learns: writes the tokens that surprise the memory, in order, and nothing else.
    ///
    /// Token by token, each against the weights that the one before it left:
    ///
    /// ```text
    /// error_t    = value_t - f_t @ W
    /// surprise_t = ||error_t|| / ||value_t||
    /// W[j]       = retention_t * W[j] + step_size * f_tj * error_t     for active channels j,
    ///              if surprise_t > surprise_threshold
    /// ```
    ///
    /// This is the delta rule `W <- a W + step k (v - W k)` of Titans (arXiv:2501.00663,
    /// eq. 13-14, linear in the learned layer) with the decay confined to the written
    /// rows. Writing a stream in pieces of any length gives what one piece gives.
    ///
    /// # Shapes
    /// - `keys`: `[tokens, key_dim]`
    /// - `values`: `[tokens, value_dim]`
    ///
    /// # Panics
    /// If the widths are not those of the configuration, or keys and values disagree on
    /// `tokens`.
    pub fn write(
        &self,
        state: &mut MemoryState,
        keys: Tensor<2>,
        values: Tensor<2>,
    ) -> WriteReport {
        let [tokens, _] = self.check_width("keys", &keys, self.config.key_dim);
        let [value_tokens, _] = self.check_width("values", &values, self.config.value_dim);
        assert_eq!(
            tokens, value_tokens,
            "keys have {tokens} tokens, values have {value_tokens}"
        );
        if tokens == 0 {
            return WriteReport::default();
        }
        let written = self.ops.write(
            state.weights.clone(),
            state.smoothed_surprise,
            &self.active_channels(keys),
            values,
            &self.rule(),
        );
        state.weights = written.weights;
        state.smoothed_surprise = written.smoothed_surprise;
        state.tokens_seen += tokens as u64;
        state.tokens_written += written.tokens_written as u64;
        WriteReport {
            surprise: written.surprise,
            tokens_written: written.tokens_written,
            touched_channels: written.touched_channels,
        }
    }

    fn rule(&self) -> WriteRule {
        let LearningAlgorithm::NormalisedStep(step) = self.config.miras.learning_algorithm;
        WriteRule {
            step,
            retention_gate: self.config.miras.retention_gate,
        }
    }

    fn active_channels(&self, keys: Tensor<2>) -> ActiveChannels {
        let MemoryArchitecture::SparseChannelMlp(mlp) = self.config.miras.architecture;
        let [tokens, _] = keys.dims();
        let mut indices = Vec::new();
        let mut features = Vec::new();
        for start in (0..tokens).step_by(BLOCK) {
            let block = keys.clone().slice([start..tokens.min(start + BLOCK)]);
            let activations = block.matmul(self.expansion.clone());
            let active = self.ops.activate(activations, mlp.active_channels);
            indices.push(active.indices);
            features.push(active.features);
        }
        ActiveChannels {
            indices: Tensor::cat(indices, 0),
            features: Tensor::cat(features, 0),
        }
    }

    fn check_width(&self, name: &str, rows: &Tensor<2>, expected: usize) -> [usize; 2] {
        let [tokens, width] = rows.dims();
        assert_eq!(
            width, expected,
            "{name} are [{tokens}, {width}], expected [{tokens}, {expected}]"
        );
        [tokens, width]
    }
}
