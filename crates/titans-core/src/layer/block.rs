//! The neural memory of a layer: projections, gates, memory, output.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::{
    BlockConfig, DenseProjection, GateHeads, GateNoise, Initial, KeyConfig, ProjectionState, Reads,
    Target, WinnerKeys, WinnerKeysConfig, WriteGate, WriteGates, project,
};
use crate::error::{ConfigError, InputError, at_least_one};
use crate::memory::{Form, MemoryState, NeuralMemory, ReadTime, Reading, Tail, Tokens};
use crate::miras::{LearningAlgorithm, RetentionGate};

/// A memory between an input and an output projection.
#[derive(Module, Debug)]
pub struct NeuralMemoryBlock {
    dense: Option<DenseProjection>,
    heads: Option<GateHeads>,
    winners: Option<WinnerKeys>,
    pub(super) values: Option<Param<Tensor<2>>>,
    write_gate: Option<WriteGate>,
    output: Param<Tensor<2>>,
    #[module(skip)]
    pub(super) memory: NeuralMemory,
    #[module(skip)]
    pub(super) config: BlockConfig,
}

/// What a block carries from piece to piece, for a batch of sequences.
#[derive(Clone, Debug)]
pub struct BlockState {
    /// One memory for each sequence.
    pub memories: Vec<MemoryState>,
    pub(super) projection: Option<ProjectionState>,
    /// The last row or key, where keys are paired with the next value, `[batch, 1, width]`.
    pub(super) delayed: Option<Tensor<3>>,
    pub(super) position: u64,
}

/// What a piece gave.
#[derive(Clone, Debug)]
pub struct BlockOutput {
    /// `[batch, reads, dim]`.
    pub retrieved: Tensor<3>,
    /// What the write gate said, if there is one.
    pub gates: Option<WriteGates>,
    /// Tokens written to each memory.
    pub written: Vec<usize>,
}

impl NeuralMemoryBlock {
    /// # Errors
    /// A size of zero, a memory whose configuration is wrong, or winner keys for a memory
    /// that is not the delta rule without decay.
    pub fn new(config: BlockConfig, initial: &mut Initial) -> Result<Self, ConfigError> {
        at_least_one("block.dim", config.dim)?;
        let memory = NeuralMemory::new(config.memory, &initial.device())?;
        let (key_dim, value_dim) = (config.memory.key_dim, config.memory.value_dim);
        let algorithm = config.memory.miras.learning_algorithm;
        let mut block = Self {
            dense: None,
            heads: None,
            winners: None,
            values: None,
            write_gate: None,
            output: initial.matrix(value_dim, config.dim, 1.0),
            memory,
            config,
        };
        match config.keys {
            KeyConfig::Dense {
                kernel,
                largest_step,
            } => {
                at_least_one("block.kernel", kernel)?;
                let widths = [key_dim, value_dim];
                block.dense = Some(DenseProjection::new(config.dim, widths, kernel, initial));
                let has_momentum = !algorithm.momentum_decays().is_empty();
                let decays = !matches!(config.memory.miras.retention_gate, RetentionGate::None(_));
                block.heads = Some(GateHeads::new(
                    config.dim,
                    largest_step,
                    (has_momentum, decays),
                    initial,
                ));
            }
            KeyConfig::Winners {
                code_dim,
                active,
                seed,
            } => {
                let is_plain = block.memory.solves_delta_rule()
                    && matches!(algorithm, LearningAlgorithm::GradientDescent(_))
                    && matches!(config.memory.miras.retention_gate, RetentionGate::None(_));
                if !is_plain {
                    return Err(ConfigError::OutOfRange {
                        name: "block.memory",
                        value: f64::from(algorithm.step_size()),
                        expected: "a matrix under the delta rule without decay, for winner keys",
                    });
                }
                let winners = WinnerKeysConfig {
                    dim: config.dim,
                    code_dim,
                    rows: key_dim,
                    active,
                    seed,
                };
                block.winners = Some(WinnerKeys::new(winners, initial)?);
                block.values = Some(initial.matrix(config.dim, value_dim, 1.0));
            }
        }
        block.write_gate = config
            .write_gate
            .map(|gate| WriteGate::new(config.dim, gate, initial));
        Ok(block)
    }

    /// Puts these projections of values, `[dim, value_dim]`, and of what is read,
    /// `[value_dim, dim]`, in place of random ones.
    pub fn set_value_projections(&mut self, values: Tensor<2>, output: Tensor<2>) {
        self.values = self.values.take().map(|_| Param::from_tensor(values));
        self.output = Param::from_tensor(output);
    }

    /// Projections of keys, values and what is read stay as they are in training.
    pub fn freeze_projections(&mut self) {
        self.dense = self.dense.take().map(Module::no_grad);
        self.winners = self.winners.take().map(Module::no_grad);
        self.values = self.values.take().map(Module::no_grad);
        self.output = self.output.clone().no_grad();
    }

    /// The write gate, if there is one.
    pub fn write_gate_mut(&mut self) -> Option<&mut WriteGate> {
        self.write_gate.as_mut()
    }

    /// The winner keys, if that is what the configuration has.
    pub fn winners_mut(&mut self) -> Option<&mut WinnerKeys> {
        self.winners.as_mut()
    }

    /// The winner keys, if that is what the configuration has.
    pub fn winners(&self) -> Option<&WinnerKeys> {
        self.winners.as_ref()
    }

