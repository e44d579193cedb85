//! One user's memory: what waits, what is visible, what is durable.
//!
//! Everything that changes lies behind one lock, which is held for bookkeeping and copies,
//! never while something is learned or saved. Readers do not take it: they load the
//! published snapshot and two counters. [`changed`](Shard::wait) wakes whoever waits for
//! progress or for room.

mod chunker;
mod control;
mod lease;
mod live;
mod open;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use titans_store::{MemoryStore, ShardId};

pub(crate) use self::chunker::{Chunker, TokenRows};
pub use self::control::RolledBack;
use self::lease::Leases;
pub(crate) use self::lease::{Leased, Slot};
use self::live::LiveSnapshots;
use crate::config::{Durability, WhenFull};
use crate::error::RuntimeError;
use crate::published::Published;
use crate::rows::Rows;
use crate::snapshot::Snapshot;
use crate::stats::Timer;

/// A promise that a shard stays in memory while this exists.
pub(crate) type Lease = lease::Lease<Shard>;

/// How far a memory has come, in tokens since it first learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Tokens handed over.
    pub accepted: u64,
    /// Tokens that readers see learned.
    pub visible: u64,
    /// Tokens that a crash cannot take.
    pub durable: u64,
}

/// One user's memory while it is open.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) id: ShardId,
    pub(crate) published: Published<Snapshot>,
    /// A copy of [`Chunker::accepted`] for readers, who report their lag by it. Relaxed: it
    /// orders nothing.
    accepted: AtomicU64,
    /// One `observe` at a time, so that the rows of two calls do not mix.
    producer: Mutex<()>,
    /// Held while a file is written; only savers take it. `None` once the files are closed.
    pub(crate) store: Mutex<Option<MemoryStore>>,
    skipped: Vec<String>,
    leases: Leases,
    state: Mutex<ShardState>,
    changed: Condvar,
}

#[derive(Debug)]
struct ShardState {
    chunker: Chunker,
    /// A learner has the shard, or it waits in the learners' queue.
    learning: bool,
    /// A saver has the shard.
    saving: bool,
    /// What the published snapshot replaced, for its buffers; only while more is to be learned.
    replaced: Option<Arc<Snapshot>>,
    live: LiveSnapshots,
    /// Published, not yet durable, oldest first, without the one being saved.
    unsaved: VecDeque<Arc<Snapshot>>,
    visible: Mark,
    durable: Mark,
    last_save: Option<Instant>,
    /// Saves up to this position do not wait for the policy's pause.
    save_to: u64,
    /// Nobody learns or saves.
    paused: bool,
    /// Positions before a rollback mean nothing after it.
    rollbacks: u64,
    stopped: Option<Stopped>,
}

/// A place in a user's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) tokens: u64,
    /// How often the memory had been rolled back.
    rollbacks: u64,
}

/// A snapshot as a place in the stream.
#[derive(Clone, Copy, Debug)]
struct Mark {
    version: u64,
    tokens: u64,
}

impl Mark {
    fn of(snapshot: &Snapshot) -> Self {
        Self {
            version: snapshot.version,
            tokens: snapshot.state.tokens_seen,
        }
    }
}

/// Why nothing more is taken.
#[derive(Clone, Debug)]
enum Stopped {
    Closed,
    Failed(Arc<str>),
}

impl From<&Stopped> for RuntimeError {
    fn from(stopped: &Stopped) -> Self {
        match stopped {
            Stopped::Closed => Self::Closed,
            Stopped::Failed(reason) => Self::Failed {
                reason: Arc::clone(reason),
            },
        }
    }
}

/// What a learner finds when it has a shard.
#[derive(Debug)]
pub(crate) enum NextChunk {
    Rows(TokenRows),
    /// The shard stays with the learner.
    OfOtherLength,
    /// The shard is free.
    Nothing,
}

/// What a thread does with a shard.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Learning,
    Saving,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Learning => "learning",
            Self::Saving => "saving",
        })
    }
}

/// A snapshot for a saver.
#[derive(Debug)]
pub(crate) struct SaveJob {
    pub(crate) snapshot: Arc<Snapshot>,
    /// Whether the version before it is what the disk holds.
    pub(crate) follows_durable: bool,
}

/// How much may wait in front of the learner and behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) queue_tokens: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) durability: Durability,
    /// Whether the buffers of a replaced snapshot are of use for the next one.
    pub(crate) keep_replaced: bool,
}

impl Leased for Shard {
    fn leases(&self) -> &Leases {
        &self.leases
    }
}

impl Shard {
    /// A shard whose snapshot is what the disk holds.
    fn new(
        store: MemoryStore,
        snapshot: Snapshot,
        chunker: Chunker,
        skipped: Vec<String>,
        live: Arc<AtomicUsize>,
    ) -> Self {
        let mark = Mark::of(&snapshot);
        let published = Published::new(snapshot);
        let first = published.load();
        let mut live = LiveSnapshots::new(first.shard, live);
        live.add(&first);
        Self {
            id: first.shard,
            published,
            accepted: AtomicU64::new(mark.tokens),
            producer: Mutex::new(()),
            store: Mutex::new(Some(store)),
            skipped,
            leases: Leases::default(),
            state: Mutex::new(ShardState {
                chunker,
                learning: false,
                saving: false,
                replaced: None,
                live,
                unsaved: VecDeque::new(),
                visible: mark,
                durable: mark,
                last_save: None,
                save_to: 0,
                paused: false,
                rollbacks: 0,
                stopped: None,
            }),
            changed: Condvar::new(),
        }
    }

