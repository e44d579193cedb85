//! Reading one snapshot.

use std::fmt;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use titans_core::{MemoryState, NeuralMemory, relative_error};
use titans_store::ShardId;

use crate::context::Context;
use crate::engine::Engine;
use crate::error::RuntimeError;
use crate::ledger::{ItemId, Neighbour};
use crate::rows::{Rows, RowsOf};
use crate::snapshot::Snapshot;
use crate::watch::ProbeScore;

/// What a recall came from, and what is known about how good it is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RecallInfo {
    /// Version of the snapshot that answered; rises with every chunk learned.
    pub version: u64,
    /// Tokens that were handed over and are not in that snapshot.
    pub lag: u64,
    /// The stored items nearest to what was recalled, best first, each once: not what the
    /// memory holds, but what in the ledger it comes closest to. Empty where nothing was
    /// handed over as an item.
    pub neighbours: Vec<Neighbour>,
    /// How far what was recalled is from the nearest stored item, as the mean over the
    /// queries of `|recalled - value| / |value|`, the scale of the write gate: 0 is that item
    /// exactly, 1 and more is as good as nothing. `None` without items. The surprise of pairs
    /// that are known is what [`surprise_into`](crate::UserMemory::surprise_into) tells.
    pub surprise: Option<f32>,
    /// How often recalls as strong as this one were right, as the mean over the queries:
    /// measured, chunk by chunk, on pairs that the memory has written and on pairs of the
    /// stream before it learned them. Right means closer than `0.7 |value|` to the value.
    /// `None` while there are too few of either kind, and where nothing watches recall.
    pub confidence: Option<f32>,
}

/// An item in the ledger of a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredItem {
    /// The item.
    pub item: ItemId,
    /// Tokens of this piece of it.
    pub tokens: u64,
    /// When it was handed over, in seconds since 1970.
    pub stored_unix: u64,
}

/// What a memory knew at one moment. It stays as it is while the memory learns on, so
/// several recalls from it fit together.
///
/// It keeps that state in RAM for as long as it exists.
#[derive(Clone)]
pub struct MemorySnapshot {
    engine: Arc<Engine>,
    snapshot: Arc<Snapshot>,
}

impl MemorySnapshot {
    pub(crate) fn new(engine: &Arc<Engine>, snapshot: Arc<Snapshot>) -> Self {
        Self {
            engine: Arc::clone(engine),
            snapshot,
        }
    }

    /// Whose memory, by its name on disk.
    pub fn shard(&self) -> ShardId {
        self.snapshot.shard
    }

    /// Rises with every chunk learned, and with a rollback or a rebuild.
    pub fn version(&self) -> u64 {
        self.snapshot.version
    }

    /// Tokens read so far.
    pub fn tokens_seen(&self) -> u64 {
        self.snapshot.state.tokens_seen
    }

    /// Tokens that surprised the memory enough to be written.
    pub fn tokens_written(&self) -> u64 {
        self.snapshot.state.tokens_written
    }

    /// Recalls, as [`UserMemory::recall_into`](crate::UserMemory::recall_into) does; the lag
    /// is 0.
    ///
    /// # Errors
    /// [`RuntimeError::Shape`] and [`RuntimeError::NotFinite`].
    pub fn recall_into(
        &self,
        queries: Rows<'_>,
        recalled: &mut [f32],
    ) -> Result<RecallInfo, RuntimeError> {
        self.engine.context.check_process()?;
        recall(&self.engine.context, &self.snapshot, queries, recalled)
    }

    /// How many of its probes the memory answers; `None` where nothing watches recall and
    /// after opening, until something is learned.
    pub fn probe_score(&self) -> Option<ProbeScore> {
        self.snapshot.watched.as_ref().map(|watched| watched.score)
    }

    /// The items in the ledger, oldest first; an item that came in pieces more than once.
    /// Without those that were forgotten.
    pub fn items(&self) -> impl Iterator<Item = StoredItem> {
        let entries = self.snapshot.ledger.entries().iter();
        entries
            .filter(|entry| entry.erased.is_none())
            .map(|entry| StoredItem {
                item: entry.item,
                tokens: entry.tokens.end - entry.tokens.start,
                stored_unix: entry.stored_unix,
            })
    }