    /// Values of rows, as they are written.
    ///
    /// # Shapes
    /// - `rows`: `[batch, tokens, dim]`; `None` for dense projections
    pub fn values_of(&self, rows: Tensor<3>) -> Option<Tensor<3>> {
        let values = self.values.as_ref()?;
        Some(project(rows, values.val()))
    }

    /// The sizes and choices.
    pub fn config(&self) -> &BlockConfig {
        &self.config
    }

    /// The memory, for states of one's own.
    pub fn memory(&self) -> &NeuralMemory {
        &self.memory
    }

    /// Memories that know nothing, before the first token.
    pub fn initial_state(&self, batch: usize) -> BlockState {
        let width = match self.config.keys {
            KeyConfig::Dense { .. } => self.config.memory.key_dim,
            KeyConfig::Winners { .. } => self.config.dim,
        };
        BlockState {
            memories: vec![self.memory.initial_state(); batch],
            projection: self.dense.as_ref().map(|dense| dense.initial_state(batch)),
            delayed: (self.config.target == Target::Next)
                .then(|| Tensor::zeros([batch, 1, width], &self.memory.device())),
            position: 0,
        }
    }

    /// Reads with rows that stand in no stream; nothing is written.
    ///
    /// # Shapes
    /// - `rows`: `[batch, tokens, dim]`
    /// - returns: `[batch, tokens, dim]`
    pub fn read(&self, rows: Tensor<3>, memories: &[MemoryState]) -> Tensor<3> {
        let queries = match (&self.dense, &self.winners) {
            (Some(dense), _) => dense.queries_alone(rows),
            (None, Some(winners)) => winners.forward(rows),
            (None, None) => unreachable!("a block has keys"),
        };
        project(self.memory.read_batch(memories, queries), self.output.val())
    }

    /// Writes a piece of a stream and reads beside it: the query of a token is answered by
    /// the memory after that token's own write.
    ///
    /// # Shapes
    /// - `rows`: `[batch, tokens, dim]`
    ///
    /// # Errors
    /// [`InputError`] when a number is not finite.
    ///
    /// # Panics
    /// If `reads` are not positions of this piece, or the batch is not that of the state.
    pub fn advance(
        &self,
        rows: Tensor<3>,
        state: &mut BlockState,
        reads: &Reads,
        noise: Option<&mut GateNoise>,
    ) -> Result<BlockOutput, InputError> {
        let [batch, tokens, _] = rows.dims();
        assert_eq!(
            batch,
            state.memories.len(),
            "{batch} sequences for {} memories",
            state.memories.len()
        );
        let gates = (self.write_gate.as_ref())
            .map(|gate| gate.forward(rows.clone(), noise))
            .map(|gates| self.first_has_no_key(gates, state.position));
        let (retrieved, written) = match (&self.dense, &self.winners) {
            (Some(dense), _) => {
                let all = self.pass(dense, rows, state, gates.as_ref())?;
                (reads.pick(all.0), all.1)
            }
            (None, Some(winners)) => self.gathered(winners, rows, state, reads, gates.as_ref())?,
            (None, None) => unreachable!("a block has keys"),
        };
        state.position += tokens as u64;
        Ok(BlockOutput {
            retrieved: project(retrieved, self.output.val()),
            gates,
            written,
        })
    }

    /// The first token of a text has no token before it whose key it could stand under.
    fn first_has_no_key(&self, gates: WriteGates, position: u64) -> WriteGates {
        let [batch, tokens] = gates.open.dims();
        if self.config.target == Target::Same || position > 0 || tokens == 0 {
            return gates;
        }
        let options = (&gates.open.device().inner(), gates.open.dtype());
        let closed: Tensor<2> = Tensor::zeros([batch, 1], options);
        let mut ranks = gates.ranks;
        (ranks.iter_mut().step_by(tokens)).for_each(|rank| *rank = f32::NEG_INFINITY);
        WriteGates {
            open: match tokens {
                1 => closed,
                _ => Tensor::cat(vec![closed, gates.open.narrow(1, 1, tokens - 1)], 1),
            },
            logits: gates.logits,
            ranks,
        }
    }

    /// Rows or keys, each one token later.
    pub(super) fn delay(&self, rows: Tensor<3>, state: &mut BlockState) -> Tensor<3> {
        let [_, tokens, _] = rows.dims();
        match state.delayed.take() {
            None => rows,
            Some(last) => {
                let all = Tensor::cat(vec![last, rows], 1);
                state.delayed = Some(all.clone().narrow(1, tokens, 1));
                all.narrow(1, 0, tokens)
            }
        }
    }

    /// Any memory: every token goes through the update, a closed gate makes its step zero.
    fn pass(
        &self,
        dense: &DenseProjection,
        rows: Tensor<3>,
        state: &mut BlockState,
        gates: Option<&WriteGates>,
    ) -> Result<(Tensor<3>, Vec<usize>), InputError> {
        let projection = state.projection.as_mut().expect("a dense block has tails");
        let [queries, keys, values] = dense.forward(rows.clone(), projection);
        let keys = self.delay(keys, state);
        let heads = self.heads.as_ref().expect("a dense block has gates");
        let tokens = Tokens {
            gates: heads.forward(rows, gates.map(|gates| gates.open.clone())),
            ..Tokens::new(keys, values)
        };
        let reading = Reading {
            queries,
            when: ReadTime::Token,
        };
        let passed = self.memory.pass(
            &mut state.memories,
            tokens,
            Some(reading),
            Tail::Hold,
            Form::Chunkwise,
        )?;
        let retrieved = passed.retrieved.expect("there were queries");
        Ok((retrieved, passed.tokens_written))
    }
}
