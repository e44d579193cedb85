//! Recalling: nothing is learned.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::fallback::Dense;
use super::learned::Learned;
use super::neural_memory::{NeuralMemory, check_memories, check_width};
use super::plan::Engine;
use super::state::MemoryState;
use crate::miras::StaticMaps;

/// Queries that one matrix product answers.
///
/// Every product of a read has as many rows, because a library's product may round
/// differently for another number of rows, and an answer must not depend on the company
/// in which it was asked for.
const READ_ROWS: usize = 16;

impl NeuralMemory {
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
        match &self.rules.plan.engine {
            // Of a plain matrix every row is active: one product reads them all.
            Engine::Rows(_) if self.expansion.is_some() => self.read_rows(&state.learned, queries),
            Engine::Rows(_) | Engine::Dense(_) | Engine::Tensors => self
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
        if let Some(dense) = self.dense_ops(states, &[], Some(&queries))
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
}
