//! What goes into a memory: keys, values, and what the gates say of each token.

use burn::tensor::{Int, Tensor, TensorData};

use super::config::MemoryConfig;
use crate::error::InputError;
use crate::ops::{HostTensor, host_floats};

/// Tokens for a batch of memories, one row of the batch for each memory.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// `[memories, tokens, key_dim]`.
    pub keys: Tensor<3>,
    /// `[memories, tokens, value_dim]`.
    pub values: Tensor<3>,
    /// Learned gates, in place of the constants of the configuration.
    pub gates: TokenGates,
}

impl Tokens {
    /// Tokens under the constants of the configuration.
    pub fn new(keys: Tensor<3>, values: Tensor<3>) -> Self {
        Self {
            keys,
            values,
            gates: TokenGates::default(),
        }
    }
}

/// Gates from outside; what is absent is the constant of the configuration.
#[derive(Clone, Debug, Default)]
pub struct TokenGates {
    /// Weight of each token's gradient, `>= 0`.
    pub step_size: Option<GateValues>,
    /// Kept fraction of the first momentum buffer, `0 ..= 1`.
    pub momentum_decay: Option<GateValues>,
    /// Kept fraction of the second momentum buffer, `0 ..= 1`.
    pub second_momentum_decay: Option<GateValues>,
    /// Kept fraction of the weights, `0 ..= 1`; also replaces a retention that the
    /// configuration would compute from the surprise.
    pub retention: Option<GateValues>,
    /// Threshold of a Huber loss, over 0.
    pub error_threshold: Option<GateValues>,
}

/// One gate of a batch of memories.
#[derive(Clone, Debug)]
pub enum GateValues {
    /// `[memories, tokens]`.
    PerToken(Tensor<2>),
    /// `[memories, updates]`, one column for every update that these tokens fall into,
    /// including one that earlier tokens have begun and one that later ones will finish.
    PerUpdate(Tensor<2>),
}

/// Tokens whose gates are all per token, as an update takes them and as a state keeps
/// them while an update is unfinished.
#[derive(Clone, Debug)]
pub(crate) struct GatedTokens {
    /// `[memories, tokens, key_dim]`.
    pub(crate) keys: Tensor<3>,
    /// `[memories, tokens, value_dim]`.
    pub(crate) values: Tensor<3>,
    /// `[memories, tokens]` each; absent where the configuration decides.
    pub(crate) gates: [Option<Tensor<2>>; GATES],
}

/// How many gates there are.
pub(crate) const GATES: usize = 5;
pub(crate) const STEP_SIZE: usize = 0;
pub(crate) const MOMENTUM_DECAY: usize = 1;
pub(crate) const SECOND_MOMENTUM_DECAY: usize = 2;
pub(crate) const RETENTION: usize = 3;
pub(crate) const ERROR_THRESHOLD: usize = 4;
/// Names of the gates in files and errors.
pub(crate) const GATE_NAMES: [&str; GATES] = [
    "step_size",
    "momentum_decay",
    "second_momentum_decay",
    "retention",
    "error_threshold",
];

impl GatedTokens {
    /// Brings every gate to one value per token.
    ///
    /// `begun` tokens of the current update came before these.
    pub(crate) fn resolve(tokens: Tokens, begun: usize, update_size: usize) -> Self {
        let [_, count, _] = tokens.keys.dims();
        let TokenGates {
            step_size,
            momentum_decay,
            second_momentum_decay,
            retention,
            error_threshold,
        } = tokens.gates;
        let gates = [
            step_size,
            momentum_decay,
            second_momentum_decay,
            retention,
            error_threshold,
        ];
        Self {
            keys: tokens.keys,
            values: tokens.values,
            gates: gates
                .map(|gate| gate.map(|values| per_token(values, count, begun, update_size))),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.dims()[1]
    }

    /// The same tokens for memories side by side, `None` if there are none.
    ///
    /// The memories must hold equally many tokens; a gate that only some of them have
    /// does not occur, because the gates of a call are those of all its memories.
    pub(crate) fn stack<'a>(memories: impl Iterator<Item = Option<&'a Self>>) -> Option<Self> {
        let all: Vec<&Self> = memories.collect::<Option<_>>()?;
        let gate = |index: usize| {
            let values: Option<Vec<Tensor<2>>> =
                all.iter().map(|m| m.gates[index].clone()).collect();
            values.map(|values| Tensor::cat(values, 0))
        };
        Some(Self {
            keys: Tensor::cat(all.iter().map(|m| m.keys.clone()).collect(), 0),
            values: Tensor::cat(all.iter().map(|m| m.values.clone()).collect(), 0),
            gates: std::array::from_fn(gate),
        })
    }

    /// The tokens of one memory.
    pub(crate) fn memory(&self, memory: usize) -> Self {
        Self {
            keys: self.keys.clone().narrow(0, memory, 1),
            values: self.values.clone().narrow(0, memory, 1),
            gates: self
                .gates
                .clone()
                .map(|gate| gate.map(|values| values.narrow(0, memory, 1))),
        }
    }

