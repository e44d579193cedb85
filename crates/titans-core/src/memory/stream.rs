//! Writing and reading a stream in one pass, as layers of a model do.

use burn::tensor::Tensor;

use super::fallback::Updates;
use super::learned::Learned;
use super::neural_memory::{NeuralMemory, check_memories, check_width};
use super::pass::Pass;
use super::passed::{Form, Passed, Reading, Tail};
use super::state::MemoryState;
use super::tokens::{GatedTokens, Tokens};
use super::update::{ForgetScope, SparseGate};
use super::updated::Detail;
use super::{advance, chunkwise, surprise};
use crate::error::InputError;

/// What a pass over some memories gives.
pub(super) struct Advanced {
    pub(super) passed: Passed,
    /// What they had learned before it, side by side, where a write says what it changed.
    pub(super) before: Option<Learned>,
    /// What they have learned after it.
    pub(super) after: Learned,
}

impl NeuralMemory {
    /// Writes and reads a stream in one pass, under learned gates if there are any: what a
    /// layer of a model does. Differentiable: under autodiff, gradients flow to keys,
    /// values, gates, queries and the tensors that the states began with, through every
    /// update.
    ///
    /// A stream cut into pieces gives the same bits for updates of more than one token.
    /// The linear delta rule is solved exactly in chunks, whose bits depend on where the
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

    pub(super) fn pass_unchecked(
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
        let when = reading.as_ref().map(|reading| reading.when);
        let given: Vec<&GatedTokens> = learned.pending.iter().chain([&tokens]).collect();
        let queries = reading.as_ref().map(|reading| &reading.queries);
        let dense = self.dense_ops(states, &given, queries);
        let pass = Pass {
            rules: &self.rules,
            lift: &lift,
            updates: Updates::of(&self.rules.plan, dense, form, when, detail),
            when,
            detail,
            dense,
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

    /// Whether a write can change less than everything, and says what.
    fn tells_delta(&self) -> bool {
        let update = self.config().update;
        update.sparse_gate != SparseGate::None && update.forget_scope == ForgetScope::Written
    }

    /// All memories can be updated by the same operations.
    pub(super) fn in_step(&self, states: &[MemoryState]) -> bool {
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
}
