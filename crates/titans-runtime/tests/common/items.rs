//! A memory for a few named items, and what can be seen of them.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::LazyLock;

use titans_core::{MemoryArchitecture, Preset, SparseChannelMlp};
use titans_runtime::{LedgerConfig, Rows, RuntimeConfig, UserMemory};

use crate::common::{Stream, config};

pub(crate) const DIM: usize = 32;

pub(crate) fn items_config(preset: Preset, ledger: LedgerConfig) -> RuntimeConfig {
    let mut config = config().with_ledger(ledger);
    if preset == Preset::Sparse {
        // Room enough that thirty items hardly meet.
        config.memory.miras.architecture = MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
            channels: 2048,
            active_channels: 16,
        });
    } else {
        config.memory = preset.config();
    }
    (config.memory.key_dim, config.memory.value_dim) = (DIM, DIM);
    config
}

pub(crate) fn keeps_tokens() -> LedgerConfig {
    LedgerConfig::default().with_replay_bytes(1 << 20)
}

/// Keys and values of some tokens, the same for the same seed.
pub(crate) fn pairs(seed: u64, tokens: usize) -> (Vec<f32>, Vec<f32>) {
    let stream = Stream::with_widths(tokens, seed, (DIM, DIM));
    (stream.keys, stream.values)
}

/// Pair `n` of one stream.
pub(crate) fn pair(n: usize) -> (Vec<f32>, Vec<f32>) {
    static STREAM: LazyLock<(Vec<f32>, Vec<f32>)> = LazyLock::new(|| pairs(1, 1300));
    let row = n * DIM..(n + 1) * DIM;
    (STREAM.0[row.clone()].to_vec(), STREAM.1[row].to_vec())
}

pub(crate) fn rows(numbers: &[f32]) -> Rows<'_> {
    Rows::matrix(numbers, DIM)
}

pub(crate) fn store(memory: &UserMemory, items: impl IntoIterator<Item = usize>) {
    for n in items {
        let (keys, values) = pair(n);
        let stored = memory.observe_item(n as u64, rows(&keys), rows(&values));
        stored.unwrap();
    }
}

pub(crate) fn recall(memory: &UserMemory, keys: &[f32]) -> Vec<f32> {
    memory.recall(rows(keys)).unwrap().into()
}

pub(crate) fn length(row: &[f32]) -> f32 {
    row.iter().map(|x| x * x).sum::<f32>().sqrt()
}

pub(crate) fn items(memory: &UserMemory) -> Vec<u128> {
    let snapshot = memory.snapshot().unwrap();
    snapshot.items().map(|stored| stored.item.0).collect()
}

/// Everything that readers can tell two memories apart by.
pub(crate) fn what_it_knows(memory: &UserMemory) -> (Vec<u32>, u64, u64) {
    let (queries, _) = pairs(900, 40);
    let recalled = recall(memory, &queries);
    let bits = recalled.iter().map(|x| x.to_bits()).collect();
    let snapshot = memory.snapshot().unwrap();
    (bits, snapshot.tokens_seen(), snapshot.tokens_written())
}
