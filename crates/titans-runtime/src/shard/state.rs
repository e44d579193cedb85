//! What a shard knows of itself, and the one function that takes a new snapshot in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::command::Command;
use super::desk::Desk;
use super::live::LiveSnapshots;
use super::phase::{Event, Phase};
use super::stream::Stream;
use super::{Shard, ShardFiles};
use crate::context::{Bounds, Context};
use crate::health::Retry;
use crate::replay::PlacedRows;
use crate::snapshot::Snapshot;
use crate::stats::Footprint;

/// What an entry of a ledger takes beside its numbers: a pointer to it, its counts, and what an
/// allocator adds to each of its three pieces.
const PER_ENTRY: usize = 72;

/// Everything of a shard that changes, behind its lock. It is whole after every statement.
#[derive(Debug)]
pub(super) struct ShardState {
    pub(super) phase: Phase,
    /// Why, where the phase is one of failure.
    pub(super) reason: Option<Arc<str>>,
    /// A save that failed and waits for its next attempt.
    pub(super) retry: Option<Retry>,
    /// How many saves have failed, so that whoever waits for one learns of it.
    pub(super) failed_saves: u64,
    pub(super) stream: Stream,
    /// Who has the shard, and its files while nobody has.
    pub(super) desk: Desk<Box<ShardFiles>, Command>,
    /// What is being saved is the stream's up to here: the watch may have gone back meanwhile.
    pub(super) saving_holds_to: u64,
    /// A snapshot is being saved.
    pub(super) saving: bool,
    /// What the published snapshot replaced, for its buffers; only while more is to be learned.
    pub(super) replaced: Option<Arc<Snapshot>>,
    pub(super) live: LiveSnapshots,
    /// Published, not yet durable, oldest first, without the one being saved.
    pub(super) unsaved: VecDeque<Arc<Snapshot>>,
    /// Learned tokens that the next generation needs beside it.
    pub(super) unsaved_rows: Vec<PlacedRows>,
    pub(super) visible: Mark,
    pub(super) durable: Mark,
    /// When the last save succeeded, or the shard was opened.
    pub(super) last_save: Instant,
    /// Saves up to this place do not wait for the policy's pause.
    pub(super) save_to: u64,
    /// What the sums of the runtime count for this shard; `None` once it has left.
    pub(super) accounted: Option<Footprint>,
}

/// A snapshot as a place in the stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) version: u64,
    pub(super) tokens: u64,
}

/// What a wait is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Watermark {
    Visible,
    Durable,
}

/// How a snapshot comes to be the newest one.
pub(crate) enum Arrival {
    /// A chunk was learned; the ledger was told so many notes. It is to be saved.
    Learned {
        rows: Option<PlacedRows>,
        notes: usize,
    },
    /// The watch went back. What waits is dropped; it is to be saved.
    WentBack,
    /// It is durable already. What waits is dropped, and a memory that had failed goes on.
    Durable,
    /// Its user was forgotten.
    Emptied,
}

/// What taking a snapshot in has done.
pub(crate) struct Adopted {
    /// When it should be saved; `None` if nothing but a flush makes it durable.
    pub(crate) due: Option<Instant>,
    /// Tokens that were accepted and are not in it.
    pub(crate) tokens_dropped: u64,
}

impl Mark {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self {
            version: snapshot.version,
            tokens: snapshot.state.tokens_seen,
        }
    }
}

