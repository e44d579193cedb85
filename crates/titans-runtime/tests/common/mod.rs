//! A small memory and seeded rows for it.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use titans_core::{MemoryArchitecture, Preset, SparseChannelMlp};
use titans_runtime::{
    Alert, AlertSink, Alerts, ObserveError, RecallWatch, Rows, Runtime, RuntimeConfig, Ticket,
    UserMemory,
};
use titans_store::{Limits, MemoryImage, read_newest};

pub(crate) const KEY_DIM: usize = 16;
pub(crate) const VALUE_DIM: usize = 8;
pub(crate) const CHUNK: usize = 32;

pub(crate) fn config() -> RuntimeConfig {
    let mut config = RuntimeConfig::preset(Preset::Sparse);
    config.memory.key_dim = KEY_DIM;
    config.memory.value_dim = VALUE_DIM;
    config.memory.miras.architecture = MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
        channels: 256,
        active_channels: 8,
    });
    config.chunk_tokens = CHUNK;
    config.queue_tokens = 4 * CHUNK;
    config.recall_watch = Some(RecallWatch::default().with_look_every(CHUNK));
    config
}

/// Cases of a test that compares a runtime with its model, each with a seed of its own;
/// `TITANMEM_MODEL_CASES` asks for more.
pub(crate) fn model_cases(default: u32) -> u32 {
    std::env::var("TITANMEM_MODEL_CASES").map_or(default, |cases| cases.parse().unwrap())
}

/// Tokens of a stream, the same for the same seed: rows of unit length, as presets without
/// a normalised step need them.
pub(crate) struct Stream {
    key_dim: usize,
    value_dim: usize,
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
}

impl Stream {
    pub(crate) fn new(tokens: usize, seed: u64) -> Self {
        Self::with_widths(tokens, seed, (KEY_DIM, VALUE_DIM))
    }

    pub(crate) fn with_widths(
        tokens: usize,
        seed: u64,
        (key_dim, value_dim): (usize, usize),
    ) -> Self {
        let mut word = seed.wrapping_mul(2).wrapping_add(1);
        let mut number = || {
            // A linear congruence is random enough for rows that must only differ.
            word = word
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (word >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut rows = |dim: usize| -> Vec<f32> {
            let mut rows: Vec<f32> = (0..tokens * dim).map(|_| number()).collect();
            for row in rows.chunks_exact_mut(dim) {
                let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
                row.iter_mut().for_each(|x| *x /= length);
            }
            rows
        };
        Self {
            key_dim,
            value_dim,
            keys: rows(key_dim),
            values: rows(value_dim),
        }
    }

    pub(crate) fn tokens(&self) -> usize {
        self.keys.len() / self.key_dim
    }

    pub(crate) fn observe(
        &self,
        memory: &UserMemory,
        tokens: std::ops::Range<usize>,
    ) -> Result<Ticket, ObserveError> {
        let (keys, values) = self.rows(tokens);
        memory.observe(keys, values)
    }

    /// Keys and values of some tokens.
    pub(crate) fn rows(&self, tokens: std::ops::Range<usize>) -> (Rows<'_>, Rows<'_>) {
        let keys = &self.keys[tokens.start * self.key_dim..tokens.end * self.key_dim];
        let values = &self.values[tokens.start * self.value_dim..tokens.end * self.value_dim];
        (
            Rows::matrix(keys, self.key_dim),
            Rows::matrix(values, self.value_dim),
        )
    }

    /// What the memory recalls for every key of the stream.
    pub(crate) fn recall(&self, memory: &UserMemory) -> Vec<f32> {
        let queries = Rows::matrix(&self.keys, self.key_dim);
        memory.recall(queries).unwrap().into()
    }
}

pub(crate) fn open(dir: &Path) -> Runtime {
    Runtime::open(dir, config()).unwrap()
}

/// The folder of the only memory below `root`.
pub(crate) fn only_memory(root: &Path) -> PathBuf {
    let mut dir = root.join("users");
    for _ in 0..3 {
        dir = std::fs::read_dir(&dir)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
    }
    dir
}

/// The newest image of a memory, without the owner, what depends on it, and the time it was
/// made.
pub(crate) fn newest_image(dir: &Path, memory: titans_runtime::ShardId) -> MemoryImage {
    let (mut image, _) = read_newest(dir, memory, &Limits::default())
        .unwrap()
        .unwrap();
    image.created_unix = 0;
    // Which pairs are probes depends on the owner.
    image.recall = None;
    image.shard = titans_runtime::ShardId([0; 16]);
    image
}

struct ToChannel(Mutex<Sender<Alert>>);

impl AlertSink for ToChannel {
    fn alert(&self, alert: &Alert) {
        // The test may have ended.
        let _ = self.0.lock().unwrap().send(alert.clone());
    }
}

/// Alerts for a configuration, and where they are heard.
pub(crate) fn heard() -> (Alerts, Receiver<Alert>) {
    let (sender, raised) = channel();
    (Alerts::to(Arc::new(ToChannel(Mutex::new(sender)))), raised)
}
