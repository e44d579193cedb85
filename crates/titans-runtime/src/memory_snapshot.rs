//! What a memory knew at one moment, for the caller to keep.

use std::fmt;
use std::sync::Arc;

use titans_store::ShardId;

use crate::engine::Engine;
use crate::error::RecallError;
use crate::ledger::ItemId;
use crate::recall;
use crate::recalled::{RecallInfo, Recalled};
use crate::rows::Rows;
use crate::snapshot::Snapshot;
use crate::watch::ProbeScore;

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

    /// Recalls, as [`UserMemory::recall`](crate::UserMemory::recall) does; the lag is 0.
    ///
    /// # Errors
    /// As [`UserMemory::recall`](crate::UserMemory::recall).
    pub fn recall(&self, queries: Rows<'_>) -> Result<Recalled, RecallError> {
        self.engine.context.check_process()?;
        recall::recall(&self.engine.context, &self.snapshot, queries)
    }

    /// [`recall`](Self::recall) into a buffer that is used again and again.
    ///
    /// # Errors
    /// As [`UserMemory::recall_into`](crate::UserMemory::recall_into).
    pub fn recall_into(
        &self,
        queries: Rows<'_>,
        recalled: &mut [f32],
    ) -> Result<RecallInfo, RecallError> {
        self.engine.context.check_process()?;
        recall::recall_into(&self.engine.context, &self.snapshot, queries, recalled)
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
