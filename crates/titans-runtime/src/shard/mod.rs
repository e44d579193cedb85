//! One user's memory: what waits, what is visible, what is durable.
//!
//! Everything that changes lies behind one lock, which is held for bookkeeping and copies,
//! never while something is learned or saved. Readers do not take it: they load the
//! published snapshot and two counters. [`changed`](Shard::wait) wakes whoever waits for
//! progress or for room.

mod chunker;
mod control;
mod files;
mod footprint;
mod forget;
mod lease;
mod live;
mod open;

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use titans_store::ShardId;

pub(crate) use self::chunker::{Chunker, TokenRows};
pub use self::control::RolledBack;
pub(crate) use self::files::ShardFiles;
pub(crate) use self::footprint::Sizes;
pub use self::forget::{ForgottenItem, Rebuilt};
use self::lease::Leases;
pub(crate) use self::lease::{Leased, Slot};
use self::live::LiveSnapshots;
use crate::config::{Durability, WhenFull};
use crate::error::RuntimeError;
use crate::ledger::{Entry, ItemId, Ledger};
use crate::published::Published;
use crate::replay::PlacedRows;
use crate::rows::Rows;
use crate::snapshot::Snapshot;
use crate::stats::{Footprint, Timer};
use crate::watch::Watch;

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
    /// What is known of recall; learners look, one at a time. `None` where nobody watches.
    pub(crate) watch: Mutex<Option<Watch>>,
    /// Held while a file is written; only savers take it. `None` once the files are closed.
    pub(crate) files: Mutex<Option<ShardFiles>>,
    skipped: Vec<String>,
    leases: Leases,
    state: Mutex<ShardState>,
    changed: Condvar,
}

#[derive(Debug)]
struct ShardState {
    chunker: Chunker,
    /// What the next snapshots have to tell their ledger, in the order of the stream.
    notes: VecDeque<Note>,
    /// A learner has the shard, or it waits in the learners' queue.
    learning: bool,
    /// A saver has the shard.
    saving: bool,
    /// What it saves is the stream's up to here: the watch may have gone back meanwhile.
    saving_holds_to: u64,
    /// What the published snapshot replaced, for its buffers; only while more is to be learned.
    replaced: Option<Arc<Snapshot>>,
    live: LiveSnapshots,
    /// Published, not yet durable, oldest first, without the one being saved.
    unsaved: VecDeque<Arc<Snapshot>>,
    /// Learned tokens that the next generation needs beside it.
    unsaved_rows: Vec<PlacedRows>,
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
    /// What the sums of the runtime count for this shard; `None` once it has left.
    accounted: Option<Footprint>,
}

/// What a ledger is told once the tokens it is about are learned.
#[derive(Clone, Debug)]
enum Note {
    Stored(Arc<Entry>),
    Erased(ItemId, Range<u64>),
}

impl Note {
    fn end(&self) -> u64 {
        match self {
            Self::Stored(entry) => entry.tokens.end,
            Self::Erased(_, by) => by.end,
        }
    }
}

/// What a caller says of tokens that it hands over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum About {
    /// Nothing.
    Nothing,
    /// They are, or are a piece of, this item, handed over at this time.
    Stored(ItemId, u64),
    /// They write over this item.
    Erases(ItemId),
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
    /// What was taken is still learned and saved.
    Closed,
    /// Nothing is learned or saved any more: the threads are gone.
    Ended,
    Failed(Arc<str>),
}

