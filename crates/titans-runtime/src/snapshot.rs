//! What a memory knew after some chunk.

use std::sync::Arc;

use titans_core::{MemoryState, StateDelta};
use titans_store::ShardId;

use crate::error::RecallError;
use crate::ledger::Ledger;
use crate::published::{Foreign, Versioned, reclaim};
use crate::watch::Watched;

/// What a memory knew after some chunk. Never changes while more than its learner hold it.
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
    /// Rises when the watch goes back: what lies beside the generations is written anew then.
    pub(crate) lineage: u64,
    /// The memory.
    pub(crate) state: MemoryState,
    /// What was stored, as far as it is in the memory.
    pub(crate) ledger: Arc<Ledger>,
    /// What is known of its recall, where that is watched and something was learned.
    pub(crate) watched: Option<Arc<Watched>>,
    /// What the chunk changed since the version before, if it is known.
    pub(crate) changed: Option<StateDelta>,
}

/// What happened to a memory since the snapshot before.
pub(crate) enum Change {
    /// A chunk was learned.
    Learned {
        state: MemoryState,
        last_chunk_id: u64,
        ledger: Arc<Ledger>,
        watched: Option<Arc<Watched>>,
        changed: Option<StateDelta>,
    },
    /// The watch went back to a snapshot that was published before.
    WentBack { good: Arc<Snapshot> },
    /// It is again what a durable generation holds: it was rolled back or opened again.
    Reloaded {
        state: MemoryState,
        last_chunk_id: u64,
        history: u64,
        ledger: Arc<Ledger>,
    },
    /// It was learned again without what was to be forgotten.
    Rebuilt {
        state: MemoryState,
        last_chunk_id: u64,
        ledger: Arc<Ledger>,
    },
    /// The user was forgotten.
    Emptied { state: MemoryState },
}

impl Snapshot {
    /// The first snapshot of a shard: what its files hold, or nothing.
    pub(crate) fn first(shard: ShardId, state: MemoryState) -> Self {
        Self {
            shard,
            version: 0,
            last_chunk_id: 0,
            history: 0,
            lineage: 0,
            state,
            ledger: Arc::default(),
            watched: None,
            changed: None,
        }
    }

    /// The snapshot after this one. The only way from one to the next.
    pub(crate) fn successor(&self, change: Change) -> Self {
        let version = self.version + 1;
        let next = |state| Self {
            version,
            last_chunk_id: self.last_chunk_id,
            history: self.history,
            lineage: self.lineage,
            ..Self::first(self.shard, state)
        };
        match change {
            Change::Learned {
                state,
                last_chunk_id,
                ledger,
                watched,
                changed,
            } => Self {
                last_chunk_id,
                ledger,
                watched,
                changed,
                ..next(state)
            },
            Change::WentBack { good } => Self {
                last_chunk_id: good.last_chunk_id,
                history: good.history,
                lineage: self.lineage + 1,
                ledger: Arc::clone(&good.ledger),
                watched: good.watched.clone(),
                ..next(good.state.clone())
            },
            Change::Reloaded {
                state,
                last_chunk_id,
                history,
                ledger,
            } => Self {
                last_chunk_id,
                history,
                ledger,
                ..next(state)
            },
            Change::Rebuilt {
                state,
                last_chunk_id,
                ledger,
            } => Self {
                last_chunk_id,
                history: self.history + 1,
                ledger,
                ..next(state)
            },
            Change::Emptied { state } => Self {
                last_chunk_id: 0,
                ..next(state)
            },
        }
    }

    /// This state, to be written to: in the buffers of the one that it `replaced` if nobody
    /// reads that any more, otherwise shared with this one and copied by the write.
    pub(crate) fn next_state(&self, replaced: Option<Arc<Self>>) -> MemoryState {
        let (Some(changed), Some(replaced)) = (&self.changed, replaced) else {
            return self.state.clone();
        };
        let Some(Self { mut state, .. }) = reclaim(replaced, self) else {
            return self.state.clone();
        };
        state.catch_up(&self.state, changed);
        state
    }
}

impl Versioned for Snapshot {
    type Owner = ShardId;

    fn owner(&self) -> ShardId {
        self.shard
    }

    fn version(&self) -> u64 {
        self.version
    }
}

impl From<Foreign<ShardId>> for RecallError {
    fn from(foreign: Foreign<ShardId>) -> Self {
        Self::ForeignSnapshot {
            expected: foreign.expected,
            found: foreign.found,
            version: foreign.version,
        }
    }
}
