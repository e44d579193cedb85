//! The neural memory of a layer: projections, gates, memory, output.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::closed_form::{CHUNK, Writes, write_and_read};
use super::{
    DenseProjection, GateHeads, GateKind, GateNoise, Initial, ProjectionState, Reads, WinnerKeys,
    WinnerKeysConfig, WriteGate, WriteGateConfig, WriteGates, project,
};
use crate::error::{ConfigError, InputError, at_least_one};
use crate::memory::{
    Form, MemoryConfig, MemoryState, NeuralMemory, ReadTime, Reading, Tail, Tokens,
};
use crate::miras::{LearningAlgorithm, RetentionGate};

/// What a token's key is told apart by, and what the memory is to answer there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Key and value of the same token.
    #[default]
    Same,
    /// The key of a token with the value of the next: the memory answers with what comes
    /// (a lookahead target, FwPKM, arXiv:2601.00671).
    Next,
}

/// How keys are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeyConfig {
    /// [`DenseProjection`], with gates from [`GateHeads`]: any memory.
    Dense {
        /// Tokens that the convolutions see.
        kernel: usize,
        /// Largest step that the gate gives.
        largest_step: f32,
    },
    /// [`WinnerKeys`]: a delta memory without decay, whose step is its configuration's.
    Winners {
        /// Width of the two codes.
        code_dim: usize,
        /// Coordinates of a key that are not zero.
        active: usize,
        /// Seed of the frozen features.
        seed: u64,
    },
}

/// Sizes and choices of a [`NeuralMemoryBlock`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockConfig {
    /// Width of the rows.
    pub dim: usize,
    /// The memory, `key_dim` and `value_dim` among it.
    pub memory: MemoryConfig,
    /// How keys are made.
    pub keys: KeyConfig,
    /// What a key is paired with.
    pub target: Target,
    /// The write gate; without one, every token is written.
    pub write_gate: Option<WriteGateConfig>,
    /// In training, how many tokens of a piece take part in the closed form at least: those
    /// that are written, and closed ones nearest to it, which get their gradient so. All
    /// others get none.
    pub gathered: usize,
}

