//! What is done to a memory while nothing else is: pin, roll back, forget.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use titans_store::Generation;

use super::{Mark, Shard, ShardFiles, ShardState, Stopped};
use crate::checkpoint::MemoryIdentity;
use crate::engine::Engine;
use crate::error::RuntimeError;
use crate::ledger::{ItemId, Ledger};
use crate::snapshot::Snapshot;
use crate::watch::Watch;

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
pub(super) struct Paused<'a> {
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
        let mut files = self.files();
        let store = &mut files.as_mut().ok_or(RuntimeError::Closed)?.store;
        let newest = store.generations()?.into_iter().max();
        let generation = newest.unwrap_or(Generation::new(0));
        store.pin_last_known_good(generation)?;
        Ok(generation.number())
    }

    /// Goes back to the pinned generation, as a new generation, and drops what waits.
    ///
    /// A memory that failed goes on from there, if its files can be written.
    /// Also returns the items that had been forgotten since and are in it again.
    pub(crate) fn roll_back(
        &self,
        engine: &Engine,
    ) -> Result<(RolledBack, Vec<ItemId>), RuntimeError> {
        let _paused = self.pause();
        let current = self.published.load();
        let (generation, snapshot, erased_later) = {
            let mut files = self.files();
            let files = files.as_mut().ok_or(RuntimeError::Closed)?;
            let pinned = files.store.last_known_good()?;
            if let Some(image) = pinned.map(|pinned| files.store.load(pinned)).transpose()? {
                // Its positions would be those of another stream.
                if MemoryIdentity::history(&image) != current.history {
                    return Err(RuntimeError::RebuiltSince);
                }
            }
            let saved = files.store.roll_back_to_last_known_good()?;
            let image = files.store.load(saved.generation)?;
            let mut ledger = Ledger::clone(&current.ledger);
            let erased_later = ledger.truncate(image.tokens_seen);
            let snapshot = Snapshot {
                shard: self.id,
                version: current.version + 1,
                last_chunk_id: image.last_chunk_id,
                history: current.history,
                lineage: current.lineage,
                state: engine.identity.state(engine.memories.of(self.id), image)?,
                ledger: Arc::new(ledger),
                watched: None,
                changed: None,
            };
            files.go_back(&snapshot)?;
            (saved.generation, snapshot, erased_later)
        };
        let tokens = snapshot.state.tokens_seen;
        let accepted = self.go_on_from(snapshot);
        let rolled_back = RolledBack {
            generation: generation.number(),
            tokens,
            tokens_dropped: accepted.saturating_sub(tokens),
        };
        Ok((rolled_back, erased_later))
    }

    /// Publishes a snapshot that is durable and lets the stream go on behind it; what waits
    /// is dropped. Returns how many tokens had been accepted. The shard is paused.
    pub(super) fn go_on_from(&self, snapshot: Snapshot) -> u64 {
        let mark = Mark::of(&snapshot);
        self.tell_watch(|watch| watch.forget_behind(mark.tokens));
        let mut state = self.lock();
        let accepted = state.restart_at(mark.tokens);
        // It is durable, and so is what it was learned from.
        state.unsaved.clear();
        state.unsaved_rows.clear();
        (state.visible, state.durable) = (mark, mark);
        if state.stopped.as_ref().is_some_and(Stopped::is_failure) {
            state.stopped = None;
        }
        self.accepted.store(mark.tokens, Ordering::Relaxed);
        let snapshot = Arc::new(snapshot);
        state.live.add(&snapshot);
        let older = (state.replaced.take(), self.published.publish(snapshot));
        drop(state);
        drop(older);
        self.changed.notify_all();
        accepted
    }

    /// Goes back to a snapshot that was published: drops what was learned since and what
    /// waits. The learner that has the shard calls this, and the shard stays with it. Returns
    /// how many tokens were dropped.
    pub(crate) fn go_back(&self, good: &Snapshot) -> u64 {
        let tokens = good.state.tokens_seen;
        let current = self.published.load();
        let mut state = self.lock();
        let accepted = state.restart_at(tokens);
        // What a saver has in hand may be of the memory that is left behind.
        state.saving_holds_to = state.saving_holds_to.min(tokens);
        self.accepted.store(tokens, Ordering::Relaxed);
        let mut older = None;
        if good.version != current.version {
            let snapshot = Arc::new(Snapshot {
                shard: self.id,
                version: current.version + 1,
                last_chunk_id: good.last_chunk_id,
                history: good.history,
                lineage: current.lineage + 1,
                state: good.state.clone(),
                ledger: Arc::clone(&good.ledger),
                watched: good.watched.clone(),
                changed: None,
            });
            state.live.add(&snapshot);
            state.unsaved.clear();
            state.unsaved.push_back(Arc::clone(&snapshot));
            state.visible = Mark::of(&snapshot);
            state.durable.tokens = state.durable.tokens.min(tokens);
            older = Some((state.replaced.take(), self.published.publish(snapshot)));
        }
        drop(state);
        drop(older);
        self.changed.notify_all();
        accepted.saturating_sub(tokens)
    }

    /// Lets the watch know, where there is one.
    pub(super) fn tell_watch(&self, tell: impl FnOnce(&mut Watch)) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = watch.as_mut() {
            tell(watch);
        }
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
        state.restart_at(0);
        state.stopped = Some(Stopped::Failed("the user was forgotten".into()));
        drop(state);
        self.changed.notify_all();
    }

    fn pause(&self) -> Paused<'_> {
        let no_producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        self.pause_in_turn(no_producer)
    }

    /// Keeps everybody else away from here on. The caller has the turn to hand tokens over.
    pub(super) fn pause_in_turn<'a>(&'a self, no_producer: MutexGuard<'a, ()>) -> Paused<'a> {
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

    pub(super) fn files(&self) -> MutexGuard<'_, Option<ShardFiles>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ShardState {
    /// Whether a learner or a saver has the shard.
    fn is_busy(&self) -> bool {
        self.learning || self.saving
    }
}
