//! The memory itself: read, write, and what a write reports.

mod advance;
mod chunkwise;
mod coefficients;
mod config;
mod delta_rule;
mod learned;
mod pass;
mod recurrent;
mod rows;
mod rules;
mod sparse_gate;
mod state;
mod state_delta;
mod surprise;
mod tokens;
mod update;

pub use coefficients::UpdateCoefficients;
pub use config::MemoryConfig;
pub use delta_rule::{DecayOrder, DeltaChunk, DeltaResult, delta_chunk};
pub use pass::{Form, Passed, ReadTime, Reading, Tail};
pub use state::{HostState, MemoryState, StateRole, StateTensor, WriteReport};
pub use state_delta::{SparseDelta, StateDelta};
pub use tokens::{GateValues, TokenGates, Tokens};
pub use update::{ForgetScope, GateSpan, GradientBase, Reduction, SparseGate, UpdateConfig};

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::error::{ConfigError, InputError, StateError};
use crate::miras::{MemoryArchitecture, Start, StaticMaps};
use crate::ops::{DenseRule, Expansion, HostOps, MemoryOps, host_floats};
use chunkwise::Detail;
pub(crate) use coefficients::{products, scan};
use learned::Learned;
use pass::{Dense, Pass};
use rows::RowMemory;
use rules::Rules;
pub(crate) use sparse_gate::largest_elements;
pub(crate) use surprise::relative_error;
use tokens::GatedTokens;

/// Queries that one matrix product answers.
///
/// Every product of a read has as many rows, because a library's product may round
/// differently for another number of rows, and an answer must not depend on the company
/// in which it was asked for.
const READ_ROWS: usize = 16;

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
    rules: Arc<Rules>,
    device: Device,
    /// The frozen expansion `[key_dim, channels]` of a sparse memory.
    expansion: Option<Tensor<2>>,
    /// The fast path of memories that are written row by row.
    rows: Option<RowMemory>,
    /// What the operations are told of a dense memory.
    dense: Option<DenseRule>,
    ops: Arc<dyn MemoryOps>,
}