impl From<&Stopped> for RuntimeError {
    fn from(stopped: &Stopped) -> Self {
        match stopped {
            Stopped::Closed | Stopped::Ended => Self::Closed,
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
    /// The tokens that were learned since the version that the disk holds.
    pub(crate) rows: Vec<PlacedRows>,
}

/// How much may wait in front of the learner and behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) queue_tokens: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) durability: Durability,
    /// Bytes of a ledger, at most.
    pub(crate) ledger_bytes: usize,
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
        files: ShardFiles,
        snapshot: Snapshot,
        chunker: Chunker,
        skipped: Vec<String>,
        watch: Option<Watch>,
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
            watch: Mutex::new(watch),
            files: Mutex::new(Some(files)),
            skipped,
            leases: Leases::default(),
            state: Mutex::new(ShardState {
                chunker,
                notes: VecDeque::new(),
                learning: false,
                saving: false,
                saving_holds_to: u64::MAX,
                replaced: None,
                live,
                unsaved: VecDeque::new(),
                unsaved_rows: Vec::new(),
                visible: mark,
                durable: mark,
                last_save: None,
                save_to: 0,
                paused: false,
                rollbacks: 0,
                stopped: None,
                accounted: Some(Footprint::default()),
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

    /// A place in the stream as it is now.
    fn position(&self, tokens: u64) -> Position {
        let rollbacks = self.lock().rollbacks;
        Position { tokens, rollbacks }
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

    /// Takes all rows, which are checked, or, unless it may wait for room, none. Calls `wake`
    /// whenever a learner may have something to do. Returns the position after the last row.
    pub(crate) fn push(
        &self,
        rows: (Rows<'_>, Rows<'_>),
        about: About,
        bounds: &Bounds,
        wake: impl Fn(),
    ) -> Result<Position, RuntimeError> {
        let turn = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        self.push_in_turn(&turn, rows, about, bounds, wake)
    }

    /// [`push`](Self::push) by whoever has the turn.
    fn push_in_turn(
        &self,
        _turn: &MutexGuard<'_, ()>,
        (keys, values): (Rows<'_>, Rows<'_>),
        about: About,
        bounds: &Bounds,
        wake: impl Fn(),
    ) -> Result<Position, RuntimeError> {
        let tokens = keys.len();
        // An entry of the ledger is made of numbers; making them needs no lock.
        let noted = match about {
            About::Stored(..) => TokenRows::of(keys, values),
            About::Nothing | About::Erases(_) => TokenRows::default(),
        };
        let mut state = self.lock();
        let rollbacks = state.rollbacks;
        let (mut start, mut is_noted) = (0, tokens == 0);
        loop {
            if let Some(stopped) = &state.stopped {
                let error = stopped.into();
                // Of an item that was not taken whole, nothing is known.
                let accepted = state.chunker.accepted();
                state.notes.retain(|note| note.end() <= accepted);
                return Err(error);
            }
            let queued = state.chunker.waiting();
            if state.rollbacks != rollbacks {
                return Err(RuntimeError::RolledBack);
            }
            let room = bounds.queue_tokens.saturating_sub(queued);
            let offered = tokens - start;
            if offered > room && bounds.when_full == WhenFull::Busy {
                return Err(RuntimeError::Busy {
                    queued,
                    offered,
                    limit: bounds.queue_tokens,
                });
            }
            if !is_noted {
                state.note(about, &noted, tokens as u64);
                is_noted = true;
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
            while state.stopped.is_none()
                && state.rollbacks == rollbacks
                && state.chunker.waiting() >= bounds.queue_tokens
            {
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
    pub(crate) fn publish(
        &self,
        mut snapshot: Snapshot,
        rows: Option<PlacedRows>,
        bounds: &Bounds,
        timer: &Timer,
    ) -> Instant {
        let tokens = snapshot.state.tokens_seen;
        let notes: Vec<Note> = self.lock().notes_before(tokens).cloned().collect();
        if !notes.is_empty() {
            let mut ledger = Ledger::clone(&snapshot.ledger);
            for note in &notes {
                match note {
                    Note::Stored(entry) => ledger.push(Arc::clone(entry), bounds.ledger_bytes),
                    Note::Erased(item, by) => ledger.mark_erased(*item, by),
                }
            }
            snapshot.ledger = Arc::new(ledger);
        }
        let snapshot = Arc::new(snapshot);
        let replaced = timer.time(|| self.published.publish(Arc::clone(&snapshot)));
        let mut state = self.lock();
        state.visible = Mark::of(&snapshot);
        // Not before the swap: whoever looks for an item looks at the notes and then at the
        // snapshot, and finds it in one of them.
        state.notes.drain(..notes.len());
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
        state.unsaved_rows.extend(rows);
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
        state.saving_holds_to = u64::MAX;
        let tokens = snapshot.state.tokens_seen;
        let rows = state.unsaved_rows.iter();
        let included = rows.take_while(|rows| rows.end() <= tokens).count();
        Some(SaveJob {
            follows_durable: snapshot.version == state.durable.version + 1,
            snapshot,
            rows: state.unsaved_rows.drain(..included).collect(),
        })
    }

    /// Records a save. Returns when the next one is due, if something waits for it.
    pub(crate) fn saved(&self, job: SaveJob, bounds: &Bounds) -> Option<Instant> {
        let saved = Mark::of(&job.snapshot);
        // Before anybody learns on: its buffers may be the next ones.
        drop(job);
        let mut state = self.lock();
        state.saving = false;
        state.durable = Mark {
            tokens: saved.tokens.min(state.saving_holds_to),
            ..saved
        };
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

    /// Lets nobody wait any more for what no thread is left to do.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        (state.learning, state.saving) = (false, false);
        if !state.stopped.as_ref().is_some_and(Stopped::is_failure) {
            state.stopped = Some(Stopped::Ended);
        }
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
            if let Some(stopped @ (Stopped::Ended | Stopped::Failed(_))) = &state.stopped {
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
    /// Lets the stream go on at `position` after a rollback; what waits is dropped. Returns
    /// how many tokens had been accepted.
    fn restart_at(&mut self, position: u64) -> u64 {
        let accepted = self.chunker.accepted();
        self.chunker.restart_at(position);
        self.notes.clear();
        self.unsaved_rows.retain(|rows| rows.end() <= position);
        self.rollbacks += 1;
        self.save_to = 0;
        accepted
    }

    /// Notes what the ledger has to be told of the next `tokens` tokens.
    fn note(&mut self, about: About, rows: &TokenRows, tokens: u64) {
        let start = self.chunker.accepted();
        let range = start..start + tokens;
        self.notes.extend(match about {
            About::Nothing => None,
            About::Stored(item, unix) => {
                let entry = Entry::new(item, range, unix, &rows.keys, &rows.values);
                Some(Note::Stored(Arc::new(entry)))
            }
            About::Erases(item) => Some(Note::Erased(item, range)),
        });
    }

    /// The notes about tokens before `position`.
    fn notes_before(&self, position: u64) -> impl Iterator<Item = &Note> {
        let notes = self.notes.iter();
        notes.take_while(move |note| note.end() <= position)
    }

    /// The pieces of an item that no snapshot may have yet.
    fn noted_pieces(&self, item: ItemId) -> Vec<Arc<Entry>> {
        let mut pieces = Vec::new();
        for note in &self.notes {
            match note {
                Note::Stored(entry) if entry.item == item => pieces.push(Arc::clone(entry)),
                Note::Erased(erased, _) if *erased == item => pieces.clear(),
                Note::Stored(_) | Note::Erased(..) => {}
            }
        }
        pieces
    }

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
        let is_over = matches!(&self.stopped, Some(Stopped::Failed(_) | Stopped::Ended));
        !is_over
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