impl Shard {
    /// Makes a snapshot the newest one. Nothing else publishes, moves a mark, or decides what
    /// is to be saved.
    ///
    /// The caller has the shard: it is the learner that learned the snapshot, or the thread
    /// that owns the files and has made it durable.
    pub(crate) fn adopt(
        &self,
        successor: Snapshot,
        arrival: Arrival,
        context: &Context,
    ) -> Adopted {
        let snapshot = Arc::new(successor);
        let mark = Mark::of(&snapshot);
        let durability = context.bounds.durability;
        // Before the marks: whoever is told that it is visible finds it.
        let started = Instant::now();
        let replaced = self.published.publish(Arc::clone(&snapshot));
        let published_in = started.elapsed();
        let mut state = self.state.lock();
        state.live.add(&snapshot);
        state.visible = mark;
        let mut tokens_dropped = 0;
        // Freed after the lock: it may be the last of large buffers.
        let mut older: Vec<Option<Arc<Snapshot>>> = Vec::new();
        let is_learned = matches!(arrival, Arrival::Learned { .. });
        match arrival {
            Arrival::Learned { rows, notes } => {
                // Not before the swap: whoever looks for an item looks at the notes and then at
                // the snapshot, and finds it in one of them.
                state.stream.told(notes);
                older.push(match context.bounds.keep_replaced {
                    true => state.replaced.replace(replaced),
                    false => Some(replaced),
                });
                if durability.coalesces() {
                    older.extend(state.unsaved.drain(..).map(Some));
                }
                state.unsaved.push_back(snapshot);
                state.unsaved_rows.extend(rows);
            }
            Arrival::WentBack => {
                tokens_dropped = state.restart_at(mark.tokens);
                // What a saver has in hand may be of the memory that is left behind.
                state.saving_holds_to = state.saving_holds_to.min(mark.tokens);
                state.durable.tokens = state.durable.tokens.min(mark.tokens);
                older.extend(state.unsaved.drain(..).map(Some));
                older.extend([state.replaced.take(), Some(replaced)]);
                state.unsaved.push_back(snapshot);
            }
            Arrival::Durable | Arrival::Emptied => {
                tokens_dropped = state.restart_at(mark.tokens);
                state.durable = mark;
                // It is durable, and so is what it was learned from.
                older.extend(state.unsaved.drain(..).map(Some));
                older.extend([state.replaced.take(), Some(replaced)]);
                state.unsaved_rows.clear();
                state.retry = None;
                state.reason = None;
                state.phase = state.phase.after(match arrival {
                    Arrival::Emptied => Event::Forget,
                    _ => Event::Recovered,
                });
            }
        }
        if !is_learned {
            let accepted = state.stream.chunker.accepted();
            self.accepted.store(accepted, Ordering::Relaxed);
        }
        let due = state.due(durability.pause(), Instant::now());
        drop(state);
        drop(older);
        self.changed.notify_all();
        if is_learned {
            context.timers.publish.record(published_in);
        }
        Adopted {
            due,
            tokens_dropped,
        }
    }

    /// Brings the sums of the runtime up to date after something came, was learned or saved.
    pub(crate) fn account(&self, context: &Context) {
        let besides = self.watch_bytes.load(Ordering::Relaxed) + self.published_ledger_bytes();
        let mut state = self.state.lock();
        state.live.count();
        let is_unusual = state.live.is_unusual();
        let now = state.footprint(context.state_bytes, besides);
        // A thread may still be at work for a shard that has left, and must not count it anew.
        let before = (state.accounted.as_mut()).map(|before| std::mem::replace(before, now));
        drop(state);
        if let Some(before) = before {
            context.meters.replace(before, now);
        }
        if let Some(snapshots) = is_unusual {
            tracing::warn!(shard = %self.id, snapshots, "readers or savers hold on to old snapshots");
        }
    }

    /// Takes the shard out of the sums for good.
    pub(crate) fn account_nothing(&self, context: &Context) {
        let before = self.state.lock().accounted.take();
        if let Some(before) = before {
            context.meters.replace(before, Footprint::default());
        }
    }

    fn published_ledger_bytes(&self) -> usize {
        let published = self.published.load();
        let entries = published.ledger.entries().len();
        published.ledger.bytes() + entries * PER_ENTRY
    }
}

impl ShardState {
    /// Lets the stream go on at a place, behind which nothing counts any more. Returns how many
    /// tokens had been accepted beyond it.
    fn restart_at(&mut self, place: u64) -> u64 {
        let accepted = self.stream.restart_at(place);
        self.unsaved_rows.retain(|rows| rows.end() <= place);
        self.save_to = 0;
        accepted.saturating_sub(place)
    }

    pub(super) fn mark(&self, watermark: Watermark) -> Mark {
        match watermark {
            Watermark::Visible => self.visible,
            Watermark::Durable => self.durable,
        }
    }

    pub(super) fn may_learn(&self, bounds: &Bounds) -> bool {
        let unsaved = self.visible.version.saturating_sub(self.durable.version);
        self.phase.learns()
            && self.desk.lets_learn()
            && unsaved < bounds.durability.max_unsaved()
            && self.stream.chunker.ready() > 0
    }

    /// When the next save may begin; `None` if never by itself.
    pub(super) fn due(&self, pause: Duration, now: Instant) -> Option<Instant> {
        // What is tried again was due before.
        let by_policy = match self.save_to <= self.durable.tokens && self.retry.is_none() {
            true => self.last_save.checked_add(pause)?,
            false => now,
        };
        let retry = self.retry.as_ref().map(|retry| retry.not_before);
        Some(by_policy.max(now).max(retry.unwrap_or(now)))
    }

    fn footprint(&self, state_bytes: usize, besides: usize) -> Footprint {
        let queued_tokens = self.stream.chunker.waiting();
        let waiting = self.stream.chunker.bytes();
        let rows = self
            .unsaved_rows
            .iter()
            .map(PlacedRows::bytes)
            .sum::<usize>();
        let dirty = self.unsaved.len() + usize::from(self.saving);
        let states = self.live.states();
        Footprint {
            resident_bytes: states * state_bytes + waiting + rows + besides,
            dirty_bytes: dirty * state_bytes + waiting + rows,
            queued_tokens,
            snapshots: self.live.len(),
            is_unhealthy: self.phase.is_failure() || self.retry.is_some(),
        }
    }
}