    /// Bytes of the memory itself: the same for every length of the stream.
    pub fn memory_bytes(&self) -> usize {
        self.engine.context.state_bytes
    }

    /// Bytes of the ledger beside it, which grows up to its bound.
    pub fn ledger_bytes(&self) -> usize {
        self.snapshot.ledger.bytes()
    }
}

impl fmt::Debug for MemorySnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySnapshot")
            .field("shard", &self.shard())
            .field("version", &self.version())
            .field("tokens_seen", &self.tokens_seen())
            .finish_non_exhaustive()
    }
}

/// Reads `queries` in one snapshot.
pub(crate) fn recall(
    context: &Context,
    snapshot: &Snapshot,
    queries: Rows<'_>,
    recalled: &mut [f32],
) -> Result<RecallInfo, RuntimeError> {
    let (key_dim, value_dim) = context.widths();
    let tokens = queries.len();
    let queries = queries.to_f32(RowsOf::Queries, key_dim)?;
    RuntimeError::expect_size(
        "the length of the buffer for what is recalled",
        tokens * value_dim,
        recalled.len(),
    )?;
    if tokens > 0 {
        let memory = context.memories.of(snapshot.shard);
        recalled.copy_from_slice(&read(memory, &snapshot.state, queries));
    }
    let at_most = context.config.ledger.neighbours;
    let (neighbours, surprise) = snapshot.ledger.nearest(recalled, value_dim, at_most);
    Ok(RecallInfo {
        version: snapshot.version,
        lag: 0,
        neighbours,
        surprise,
        confidence: confidence(snapshot, recalled, value_dim),
    })
}

fn confidence(snapshot: &Snapshot, recalled: &[f32], value_dim: usize) -> Option<f32> {
    let watched = snapshot.watched.as_ref()?;
    let rows = recalled.chunks_exact(value_dim);
    let tokens = rows.len() as f32;
    let each: Option<Vec<f32>> = rows.map(|row| watched.confidence(row)).collect();
    each.filter(|each| !each.is_empty())
        .map(|each| each.iter().sum::<f32>() / tokens)
}

/// `|recalled - value| / |value|` of each pair in one snapshot.
pub(crate) fn surprise(
    context: &Context,
    snapshot: &Snapshot,
    keys: Rows<'_>,
    values: Rows<'_>,
    surprise: &mut [f32],
) -> Result<(), RuntimeError> {
    let (key_dim, value_dim) = context.widths();
    let tokens = keys.len();
    RuntimeError::expect_size("the number of value rows", tokens, values.len())?;
    RuntimeError::expect_size(
        "the length of the buffer for surprise",
        tokens,
        surprise.len(),
    )?;
    let keys = keys.to_f32(RowsOf::Keys, key_dim)?;
    let values = values.to_f32(RowsOf::Values, value_dim)?;
    if tokens == 0 {
        return Ok(());
    }
    let recalled = read(context.memories.of(snapshot.shard), &snapshot.state, keys);
    let rows = recalled
        .chunks_exact(value_dim)
        .zip(values.chunks_exact(value_dim));
    for (surprise, (recalled, value)) in surprise.iter_mut().zip(rows) {
        *surprise = relative_error(recalled, value);
    }
    Ok(())
}

/// What a memory says for some queries.
pub(crate) fn read(memory: &NeuralMemory, state: &MemoryState, queries: Vec<f32>) -> Vec<f32> {
    let key_dim = memory.config().key_dim;
    let tokens = queries.len() / key_dim;
    let device = memory.device();
    let queries = Tensor::<2>::from_data(TensorData::new(queries, [tokens, key_dim]), &device);
    let read = memory.read(state, queries);
    read.into_data_as::<f32>()
        .try_into_vec::<f32>()
        .expect("the data was just converted to f32")
}
