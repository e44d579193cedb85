//! The state that readers see, and how it replaces the one before.
//!
//! Protocol: one learner per shard builds the next snapshot in private and publishes it by
//! one pointer swap. A reader loads the pointer once per request and keeps that snapshot for
//! the whole request. So no reader waits for a writer or another reader, no reader sees half
//! a chunk, and a snapshot is freed when its last reader is done.
//!
//! The swap orders everything: whatever happened before [`Published::publish`] is visible to
//! whoever loads the new snapshot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use titans_core::MemoryState;
use titans_store::{ImageDelta, ShardId};

use crate::error::RuntimeError;
use crate::ledger::Ledger;

/// What a memory knew after some chunk. Never changes.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Whose memory.
    pub(crate) shard: ShardId,
    /// Rises with every publish, also with a rollback.
    pub(crate) version: u64,
    /// The last chunk that was learned into it; a rollback takes it back.
    pub(crate) last_chunk_id: u64,
    /// How often the memory was rebuilt. Positions of its tokens mean something only
    /// together with this.
    pub(crate) history: u64,
    /// The memory.
    pub(crate) state: MemoryState,
    /// What was stored, as far as it is in the memory.
    pub(crate) ledger: Arc<Ledger>,
    /// What the chunk changed since the version before, if it is known.
    pub(crate) changed: Option<ImageDelta>,
}

/// A pointer to the newest value; loads never wait.
///
/// The only place that knows arc-swap. Below 1.9.5 its `load` could return a value stored
/// in another instance; [`Reader`] would turn that into an error.
#[derive(Debug)]
pub(crate) struct Published<T>(ArcSwap<T>);

impl<T> Published<T> {
    pub(crate) fn new(first: T) -> Self {
        Self(ArcSwap::from_pointee(first))
    }

    /// The newest value. Call once per request.
    pub(crate) fn load(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Replaces the newest value and returns the one before.
    pub(crate) fn publish(&self, next: Arc<T>) -> Arc<T> {
        self.0.swap(next)
    }
}

/// One reader's view of a shard: checks that snapshots are its own and never go back.
#[derive(Debug)]
pub(crate) struct Reader {
    shard: ShardId,
    /// The highest version seen; relaxed, because it orders nothing else.
    newest_seen: AtomicU64,
}

impl Reader {
    pub(crate) fn new(shard: ShardId) -> Self {
        Self {
            shard,
            newest_seen: AtomicU64::new(0),
        }
    }

    pub(crate) fn load(
        &self,
        published: &Published<Snapshot>,
    ) -> Result<Arc<Snapshot>, RuntimeError> {
        // Before the load: a concurrent reader of the same handle may have seen a later
        // version than the one loaded here, and that is no error.
        let seen_before = self.newest_seen.load(Ordering::Relaxed);
        let snapshot = published.load();
        if snapshot.shard != self.shard || snapshot.version < seen_before {
            return Err(RuntimeError::ForeignSnapshot {
                expected: self.shard,
                found: snapshot.shard,
                version: snapshot.version,
            });
        }
        self.newest_seen
            .fetch_max(snapshot.version, Ordering::Relaxed);
        Ok(snapshot)
    }
}