/// What a pass over some memories gives.
struct Advanced {
    passed: Passed,
    /// What they had learned before it, side by side, where a write says what it changed.
    before: Option<Learned>,
    /// What they have learned after it.
    after: Learned,
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
            MemoryArchitecture::SparseChannelMlp(mlp) => Some(mlp.expansion_tensor(
                config.key_dim,
                mlp.frozen_expansion(config.key_dim, config.seed),
                device,
            )),
            _ => None,
        };
        let rules = Rules::new(config, ops.clone());
        if let (Some(rule), Some(dense)) = (rules.dense(), ops.dense(device)) {
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
            rows: config.is_row_memory().then(|| {
                RowMemory::new(config, expansion.clone().map(Expansion::new), ops.clone())
            }),
            expansion,
            dense: rules.dense(),
            rules: Arc::new(rules),
            ops,
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

    /// Whether a write is made in the state's own tensors where nobody shares them, so that
    /// [`MemoryState::catch_up`] saves allocations: on the CPU, memories that are written row
    /// by row.
    pub fn writes_in_place(&self) -> bool {
        self.rows.is_some() && self.device == Device::flex()
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
        MemoryState::new(
            self.rules.clone(),
            Learned::begin(&self.rules, accumulators),
        )
    }

    /// The state that [`MemoryState::to_host`] copied, bit for bit.
    ///
    /// # Errors
    /// [`StateError`] when a tensor or a scalar of this configuration is missing, of another
    /// shape or not finite, or when there is one that this configuration does not have.
    pub fn state_from_host(&self, host: HostState) -> Result<MemoryState, StateError> {
        MemoryState::from_host(&self.rules, host, &self.device)
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
        let [tokens, width] = queries.dims();
        check_width("queries", [tokens, width], self.config().key_dim);
        if tokens == 0 {
            return Tensor::zeros(
                [0, self.config().value_dim],
                (&queries.device(), queries.dtype()),
            );
        }
        match &self.rows {
            Some(rows) if self.expansion.is_some() => rows.read(&state.learned, queries),
            _ => self
                .read_batch(std::slice::from_ref(state), queries.unsqueeze_dim(0))
                .squeeze_dim(0),
        }
    }

    /// Recalls from many memories at once, each answer that of the memory alone.
    ///
    /// # Shapes
    /// - `queries`: `[memories, tokens, key_dim]`
    /// - returns: `[memories, tokens, value_dim]`
    ///
    /// # Panics
    /// If there are not as many states as memories, or `queries` are not `key_dim` wide.
    pub fn read_batch(&self, states: &[MemoryState], queries: Tensor<3>) -> Tensor<3> {
        let [memories, tokens, width] = queries.dims();
        check_width("queries", [tokens, width], self.config().key_dim);
        check_memories(states.len(), memories);
        if let Some(dense) = self.dense_ops(states, &[&queries])
            && memories > 0
        {
            return self.read_dense(dense, states, queries);
        }
        let accumulators: Vec<Tensor<3>> = (0..self.rules.tensors.len())
            .map(|tensor| {
                let of_each = states.iter();
                let parts = of_each.map(|state| state.learned.accumulators[tensor].clone());
                Tensor::cat(parts.collect(), 0)
            })
            .collect();
        let weights = self.rules.weights(&accumulators);
        let mut answers = Vec::new();
        for start in (0..tokens).step_by(READ_ROWS) {
            let count = READ_ROWS.min(tokens - start);
            let mut block = queries.clone().narrow(1, start, count);
            if count < READ_ROWS {
                let options = (&block.device(), block.dtype());
                let empty = Tensor::zeros([memories, READ_ROWS - count, width], options);
                block = Tensor::cat(vec![block, empty], 1);
            }
            let architecture = &self.config().miras.architecture;
            let answer = architecture.predict(&StaticMaps(&weights), self.lift(block));
            answers.push(answer.narrow(1, 0, count));
        }
        if answers.is_empty() {
            let options = (&queries.device(), queries.dtype());
            return Tensor::zeros([memories, 0, self.config().value_dim], options);
        }
        Tensor::cat(answers, 1)
    }

    fn read_dense(
        &self,
        dense: Dense<'_>,
        states: &[MemoryState],
        queries: Tensor<3>,
    ) -> Tensor<3> {
        if dense.ops.stacks() || states.len() == 1 {
            let learned = Learned::stack(&states.iter().map(|s| &s.learned).collect::<Vec<_>>());
            return dense.ops.read(dense.rule, &learned.accumulators, queries);
        }
        let of_each: Vec<_> = states.iter().zip(queries.split(1, 0)).collect();
        let answers = of_each.into_par_iter().map(|(state, queries)| {
            dense
                .ops
                .read(dense.rule, &state.learned.accumulators, queries)
        });
        Tensor::cat(answers.collect(), 0)
    }

    /// The operations for dense memories, if this is one and they take what is given.
    fn dense_ops(&self, states: &[MemoryState], rows: &[&Tensor<3>]) -> Option<Dense<'_>> {
        let rule = self.dense.as_ref()?;
        let ops = self.ops.dense(&self.device)?;
        let is_plain = |tensor: &Tensor<3>| {
            !tensor.is_autodiff() && tensor.device() == self.device && ops.takes(tensor.dtype())
        };
        let learned = |state: &MemoryState| {
            let learned = &state.learned;
            let momenta = learned.momenta.iter().flatten();
            learned.accumulators.iter().chain(momenta).all(is_plain)
        };
        (rows.iter().copied().all(is_plain) && states.iter().all(learned))
            .then_some(Dense { ops, rule })
    }

    /// Learns: writes the tokens in order, as the configuration says.
    ///
    /// Writing a stream in pieces of any length gives, bit for bit, what one piece gives.
    /// Tokens that do not fill an update wait in the state; [`finish_update`] writes them
    /// at once.
    ///
    /// # Shapes
    /// - `keys`: `[tokens, key_dim]`
    /// - `values`: `[tokens, value_dim]`
    ///
    /// # Errors
    /// [`InputError`] when a number is NaN or infinite, or the weights would not stay
    /// finite; the state is as it was.
    ///
    /// # Panics
    /// If the widths are not those of the configuration, or keys and values disagree on
    /// `tokens`.
    ///
    /// [`finish_update`]: Self::finish_update
    pub fn write(
        &self,
        state: &mut MemoryState,
        keys: Tensor<2>,
        values: Tensor<2>,
    ) -> Result<WriteReport, InputError> {
        self.check_shapes(
            [1, keys.dims()[0], keys.dims()[1]],
            [1, values.dims()[0], values.dims()[1]],
        );
        if keys.dims()[0] == 0 {
            return Ok(WriteReport::default());
        }
        let mut reports = self.write_batch(
            std::slice::from_mut(state),
            keys.unsqueeze_dim(0),
            values.unsqueeze_dim(0),
        )?;
        Ok(reports.remove(0))
    }

    /// Writes to many memories at once, each as if it were alone, bit for bit.
    ///
    /// # Shapes
    /// - `keys`: `[memories, tokens, key_dim]`
    /// - `values`: `[memories, tokens, value_dim]`
    ///
    /// # Errors
    /// As [`write`](Self::write); no state is changed.
    ///
    /// # Panics
    /// As [`write`](Self::write), and if there are not as many states as memories.
    pub fn write_batch(
        &self,
        states: &mut [MemoryState],
        keys: Tensor<3>,
        values: Tensor<3>,
    ) -> Result<Vec<WriteReport>, InputError> {
        self.check_shapes(keys.dims(), values.dims());
        let [memories, tokens, _] = keys.dims();
        check_memories(states.len(), memories);
        if tokens == 0 {
            return Ok(vec![WriteReport::default(); memories]);
        }
        let given = Tokens::new(keys.clone(), values.clone());
        GatedTokens::resolve(given, 0, 1).check_finite()?;
        if let Some(rows) = &self.rows {
            return Ok(rows.write(states, keys, values));
        }
        let alone = memories > 1
            && (self.dense_ops(states, &[&keys, &values])).is_some_and(|dense| !dense.ops.stacks());
        if !alone && self.in_step(states) {
            return self.write_in_step(states, keys, values);
        }
        let before = states.to_vec();
        let of_each = |tensor: Tensor<3>| tensor.split(1, 0).into_iter();
        let tokens: Vec<_> = of_each(keys).zip(of_each(values)).enumerate().collect();
        let reports: Result<Vec<_>, _> = (states.par_iter_mut().zip(tokens))
            .map(|(state, (memory, (keys, values)))| {
                match self.write_in_step(std::slice::from_mut(state), keys, values) {
                    Ok(mut reports) => Ok(reports.remove(0)),
                    Err(InputError::Diverges { .. }) => Err(InputError::Diverges { memory }),
                    Err(error) => Err(error),
                }
            })
            .collect();
        match reports {
            Ok(_) => self.recycle(before),
            Err(_) => states.clone_from_slice(&before),
        }
        reports
    }

    /// Writes the tokens that wait for their update as a short update of their own.
    ///
    /// # Errors
    /// [`InputError::Diverges`]; the state is as it was.
    pub fn finish_update(&self, state: &mut MemoryState) -> Result<WriteReport, InputError> {
        if state.tokens_pending() == 0 {
            return Ok(WriteReport::default());
        }
        let before = state.clone();
        let options = (&self.device, state.learned.accumulators[0].dtype());
        let nothing = Tokens::new(
            Tensor::zeros([1, 0, self.config().key_dim], options),
            Tensor::zeros([1, 0, self.config().value_dim], options),
        );
        let advanced = self.pass_unchecked(
            std::slice::from_mut(state),
            nothing,
            None,
            Tail::Apply,
            Form::Chunkwise,
            Detail::Surprise,
        );
        if self.diverged(&advanced).is_some() {
            *state = before;
            return Err(InputError::Diverges { memory: 0 });
        }
        Ok(WriteReport {
            surprise: Vec::new(),
            tokens_written: advanced.passed.tokens_written[0],
            delta: self.deltas(&advanced, 1).remove(0),
        })
    }

    /// Writes and reads a stream in one pass, under learned gates if there are any: what a
    /// layer of a model does. Differentiable: under autodiff, gradients flow to keys,
    /// values, gates, queries and the tensors that the states began with, through every
    /// update.
    ///
    /// A stream cut into pieces gives the same bits for updates of more than one token.
    /// The linear delta rule is solved exactly in chunks, whose bits hang on where the
    /// pieces begin; [`write`](Self::write) goes token by token there.
    ///
    /// # Errors
    /// [`InputError`] when a number is NaN or infinite; no state is changed.
    ///
    /// # Panics
    /// If a width, the number of tokens or of memories disagree with the configuration or
    /// with each other, or if the memories are not equally far in their updates.
    pub fn pass(
        &self,
        states: &mut [MemoryState],
        tokens: Tokens,
        reading: Option<Reading>,
        tail: Tail,
        form: Form,
    ) -> Result<Passed, InputError> {
        let [memories, count, _] = tokens.keys.dims();
        self.check_shapes(tokens.keys.dims(), tokens.values.dims());
        check_memories(states.len(), memories);
        if let Some(reading) = &reading {
            let [_, queries, width] = reading.queries.dims();
            check_width("queries", [queries, width], self.config().key_dim);
            assert_eq!(queries, count, "{queries} queries beside {count} tokens");
        }
        assert!(
            self.in_step(states),
            "the memories are not equally far in their updates"
        );
        if count > 0 {
            let begun = states[0].tokens_pending();
            GatedTokens::resolve(tokens.clone(), begun, self.config().update.update_size)
                .check_finite()?;
        }
        let advanced = self.pass_unchecked(states, tokens, reading, tail, form, Detail::All);
        Ok(advanced.passed)
    }

    /// The gradient of the tokens' losses, each times its step, summed over the tokens and
    /// bounded, at the weights at which the state's next update takes it; one
    /// `[rows, columns]` per tensor. Nothing is written.
    ///
    /// # Panics
    /// As [`write`](Self::write).
    pub fn gradient(&self, state: &MemoryState, tokens: Tokens) -> Vec<Tensor<2>> {
        self.check_shapes(tokens.keys.dims(), tokens.values.dims());
        let update_size = self.config().update.update_size;
        let tokens = GatedTokens::resolve(tokens, 0, update_size);
        let tokens = GatedTokens {
            keys: self.lift(tokens.keys.clone()),
            ..tokens
        };
        let surprise = surprise::surprise(&self.rules, &state.learned, &tokens);
        let dtype = surprise.relative_error.dtype();
        let sum = chunkwise::sum_of_gradients(&self.rules, &surprise);
        advance::bounded(&self.rules, sum)
            .into_iter()
            .map(|tensor| tensor.squeeze_dim::<2>(0).cast(dtype))
            .collect()
    }

    /// The weights at which the state's next update takes its gradients, one
    /// `[rows, columns]` per tensor.
    pub fn gradient_base(&self, state: &MemoryState) -> Vec<Tensor<2>> {
        let base = self.rules.base_weights(&state.learned).into_iter();
        base.map(|tensor| tensor.squeeze_dim(0)).collect()
    }

    fn pass_unchecked(
        &self,
        states: &mut [MemoryState],
        tokens: Tokens,
        reading: Option<Reading>,
        tail: Tail,
        form: Form,
        detail: Detail,
    ) -> Advanced {
        let [_, count, _] = tokens.keys.dims();
        let learned = Learned::stack(&states.iter().map(|s| &s.learned).collect::<Vec<_>>());
        let tells = detail == Detail::Surprise && self.tells_delta();
        let before = tells.then(|| learned.clone());
        let begun = learned.pending_tokens();
        let tokens = GatedTokens::resolve(tokens, begun, self.config().update.update_size);
        let lift = |keys: Tensor<3>| self.lift(keys);
        let mut rows = vec![&tokens.keys, &tokens.values];
        rows.extend(reading.iter().map(|reading| &reading.queries));
        let pending = learned.pending.iter();
        rows.extend(
            pending
                .clone()
                .flat_map(|waits| [&waits.keys, &waits.values]),
        );
        let gates = pending.chain([&tokens]).flat_map(|tokens| &tokens.gates);
        let gates_are_plain = gates
            .flatten()
            .all(|gate| !gate.is_autodiff() && gate.dtype() == tokens.keys.dtype());
        let pass = Pass {
            dense: self.dense_ops(states, &rows).filter(|_| gates_are_plain),
            rules: &self.rules,
            lift: &lift,
            form,
            when: reading.as_ref().map(|reading| reading.when),
            detail,
        };
        let queries = reading.map(|reading| reading.queries);
        let (learned, parts) = pass.run(
            learned,
            tokens,
            queries.as_ref(),
            tail,
            states[0].tokens_in_weights(),
        );
        let passed = parts.join(
            &learned.smoothed_surprise,
            self.config().value_dim,
            queries.is_some(),
        );
        for (memory, state) in states.iter_mut().enumerate() {
            state.learned = learned.memory(memory);
            state.tokens_seen += count as u64;
            state.tokens_written += passed.tokens_written[memory] as u64;
        }
        Advanced {
            passed,
            before,
            after: learned,
        }
    }

    fn write_in_step(
        &self,
        states: &mut [MemoryState],
        keys: Tensor<3>,
        values: Tensor<3>,
    ) -> Result<Vec<WriteReport>, InputError> {
        let before = states.to_vec();
        let [memories, count, _] = keys.dims();
        let advanced = self.pass_unchecked(
            states,
            Tokens::new(keys, values),
            None,
            Tail::Hold,
            Form::Chunkwise,
            Detail::Surprise,
        );
        if let Some(memory) = self.diverged(&advanced) {
            states.clone_from_slice(&before);
            return Err(InputError::Diverges { memory });
        }
        let deltas = self.deltas(&advanced, memories);
        let passed = advanced.passed;
        let mut surprise = passed.relative_error;
        if states[0].tokens_pending() > 0 {
            let new = count.min(states[0].tokens_pending());
            surprise = Tensor::cat(vec![surprise, self.surprise_of_pending(states, new)], 1);
        }
        let [_, told] = surprise.dims();
        let surprise = host_floats(surprise.narrow(1, told - count, count));
        let reports = (deltas.into_iter().enumerate())
            .map(|(memory, delta)| WriteReport {
                surprise: surprise[memory * count..(memory + 1) * count].to_vec(),
                tokens_written: passed.tokens_written[memory],
                delta,
            })
            .collect();
        self.recycle(before);
        Ok(reports)
    }

    /// Drops states; the operations may use their room again.
    fn recycle(&self, states: Vec<MemoryState>) {
        if let Some(dense) = self.dense_ops(&states, &[]) {
            for state in states {
                let learned = state.learned;
                dense.ops.recycle(learned.accumulators);
                for buffers in learned.momenta {
                    dense.ops.recycle(buffers);
                }
            }
        }
    }

    /// A memory in which a number is not finite any more, if there is one.
    fn diverged(&self, advanced: &Advanced) -> Option<usize> {
        let finite = self.ops.all_finite(&advanced.after.numbers());
        finite.iter().position(|finite| !finite)
    }

    /// Whether a write can change less than everything, and says what.
    fn tells_delta(&self) -> bool {
        let update = self.config().update;
        update.sparse_gate != SparseGate::None && update.forget_scope == ForgetScope::Written
    }

    /// What a write changed in each memory, where it says so.
    fn deltas(&self, advanced: &Advanced, memories: usize) -> Vec<Option<StateDelta>> {
        let Some(before) = &advanced.before else {
            return vec![None; memories];
        };
        let deltas = StateDelta::of_each(self.ops.as_ref(), &self.rules, before, &advanced.after);
        deltas.into_iter().map(Some).collect()
    }

    /// Relative errors of the newest tokens that wait, at the base of their update.
    fn surprise_of_pending(&self, states: &[MemoryState], newest: usize) -> Tensor<2> {
        let learned = Learned::stack(&states.iter().map(|s| &s.learned).collect::<Vec<_>>());
        let pending = learned
            .pending
            .clone()
            .expect("only called with pending tokens");
        let count = pending.len();
        if let Some(dense) = self.dense_ops(states, &[&pending.keys, &pending.values]) {
            let newest = pending.range(count - newest, count);
            let weights = &learned.accumulators;
            let (keys, values) = (newest.keys, newest.values);
            return dense.ops.relative_error(dense.rule, weights, keys, values);
        }
        // As many rows as the update will have, and with them its bits.
        let full = pending.pad_to(self.config().update.update_size, self.config());
        let base = self.rules.base_weights(&learned);
        let architecture = &self.config().miras.architecture;
        let prediction = architecture.predict(&StaticMaps(&base), self.lift(full.keys));
        relative_error(prediction, full.values).narrow(1, count - newest, newest)
    }

    /// What the learned tensors see of keys: themselves, or the features of a frozen,
    /// sparse expansion.
    fn lift(&self, keys: Tensor<3>) -> Tensor<3> {
        match (&self.expansion, self.config().miras.architecture) {
            (Some(expansion), MemoryArchitecture::SparseChannelMlp(mlp)) => {
                let expansion = expansion.clone().cast(keys.dtype());
                mlp.features(keys, expansion)
            }
            _ => keys,
        }
    }

    /// All memories can be updated by the same operations.
    fn in_step(&self, states: &[MemoryState]) -> bool {
        let counts_tokens = self.rules.keeps_base()
            || matches!(
                self.config().update.sparse_gate,
                SparseGate::Channels { .. }
            );
        let phase = |state: &MemoryState| {
            let pending = state.learned.pending.as_ref();
            let gates = pending.map(|tokens| tokens.gates.each_ref().map(Option::is_some));
            let tokens = if counts_tokens {
                state.tokens_in_weights()
            } else {
                0
            };
            (state.tokens_pending(), gates, tokens)
        };
        states.iter().all(|state| phase(state) == phase(&states[0]))
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

    fn check_shapes(&self, keys: [usize; 3], values: [usize; 3]) {
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

fn check_width(name: &str, [tokens, width]: [usize; 2], expected: usize) {
    assert_eq!(
        width, expected,
        "{name} are [{tokens}, {width}], expected [{tokens}, {expected}]"
    );
}

fn check_memories(found: usize, expected: usize) {
    assert_eq!(
        found, expected,
        "{found} memories for {expected} in the batch"
    );
}