/// A memory between an input and an output projection.
#[derive(Module, Debug)]
pub struct NeuralMemoryBlock {
    dense: Option<DenseProjection>,
    heads: Option<GateHeads>,
    winners: Option<WinnerKeys>,
    values: Option<Param<Tensor<2>>>,
    write_gate: Option<WriteGate>,
    output: Param<Tensor<2>>,
    #[module(skip)]
    memory: NeuralMemory,
    #[module(skip)]
    config: BlockConfig,
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
                let is_plain = config.memory.is_linear_delta()
                    && config.memory.is_row_memory()
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
    fn delay(&self, rows: Tensor<3>, state: &mut BlockState) -> Tensor<3> {
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

    /// A delta memory without decay: only what the gate lets through is looked at.
    fn gathered(
        &self,
        winners: &WinnerKeys,
        rows: Tensor<3>,
        state: &mut BlockState,
        reads: &Reads,
        gates: Option<&WriteGates>,
    ) -> Result<(Tensor<3>, Vec<usize>), InputError> {
        let [batch, tokens, _] = rows.dims();
        let key_rows = self.delay(rows.clone(), state);
        let trains = rows.is_autodiff();
        let (positions, written, at_once) = self.written_positions([batch, tokens], gates, trains);
        let read_at: Vec<Vec<usize>> = match reads {
            Reads::All => vec![(0..tokens).collect(); batch],
            Reads::Nothing => vec![Vec::new(); batch],
            Reads::At(positions) => positions.clone(),
        };
        let queries = winners.forward(reads.pick(rows.clone()));
        if !at_once {
            let key_rows = (&key_rows, &rows);
            let read =
                self.token_by_token(winners, key_rows, state, &positions, (queries, &read_at))?;
            return Ok((read, written));
        }
        let at = Reads::At(positions.clone());
        let step = self.config.memory.miras.learning_algorithm.step_size();
        let open = match gates {
            Some(gates) => gates.open.clone().unsqueeze_dim::<3>(2),
            None => Tensor::ones([batch, tokens, 1], (&rows.device().inner(), rows.dtype())),
        };
        let [_, count, _] = at.pick(open.clone()).dims();
        let values = self.values.as_ref().expect("winner keys have values").val();
        let writes = Writes {
            keys: winners.forward(at.pick(key_rows)),
            values: project(at.pick(rows), values),
            step_size: at.pick(open).reshape([batch, count]) * step,
            positions,
        };
        if !trains {
            writes.check_finite()?;
        }
        let weights: Vec<Tensor<3>> = (state.memories.iter())
            .map(|memory| memory.tensors().remove(0).unsqueeze_dim(0))
            .collect();
        let (weights, read) = write_and_read(Tensor::cat(weights, 0), writes, queries, &read_at);
        for (sequence, memory) in state.memories.iter_mut().enumerate() {
            let of_one = weights.clone().narrow(0, sequence, 1).squeeze_dim(0);
            let mut after = self.memory.state_from_tensors(vec![of_one]);
            after.tokens_seen = memory.tokens_seen + tokens as u64;
            after.tokens_written = memory.tokens_written + written[sequence] as u64;
            *memory = after;
        }
        Ok((read, written))
    }

    /// The twin of the closed form, and the fast one when little is written: write what is
    /// written, read in between.
    fn token_by_token(
        &self,
        winners: &WinnerKeys,
        (key_rows, rows): (&Tensor<3>, &Tensor<3>),
        state: &mut BlockState,
        positions: &[Vec<usize>],
        (queries, read_at): (Tensor<3>, &[Vec<usize>]),
    ) -> Result<Tensor<3>, InputError> {
        let [batch, tokens, _] = rows.dims();
        let [_, reads, _] = queries.dims();
        let values = self.values.as_ref().expect("winner keys have values").val();
        let before = state.memories.clone();
        let mut answers = Vec::with_capacity(batch);
        for sequence in 0..batch {
            let at = Reads::At(vec![positions[sequence].clone()]);
            let one = |rows: &Tensor<3>| at.pick(rows.clone().narrow(0, sequence, 1));
            let keys: Tensor<2> = winners.forward(one(key_rows)).squeeze_dim(0);
            let values: Tensor<2> = project(one(rows), values.clone()).squeeze_dim(0);
            let queries: Tensor<2> = queries.clone().narrow(0, sequence, 1).squeeze_dim(0);
            let memory = &mut state.memories[sequence];
            let seen = memory.tokens_seen;
            let (mut answered, mut parts) = (0, Vec::new());
            for (write, position) in positions[sequence].iter().enumerate() {
                let asked = read_at[sequence].partition_point(|at| at < position);
                if asked > answered {
                    let part = queries.clone().narrow(0, answered, asked - answered);
                    parts.push(self.memory.read(memory, part));
                    answered = asked;
                }
                let one = |rows: &Tensor<2>| rows.clone().narrow(0, write, 1);
                if let Err(error) = self.memory.write(memory, one(&keys), one(&values)) {
                    state.memories = before;
                    return Err(error);
                }
            }
            memory.tokens_seen = seen + tokens as u64;
            if reads > answered {
                let part = queries.narrow(0, answered, reads - answered);
                parts.push(self.memory.read(memory, part));
            }
            let width = self.config.memory.value_dim;
            answers.push(match parts.is_empty() {
                true => Tensor::zeros([1, 0, width], (&rows.device(), rows.dtype())),
                false => Tensor::cat(parts, 0).unsqueeze_dim::<3>(0),
            });
        }
        Ok(Tensor::cat(answers, 0))
    }

    /// Where the tokens stand that take part in the update, ascending, how many of them are
    /// written, and whether the closed form is to compute it: then they are equally many for
    /// each sequence.
    ///
    /// Few writes are faster one by one; a soft gate has strengths, which only the closed
    /// form knows.
    fn written_positions(
        &self,
        [batch, tokens]: [usize; 2],
        gates: Option<&WriteGates>,
        trains: bool,
    ) -> (Vec<Vec<usize>>, Vec<usize>, bool) {
        let Some(gates) = gates else {
            let all = vec![(0..tokens).collect(); batch];
            return (all, vec![tokens; batch], trains || tokens > CHUNK);
        };
        let ranked: Vec<&[f32]> = gates.ranks.chunks_exact(tokens.max(1)).collect();
        let is_open = |rank: f32| rank > 0.0;
        let written: Vec<usize> = (ranked.iter())
            .map(|ranks| ranks.iter().filter(|rank| is_open(**rank)).count())
            .collect();
        let is_soft = matches!(self.config.write_gate, Some(gate) if gate.kind == GateKind::Soft);
        let at_once = trains || is_soft || written.iter().any(|count| *count > CHUNK);
        let least = match trains {
            true => self.config.gathered.min(tokens),
            false => 0,
        };
        let count = written.iter().copied().max().unwrap_or(0).max(least);
        let positions = (ranked.iter().zip(&written))
            .map(|(ranks, written)| {
                let wanted = if at_once { count } else { *written };
                let mut order: Vec<usize> = (0..tokens).collect();
                order.sort_by(|a, b| ranks[*b].total_cmp(&ranks[*a]));
                order.truncate(wanted);
                order.sort_unstable();
                order
            })
            .collect();
        (positions, written, at_once)
    }
}
