//! How the watch asks a memory.

use titans_core::{MemoryState, NeuralMemory};

use crate::recall;
use crate::shard::TokenRows;
use crate::watch::Ask;

/// Probes that are put to a memory at once: a read gathers the rows of all its queries, which
/// for all probes together is more than the memory itself.
const ASKED_AT_ONCE: usize = 32;

/// A memory as the watch asks it, beside one learned chunk.
pub(super) struct AskMemory<'a> {
    pub(super) memory: &'a NeuralMemory,
    pub(super) rows: &'a TokenRows,
}

impl Ask for AskMemory<'_> {
    fn rows(&self, tokens: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let config = self.memory.config();
        let pick = |rows: &[f32], dim: usize| -> Vec<f32> {
            let row = |token: &usize| &rows[token * dim..(token + 1) * dim];
            tokens.iter().flat_map(row).copied().collect()
        };
        (
            pick(&self.rows.keys, config.key_dim),
            pick(&self.rows.values, config.value_dim),
        )
    }

    fn recall(&self, state: &MemoryState, keys: Vec<f32>) -> Vec<f32> {
        let key_dim = self.memory.config().key_dim;
        let blocks = keys.chunks(ASKED_AT_ONCE * key_dim);
        let recalled = blocks.flat_map(|block| recall::read(self.memory, state, block.to_vec()));
        recalled.collect()
    }
}
