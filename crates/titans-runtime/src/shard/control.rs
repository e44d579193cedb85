//! What is done to a memory while nothing else is: pin, roll back, forget.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use titans_store::{Generation, MemoryStore};

use super::{Mark, Shard, ShardState, Stopped};
use crate::engine::Engine;
use crate::error::RuntimeError;
use crate::snapshot::Snapshot;

/// What a rollback did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RolledBack {
    /// Number of the new generation, which holds what the pinned one holds.
    pub generation: u64,
    /// Tokens of the stream that the memory has now learned; the next one handed over
    /// continues there.
    pub tokens: u64,
    /// Tokens that were learned or waiting and are not any more.
    pub tokens_dropped: u64,
}

/// Learners, savers and `observe` stay away while this exists.
struct Paused<'a> {
    shard: &'a Shard,
    _no_producer: MutexGuard<'a, ()>,
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.shard.lock().paused = false;
    }
}

impl Shard {
    /// Makes the newest durable generation the one to roll back to.
    pub(crate) fn pin(&self) -> Result<u64, RuntimeError> {
        let mut store = self.files();
        let store = store.as_mut().ok_or(RuntimeError::Closed)?;
        let newest = store.generations()?.into_iter().max();
        let generation = newest.unwrap_or(Generation::new(0));
        store.pin_last_known_good(generation)?;
        Ok(generation.number())
    }

    /// Goes back to the pinned generation, as a new generation, and drops what waits.
    ///
    /// A memory that failed goes on from there, if its files can be written.
    pub(crate) fn roll_back(&self, engine: &Engine) -> Result<RolledBack, RuntimeError> {
        let _paused = self.pause();
        let (generation, image) = {
            let mut store = self.files();
            let store = store.as_mut().ok_or(RuntimeError::Closed)?;
            let saved = store.roll_back_to_last_known_good()?;
            (saved.generation, store.load(saved.generation)?)
        };
        let snapshot = Arc::new(Snapshot {
            shard: self.id,
            version: self.published.load().version + 1,
            last_chunk_id: image.last_chunk_id,
            state: engine.identity.state(&engine.memory, image)?,
            changed: None,
        });
        let mut state = self.lock();
        let dropped = state.chunker.accepted();
        let mark = Mark::of(&snapshot);
        state.chunker.restart_at(mark.tokens);
        state.unsaved.clear();
        (state.visible, state.durable) = (mark, mark);
        state.rollbacks += 1;
        state.save_to = 0;
        if state.stopped.as_ref().is_some_and(Stopped::is_failure) {
            state.stopped = None;
        }
        self.accepted.store(mark.tokens, Ordering::Relaxed);
        state.live.add(&snapshot);
        let older = (state.replaced.take(), self.published.publish(snapshot));
        drop(state);
        drop(older);
        self.changed.notify_all();
        Ok(RolledBack {
            generation: generation.number(),
            tokens: mark.tokens,
            tokens_dropped: dropped.saturating_sub(mark.tokens),
        })
    }

    /// Closes the files and takes what was learned out of every reader's reach.
    pub(crate) fn empty(&self, nothing: Snapshot) {
        let _paused = self.pause();
        self.close_files();
        let version = self.published.load().version + 1;
        let nothing = Arc::new(Snapshot { version, ..nothing });
        self.published.publish(Arc::clone(&nothing));
        let mut state = self.lock();
        state.live.add(&nothing);
        state.unsaved.clear();
        state.replaced = None;
        state.chunker.restart_at(0);
        state.stopped = Some(Stopped::Failed("the user was forgotten".into()));
        drop(state);
        self.changed.notify_all();
    }

    fn pause(&self) -> Paused<'_> {
        let no_producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.lock();
        state.paused = true;
        while state.is_busy() {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        Paused {
            shard: self,
            _no_producer: no_producer,
        }
    }

    fn files(&self) -> MutexGuard<'_, Option<MemoryStore>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ShardState {
    /// Whether a learner or a saver has the shard.
    fn is_busy(&self) -> bool {
        self.learning || self.saving
    }
}
