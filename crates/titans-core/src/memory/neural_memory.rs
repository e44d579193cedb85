//! The memory itself: its frozen parameters, its rules, and the states that it begins with.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::config::MemoryConfig;
use super::evaluation::in_blocks;
use super::host_state::HostState;
use super::plan::{Engine, UpdatePlan};
use super::rules::Rules;
use super::state::MemoryState;
use crate::error::{ConfigError, StateError};
use crate::miras::{MemoryArchitecture, Start};
use crate::ops::{Expansion, HostOps, MemoryOps};

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
/// let report = memory.write(&mut state, key.clone(), value.clone())?;
/// assert_eq!(report.tokens_written, 1);
///
/// let error = (memory.read(&state, key.clone()) - value.clone()).abs().max();
/// assert!(error.into_scalar::<f32>() < 1e-5);
///
/// // Known by now: not written again.
/// assert_eq!(memory.write(&mut state, key, value)?.tokens_written, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct NeuralMemory {
    pub(super) rules: Arc<Rules>,
    pub(super) device: Device,
    /// The frozen expansion `[key_dim, channels]` of a sparse memory.
    pub(super) expansion: Option<Expansion>,
}

impl NeuralMemory {
    /// Builds the memory with the operations that suit every device.
    ///
    /// # Errors
    /// A configuration whose sizes or numbers lie outside what the equations allow; or an
    /// environment variable `TITANMEM_SIMD` that is no level of vectors of this machine.
    pub fn new(config: MemoryConfig, device: &Device) -> Result<Self, ConfigError> {
        Self::with_ops(config, device, Arc::new(HostOps))
    }

    /// Builds the memory with operations of the caller's choice, for example
    /// [`TensorOps`](crate::TensorOps), the reference.
    ///
    /// # Errors
    /// As [`new`](Self::new); and a surprise threshold of a dense memory that is finer than
    /// rounded products [can tell](crate::Products::least_surprise_threshold).
    pub fn with_ops(
        config: MemoryConfig,
        device: &Device,
        ops: Arc<dyn MemoryOps>,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        titans_cpu::simd_level()?;
        let expansion = match config.miras.architecture {
            MemoryArchitecture::SparseChannelMlp(mlp) => {
                Some(Expansion::new(mlp.expansion_tensor(
                    config.key_dim,
                    mlp.frozen_expansion(config.key_dim, config.seed),
                    device,
                )))
            }
            _ => None,
        };
        let rules = Rules::new(config, ops, device);
        if let (Engine::Dense(rule), Some(dense)) = (&rules.plan.engine, rules.ops.dense(device)) {
            let threshold = rule.surprise_threshold;
            if threshold != 0.0 && threshold < dense.products().least_surprise_threshold() {
                return Err(ConfigError::OutOfRange {
                    name: "surprise_threshold",
                    value: threshold.into(),
                    expected: "0, or with products in bf16 at least 2^-5, in f16 at least 2^-8",
                });
            }
        }
        Ok(Self {
            device: device.clone(),
            expansion,
            rules: Arc::new(rules),
        })
    }

    /// The configuration that this memory was built from.
    pub fn config(&self) -> &MemoryConfig {
        &self.rules.config
    }

    /// The device on which it computes.
    pub fn device(&self) -> Device {
        self.device.clone()
    }

    /// What computes its updates, chosen when it was built.
    pub fn plan(&self) -> UpdatePlan {
        self.rules.plan.summary()
    }

    /// Whether a [`pass`](Self::pass) may solve the delta rule exactly, in chunks.
    pub(crate) fn solves_delta_rule(&self) -> bool {
        self.rules.plan.solves_delta_rule
    }

    /// Whether a write is made in the state's own tensors where nobody shares them, so that
    /// [`MemoryState::catch_up`] saves allocations: on the CPU, memories that are written row
    /// by row.
    pub fn writes_in_place(&self) -> bool {
        matches!(self.rules.plan.engine, Engine::Rows(_)) && self.device == Device::flex()
    }

    /// What the seed fixes, in host memory: the frozen expansion of a sparse memory, or
    /// the initial weights of the others, tensor after tensor in row-major order.
    ///
    /// A file stores their digest, so that a state is never read with another expansion.
    pub fn frozen_parameters(&self) -> Vec<f32> {
        let config = self.config();
        match config.miras.architecture {
            MemoryArchitecture::SparseChannelMlp(mlp) => {
                mlp.frozen_expansion(config.key_dim, config.seed)
            }
            _ => self.seeded_weights().concat(),
        }
    }

