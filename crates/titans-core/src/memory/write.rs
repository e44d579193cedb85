//! Learning: writing tokens to one memory or to many.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::evaluation::relative_errors_in_update;
use super::learned::Learned;
use super::neural_memory::{NeuralMemory, check_memories};
use super::passed::{Form, Tail};
use super::plan::Engine;
use super::state::{MemoryState, WriteReport};
use super::state_delta::StateDelta;
use super::stream::Advanced;
use super::tokens::{GatedTokens, Tokens};
use super::updated::Detail;
use crate::error::InputError;
use crate::ops::host_floats;

impl NeuralMemory {
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
        let given = GatedTokens::resolve(Tokens::new(keys.clone(), values.clone()), 0, 1);
        given.check_finite()?;
        let are_stacked = self.are_stacked(states, given);
        match &self.rules.plan.engine {
            Engine::Rows(rule) => Ok(self.write_rows(rule, states, keys, values)),
            Engine::Dense(_) | Engine::Tensors if are_stacked => {
                self.write_in_step(states, keys, values)
            }
            Engine::Dense(_) | Engine::Tensors => self.write_each(states, keys, values),
        }
    }

    /// Whether these memories are written as one batch of tensors, and not each for itself.
    fn are_stacked(&self, states: &[MemoryState], given: GatedTokens) -> bool {
        let dense = self.dense_ops(states, &[&given], None);
        let stacks = states.len() == 1 || dense.is_none_or(|dense| dense.ops.stacks());
        stacks && self.in_step(states)
    }

    /// Writes to many memories, one beside the other.
    fn write_each(
        &self,
        states: &mut [MemoryState],
        keys: Tensor<3>,
        values: Tensor<3>,
    ) -> Result<Vec<WriteReport>, InputError> {
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
        if let Some(dense) = self.dense_ops(&states, &[], None) {
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
        let finite = self.rules.ops.all_finite(&advanced.after.numbers());
        finite.iter().position(|finite| !finite)
    }

    /// What a write changed in each memory, where it says so.
    fn deltas(&self, advanced: &Advanced, memories: usize) -> Vec<Option<StateDelta>> {
        let Some(before) = &advanced.before else {
            return vec![None; memories];
        };
        let ops = self.rules.ops.as_ref();
        let deltas = StateDelta::of_each(ops, &self.rules, before, &advanced.after);
        deltas.into_iter().map(Some).collect()
    }

    /// Relative errors of the newest tokens that wait, at the base of their update.
    fn surprise_of_pending(&self, states: &[MemoryState], newest: usize) -> Tensor<2> {
        let learned = Learned::stack(&states.iter().map(|s| &s.learned).collect::<Vec<_>>());
        let pending = learned.pending.as_ref();
        let pending = pending.expect("only called with pending tokens");
        let count = pending.len();
        if let Some(dense) = self.dense_ops(states, &[pending], None) {
            let newest = pending.range(count - newest, count);
            let weights = &learned.accumulators;
            let (keys, values) = (newest.keys, newest.values);
            return dense.ops.relative_error(dense.rule, weights, keys, values);
        }
        let lift = |keys: Tensor<3>| self.lift(keys);
        relative_errors_in_update(&self.rules, &learned, pending, newest, &lift)
    }
}
