//! What a shard knows of itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::desk::Desk;
use super::files::ShardFiles;
use super::live::LiveSnapshots;
use super::order::Command;
use super::phase::Phase;
use super::stream::{Fate, Position, Stream};
use super::turns::Turns;
use super::waiters::Waiters;
use crate::context::Bounds;
use crate::health::Retry;
use crate::replay::PlacedRows;
use crate::snapshot::Snapshot;
use crate::stats::Footprint;

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
    /// Who hands tokens over, and who waits to.
    pub(super) turns: Turns<Waker>,
    /// Futures that wait until a place is visible.
    pub(super) until_visible: Waiters<Position, Waker>,
    /// Futures that wait until a place is durable.
    pub(super) until_durable: Waiters<Position, Waker>,
    /// What had gone wrong when somebody was last told of a change.
    pub(super) setbacks: Setbacks,
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

/// What makes the answer to a wait another one than that its place is reached. Each of the
/// numbers only rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setbacks {
    phase: Phase,
    failed_saves: u64,
    epoch: u64,
    dropped: u64,
}

impl Setbacks {
    /// Of a shard that was just opened.
    pub(super) const NONE: Self = Self {
        phase: Phase::Open,
        failed_saves: 0,
        epoch: 0,
        dropped: 0,
    };
}

impl Mark {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self {
            version: snapshot.version,
            tokens: snapshot.state.tokens_seen,
        }
    }
}

impl ShardState {
    /// Lets the stream go on at a place, behind which nothing counts any more. Returns how many
    /// tokens had been accepted beyond it.
    pub(super) fn restart_at(&mut self, place: u64) -> u64 {
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

    /// The futures that wait for a mark.
    pub(super) fn waiters(&mut self, watermark: Watermark) -> &mut Waiters<Position, Waker> {
        match watermark {
            Watermark::Visible => &mut self.until_visible,
            Watermark::Durable => &mut self.until_durable,
        }
    }

    /// Takes the wakers of everybody whose wait may be over after a change: of those whose
    /// place is reached and of whoever has room now, or of all when something went wrong.
    pub(super) fn take_due(&mut self) -> Vec<Waker> {
        let mut due = Vec::new();
        let setbacks = Setbacks {
            phase: self.phase,
            failed_saves: self.failed_saves,
            epoch: self.stream.epoch(),
            dropped: self.stream.dropped(),
        };
        if setbacks != self.setbacks {
            self.setbacks = setbacks;
            due.extend(self.until_visible.take_all());
            due.extend(self.until_durable.take_all());
            due.extend(self.turns.take_all());
            return due;
        }
        let stream = &self.stream;
        let is_reached = |mark: Mark| {
            move |position: &Position| match stream.fate(*position) {
                Fate::Expected(tokens) => mark.tokens >= tokens,
                Fate::RolledBack | Fate::Dropped => true,
            }
        };
        (self.until_visible).take_reached(is_reached(self.visible), &mut due);
        (self.until_durable).take_reached(is_reached(self.durable), &mut due);
        due.extend(self.turns.take_first(stream.chunker.waiting()));
        due
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

    pub(super) fn footprint(&self, state_bytes: usize, besides: usize) -> Footprint {
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