    /// Tokens handed over, for a reader: takes no lock.
    pub(crate) fn accepted_tokens(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The end of what was handed over.
    pub(crate) fn accepted(&self) -> Position {
        self.lock().accepted()
    }

    /// Whether everything before `position` is visible, or durable.
    pub(crate) fn has_reached(&self, position: Position, watermark: Watermark) -> bool {
        let state = self.lock();
        state.rollbacks == position.rollbacks && state.mark(watermark).tokens >= position.tokens
    }

    pub(crate) fn skipped(&self) -> &[String] {
        &self.skipped
    }

    pub(crate) fn progress(&self) -> Progress {
        let state = self.lock();
        Progress {
            accepted: state.chunker.accepted(),
            visible: state.visible.tokens,
            durable: state.durable.tokens,
        }
    }

    /// Takes all rows, which are checked, or, unless it may wait for room, none. Calls `wake` whenever a learner
    /// may have something to do. Returns the position after the last row.
    pub(crate) fn push(
        &self,
        keys: Rows<'_>,
        values: Rows<'_>,
        bounds: &Bounds,
        wake: impl Fn(),
    ) -> Result<Position, RuntimeError> {
        let tokens = keys.len();
        let _turn = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.lock();
        let mut start = 0;
        loop {
            if let Some(stopped) = &state.stopped {
                return Err(stopped.into());
            }
            let queued = state.chunker.waiting();
            let room = bounds.queue_tokens.saturating_sub(queued);
            let offered = tokens - start;
            if offered > room && bounds.when_full == WhenFull::Busy {
                return Err(RuntimeError::Busy {
                    queued,
                    offered,
                    limit: bounds.queue_tokens,
                });
            }
            let end = start + offered.min(room);
            state.chunker.push(keys, values, start..end);
            let accepted = state.chunker.accepted();
            self.accepted.store(accepted, Ordering::Relaxed);
            start = end;
            let position = state.accepted();
            drop(state);
            wake();
            if start == tokens {
                return Ok(position);
            }
            state = self.lock();
            while state.stopped.is_none() && state.chunker.waiting() >= bounds.queue_tokens {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Claims the shard for a learner, if there is something to learn and no learner has it.
    pub(crate) fn claim_for_learning(&self, bounds: &Bounds) -> bool {
        let mut state = self.lock();
        let claimed = !state.learning && state.may_learn(bounds);
        state.learning |= claimed;
        claimed
    }

    /// The next chunk for the learner that has the shard, if it is `length` tokens long or if
    /// any length will do.
    pub(crate) fn next_chunk(&self, length: Option<usize>, bounds: &Bounds) -> NextChunk {
        let mut state = self.lock();
        let ready = match state.may_learn(bounds) {
            true => state.chunker.ready(),
            false => 0,
        };
        if length.is_some_and(|length| ready > 0 && ready != length) {
            return NextChunk::OfOtherLength;
        }
        let rows = (ready > 0).then(|| state.chunker.take()).flatten();
        state.learning = rows.is_some();
        // A memory that has caught up needs no more than what its readers see.
        let is_idle = rows.is_none() && state.chunker.waiting() == 0;
        let replaced = is_idle.then(|| state.replaced.take());
        drop(state);
        if replaced.is_some() {
            drop(replaced);
            self.lock().live.count();
        }
        // There is room in the queue now.
        self.changed.notify_all();
        rows.map_or(NextChunk::Nothing, NextChunk::Rows)
    }

    /// What the published snapshot replaced, if it was kept.
    pub(crate) fn take_replaced(&self) -> Option<Arc<Snapshot>> {
        self.lock().replaced.take()
    }

    /// Publishes what a learner made of a chunk. Returns when it should be saved.
    ///
    /// `timer` measures the exclusive section, which is the swap and nothing else: what is
    /// replaced is freed after it and outside the lock.
    pub(crate) fn publish(&self, snapshot: Snapshot, bounds: &Bounds, timer: &Timer) -> Instant {
        let snapshot = Arc::new(snapshot);
        let replaced = timer.time(|| self.published.publish(Arc::clone(&snapshot)));
        let mut state = self.lock();
        state.visible = Mark::of(&snapshot);
        state.live.add(&snapshot);
        let older = match bounds.keep_replaced {
            true => state.replaced.replace(replaced),
            false => Some(replaced),
        };
        let passed_over = match bounds.durability.coalesces() {
            true => std::mem::take(&mut state.unsaved),
            false => VecDeque::new(),
        };
        state.unsaved.push_back(snapshot);
        let due = state.due(bounds.durability.pause(), Instant::now());
        drop(state);
        self.changed.notify_all();
        drop((older, passed_over));
        due
    }

    /// The oldest unsaved snapshot for a saver, unless another saver has the shard.
    pub(crate) fn claim_for_saving(&self, bounds: &Bounds) -> Option<SaveJob> {
        let mut state = self.lock();
        let now = Instant::now();
        // A turn can be older than the last save. Whoever made the next save necessary has
        // asked for a turn of its own.
        let is_due = state.due(bounds.durability.pause(), now) <= now;
        let failed = state.stopped.as_ref().is_some_and(Stopped::is_failure);
        if state.saving || state.paused || failed || !is_due {
            return None;
        }
        let snapshot = state.unsaved.pop_front()?;
        state.saving = true;
        Some(SaveJob {
            follows_durable: snapshot.version == state.durable.version + 1,
            snapshot,
        })
    }

    /// Records a save. Returns when the next one is due, if something waits for it.
    pub(crate) fn saved(&self, snapshot: Arc<Snapshot>, bounds: &Bounds) -> Option<Instant> {
        let mark = Mark::of(&snapshot);
        // Before anybody learns on: its buffers may be the next ones.
        drop(snapshot);
        let mut state = self.lock();
        state.saving = false;
        state.durable = mark;
        state.live.count();
        state.last_save = Some(Instant::now());
        let due = (!state.unsaved.is_empty())
            .then(|| state.due(bounds.durability.pause(), Instant::now()));
        drop(state);
        self.changed.notify_all();
        due
    }

    /// Ends learning and saving for good; readers keep the last snapshot.
    ///
    /// The other step may still be at work here. It finds out when it is done, and until then
    /// the shard counts as busy, so that no rollback is overtaken by what it publishes.
    pub(crate) fn fail(&self, step: Step, reason: Arc<str>) {
        let mut state = self.lock();
        match step {
            Step::Learning => state.learning = false,
            Step::Saving => state.saving = false,
        }
        state.stopped = Some(Stopped::Failed(reason));
        drop(state);
        self.changed.notify_all();
    }

    /// Takes nothing more; what was taken is still learned and saved.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.stopped.get_or_insert(Stopped::Closed);
        drop(state);
        self.changed.notify_all();
    }

    /// Lets everything before `position` be learned and saved without waiting for a whole
    /// chunk or for the policy's pause. `true` when something waits to be saved.
    pub(crate) fn hurry(&self, position: Position) -> bool {
        let mut state = self.lock();
        if state.rollbacks != position.rollbacks {
            return false;
        }
        state.chunker.flush_to(position.tokens);
        state.save_to = state.save_to.max(position.tokens);
        !state.unsaved.is_empty()
    }

    /// Waits until `position` is learned, or also saved.
    pub(crate) fn wait(
        &self,
        position: Position,
        until: Watermark,
        deadline: Option<Instant>,
    ) -> Result<(), RuntimeError> {
        let started = Instant::now();
        let mut state = self.lock();
        loop {
            let reached = state.mark(until).tokens;
            if state.rollbacks != position.rollbacks {
                return Err(RuntimeError::RolledBack);
            }
            if reached >= position.tokens {
                return Ok(());
            }
            if let Some(stopped @ Stopped::Failed(_)) = &state.stopped {
                return Err(stopped.into());
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(RuntimeError::Timeout {
                    waited_ms: started.elapsed().as_millis(),
                });
            }
            state = match left {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Whether everything that was taken is durable and no thread is at work here.
    pub(crate) fn is_clean(&self) -> bool {
        let state = self.lock();
        let is_failed = state.stopped.as_ref().is_some_and(Stopped::is_failure);
        let is_saved = state.durable.tokens >= state.chunker.accepted();
        is_saved && !is_failed && !state.learning && !state.saving
    }

    /// What failed, if something did.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        match &self.lock().stopped {
            Some(Stopped::Failed(reason)) => Some(Arc::clone(reason)),
            _ => None,
        }
    }

    /// The bookkeeping under this lock is whole after every statement, so a panic elsewhere
    /// while it is held breaks nothing.
    fn lock(&self) -> MutexGuard<'_, ShardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ShardState {
    fn accepted(&self) -> Position {
        Position {
            tokens: self.chunker.accepted(),
            rollbacks: self.rollbacks,
        }
    }

    fn mark(&self, watermark: Watermark) -> Mark {
        match watermark {
            Watermark::Visible => self.visible,
            Watermark::Durable => self.durable,
        }
    }

    fn may_learn(&self, bounds: &Bounds) -> bool {
        let unsaved = self.visible.version.saturating_sub(self.durable.version);
        let failed = self.stopped.as_ref().is_some_and(Stopped::is_failure);
        !failed
            && !self.paused
            && unsaved < bounds.durability.max_unsaved()
            && self.chunker.ready() > 0
    }

    /// When the next save may begin.
    fn due(&self, pause: Duration, now: Instant) -> Instant {
        match self.last_save {
            Some(last) if self.save_to <= self.durable.tokens => (last + pause).max(now),
            _ => now,
        }
    }
}

impl Stopped {
    fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

/// What a wait is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Watermark {
    Visible,
    Durable,
}