    /// A memory that knows nothing: the weights that the seed gives.
    pub fn initial_state(&self) -> MemoryState {
        let tensors = self
            .rules
            .tensors
            .iter()
            .zip(self.seeded_weights())
            .map(|(spec, values)| {
                Tensor::from_data(
                    TensorData::new(values, [spec.rows, spec.columns]),
                    &self.device,
                )
            })
            .collect();
        self.state_from_tensors(tensors)
    }

    /// A memory that begins with other tensors than the seed's, for example learned ones.
    ///
    /// They are what the retention gate accumulates: the weights themselves for most
    /// gates, their logarithms for `kl`. Their element type is that of all that follows.
    ///
    /// # Shapes
    /// - `tensors`: those of [`MemoryState::tensors`], `[rows, columns]` each
    ///
    /// # Panics
    /// If the shapes are not those of the architecture.
    pub fn state_from_tensors(&self, tensors: Vec<Tensor<2>>) -> MemoryState {
        let expected: Vec<[usize; 2]> = self
            .rules
            .tensors
            .iter()
            .map(|spec| [spec.rows, spec.columns])
            .collect();
        let found: Vec<[usize; 2]> = tensors.iter().map(Tensor::dims).collect();
        assert_eq!(
            found, expected,
            "tensors are {found:?}, expected {expected:?}"
        );
        let accumulators = tensors
            .into_iter()
            .map(|tensor| tensor.unsqueeze_dim(0))
            .collect();
        MemoryState::new(self.rules.clone(), self.rules.begin(accumulators))
    }

    /// The state that [`MemoryState::to_host`] copied, bit for bit.
    ///
    /// # Errors
    /// [`StateError`] when a tensor or a scalar of this configuration is missing, of another
    /// shape or not finite, or when there is one that this configuration does not have.
    pub fn state_from_host(&self, host: HostState) -> Result<MemoryState, StateError> {
        MemoryState::from_host(&self.rules, host, &self.device)
    }

    /// What the learned tensors see of keys: themselves, or the features of a frozen,
    /// sparse expansion.
    pub(super) fn lift(&self, keys: Tensor<3>) -> Tensor<3> {
        match (&self.expansion, self.config().miras.architecture) {
            (Some(expansion), MemoryArchitecture::SparseChannelMlp(mlp)) => {
                let expansion = expansion.tensor().clone().cast(keys.dtype());
                in_blocks(keys, |keys| mlp.features(keys, expansion.clone()))
            }
            _ => keys,
        }
    }

    fn seeded_weights(&self) -> Vec<Vec<f32>> {
        let mut words = ChaCha8Rng::seed_from_u64(self.config().seed);
        let specs = self.rules.tensors.iter();
        specs
            .map(|spec| match spec.start {
                Start::Zero => vec![0.0; spec.len()],
                Start::Random => {
                    let scale = self.config().miras.retention_gate.initial_scale();
                    let bound = scale * (3.0 / spec.rows as f32).sqrt();
                    (0..spec.len())
                        .map(|_| {
                            let unit = (words.next_u32() >> 8) as f32 / (1u32 << 24) as f32;
                            (2.0 * unit - 1.0) * bound
                        })
                        .collect()
                }
            })
            .collect()
    }

    pub(super) fn check_shapes(&self, keys: [usize; 3], values: [usize; 3]) {
        let [memories, tokens, key_dim] = keys;
        let [value_memories, value_tokens, value_dim] = values;
        check_width("keys", [tokens, key_dim], self.config().key_dim);
        check_width("values", [value_tokens, value_dim], self.config().value_dim);
        assert_eq!(
            tokens, value_tokens,
            "keys have {tokens} tokens, values have {value_tokens}"
        );
        check_memories(value_memories, memories);
    }
}

pub(super) fn check_width(name: &str, [tokens, width]: [usize; 2], expected: usize) {
    assert_eq!(
        width, expected,
        "{name} are [{tokens}, {width}], expected [{tokens}, {expected}]"
    );
}

pub(super) fn check_memories(found: usize, expected: usize) {
    assert_eq!(
        found, expected,
        "{found} memories for {expected} in the batch"
    );
}