    /// The tokens of a range.
    pub(crate) fn range(&self, start: usize, end: usize) -> Self {
        Self {
            keys: self.keys.clone().narrow(1, start, end - start),
            values: self.values.clone().narrow(1, start, end - start),
            gates: self
                .gates
                .clone()
                .map(|gate| gate.map(|values| values.narrow(1, start, end - start))),
        }
    }

    /// These tokens, then `later` ones. A gate that only one part has is filled up with
    /// the constant of the configuration.
    pub(crate) fn then(self, later: Self, config: &MemoryConfig) -> Self {
        let (count, later_count) = (self.len(), later.len());
        let mut index = 0;
        let mut later_gates = later.gates.into_iter();
        let gates = self.gates.map(|gate| {
            let later_gate = later_gates.next().flatten();
            let constant = constant_gate(config, index);
            index += 1;
            match (gate, later_gate) {
                (None, None) => None,
                (gate, later_gate) => {
                    let like = gate.clone().or(later_gate.clone())?;
                    let filled = |gate: Option<Tensor<2>>, count: usize| {
                        gate.unwrap_or_else(|| constant_like(&like, count, constant))
                    };
                    Some(Tensor::cat(
                        vec![filled(gate, count), filled(later_gate, later_count)],
                        1,
                    ))
                }
            }
        });
        Self {
            keys: Tensor::cat(vec![self.keys, later.keys], 1),
            values: Tensor::cat(vec![self.values, later.values], 1),
            gates,
        }
    }

    /// These tokens and as many zero keys and values as fill up to `count`.
    pub(crate) fn pad_to(self, count: usize, config: &MemoryConfig) -> Self {
        let missing = count - self.len();
        if missing == 0 {
            return self;
        }
        let [memories, _, key_dim] = self.keys.dims();
        let [_, _, value_dim] = self.values.dims();
        let options = (&self.keys.device(), self.keys.dtype());
        let empty = Self {
            keys: Tensor::zeros([memories, missing, key_dim], options),
            values: Tensor::zeros([memories, missing, value_dim], options),
            gates: Default::default(),
        };
        self.then(empty, config)
    }

    /// The first number that is NaN or infinite.
    pub(crate) fn check_finite(&self) -> Result<(), InputError> {
        let [_, tokens, _] = self.keys.dims();
        check("keys", &self.keys, tokens)?;
        check("values", &self.values, tokens)?;
        for (name, gate) in GATE_NAMES.into_iter().zip(&self.gates) {
            if let Some(values) = gate {
                check(name, values, tokens)?;
            }
        }
        Ok(())
    }
}

/// The constant that stands for an absent gate.
fn constant_gate(config: &MemoryConfig, gate: usize) -> f32 {
    let decays = config.miras.learning_algorithm.momentum_decays();
    match gate {
        STEP_SIZE => config.miras.learning_algorithm.step_size(),
        MOMENTUM_DECAY => decays.first().copied().unwrap_or(1.0),
        SECOND_MOMENTUM_DECAY => decays.get(1).copied().unwrap_or(1.0),
        RETENTION => config.miras.retention_gate.constant(),
        _ => config.miras.attentional_bias.constant_threshold(),
    }
}

fn constant_like(like: &Tensor<2>, count: usize, value: f32) -> Tensor<2> {
    let [memories, _] = like.dims();
    Tensor::full([memories, count], value, (&like.device(), like.dtype()))
}

fn per_token(values: GateValues, count: usize, begun: usize, update_size: usize) -> Tensor<2> {
    match values {
        GateValues::PerToken(values) => {
            let [memories, tokens] = values.dims();
            assert_eq!(
                tokens, count,
                "a gate is [{memories}, {tokens}], expected [{memories}, {count}]"
            );
            values
        }
        GateValues::PerUpdate(values) => {
            let [memories, updates] = values.dims();
            let expected = if count == 0 {
                updates
            } else {
                (begun + count).div_ceil(update_size) - begun / update_size
            };
            assert_eq!(
                updates, expected,
                "a gate is [{memories}, {updates}], expected [{memories}, {expected}]"
            );
            let update_of: Vec<i32> = (0..count)
                .map(|token| ((begun + token) / update_size) as i32)
                .collect();
            let indices: Tensor<1, Int> =
                Tensor::from_data(TensorData::new(update_of, [count]), &values.device());
            values.select(1, indices)
        }
    }
}

fn check<const D: usize>(
    what: &'static str,
    tensor: &Tensor<D>,
    tokens: usize,
) -> Result<(), InputError> {
    if let Some(numbers) = HostTensor::try_new(tensor.clone())
        && titans_cpu::all_finite(numbers.numbers())
    {
        return Ok(());
    }
    let values = host_floats(tensor.clone());
    let Some(index) = values.iter().position(|value| !value.is_finite()) else {
        return Ok(());
    };
    let memories = tensor.dims()[0];
    let per_token = values.len() / (memories * tokens);
    Err(InputError::NotFinite {
        what,
        memory: index / (tokens * per_token),
        token: index / per_token % tokens,
    })
}
