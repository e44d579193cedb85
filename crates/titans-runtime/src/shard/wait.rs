//! Waiting for a place in the stream, and being told why it is not reached.

use std::sync::Arc;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use super::phase::{Event, Phase};
use super::state::ShardState;
use super::stream::{Fate, Position};
use super::{Shard, Watermark};
use crate::error::WaitError;
use crate::health::Health;

/// How long a wait goes on when saving fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Until one attempt has failed.
    OneAttempt,
    /// Until the deadline.
    UntilDeadline,
}

/// What a future waits for. Whoever has polled it polls it to its end or takes it back, so that
/// its waker is not kept.
#[derive(Debug)]
pub(crate) struct Wait {
    pub(crate) position: Position,
    pub(crate) until: Watermark,
    /// What the shard knows it by; `None` until it is polled, and when it is over.
    begun: Option<Begun>,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    number: u64,
    /// Saves that had failed then.
    failed_before: u64,
}

impl Wait {
    pub(crate) fn new(position: Position, until: Watermark) -> Self {
        Self {
            position,
            until,
            begun: None,
        }
    }

    /// Whether it was polled and is not over.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }
}

impl ShardState {
    /// What becomes of a wait, if that is known.
    fn verdict(
        &self,
        position: Position,
        until: Watermark,
        failed_before: Option<u64>,
    ) -> Option<Result<(), WaitError>> {
        match self.stream.fate(position) {
            Fate::RolledBack => return Some(Err(WaitError::RolledBack)),
            Fate::Dropped => return Some(Err(WaitError::Dropped)),
            Fate::Expected(tokens) if self.mark(until).tokens >= tokens => return Some(Ok(())),
            Fate::Expected(_) => {}
        }
        if !self.phase.learns() {
            return Some(Err(self.phase.refusal(self.reason.as_ref()).into()));
        }
        let retry = self.retry.as_ref()?;
        (self.failed_saves > failed_before?).then(|| {
            Err(WaitError::Unavailable {
                reason: Arc::clone(&retry.reason),
            })
        })
    }
}

/// What a thread does with a shard.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Opening,
    Learning,
    Saving,
    Command,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Opening => "opening",
            Self::Learning => "learning",
            Self::Saving => "saving",
            Self::Command => "a change of the files",
        })
    }
}

impl Shard {
    /// The end of what was handed over.
    pub(crate) fn accepted(&self) -> Position {
        self.state.lock().stream.end()
    }

    /// The position behind a place in the memory.
    pub(crate) fn position(&self, place: u64) -> Position {
        self.state.lock().stream.position_of(place)
    }

    /// Whether everything before `position` is visible, or durable.
    pub(crate) fn has_reached(&self, position: Position, watermark: Watermark) -> bool {
        let state = self.state.lock();
        match state.stream.fate(position) {
            Fate::Expected(tokens) => state.mark(watermark).tokens >= tokens,
            Fate::RolledBack | Fate::Dropped => false,
        }
    }

    /// Lets everything before `position` be learned without waiting for a whole chunk and, if it
    /// is to be durable, be saved without waiting for the policy's pause or for the pause after
    /// a failure. `true` when something waits to be saved, or to be finished.
    pub(crate) fn hurry(&self, position: Position, until: Watermark) -> bool {
        let mut state = self.state.lock();
        let Fate::Expected(tokens) = state.stream.fate(position) else {
            return false;
        };
        state.stream.chunker.flush_to(tokens);
        if let Watermark::Visible = until {
            return false;
        }
        state.save_to = state.save_to.max(tokens);
        if let Some(retry) = &mut state.retry {
            retry.not_before = Instant::now();
        }
        !state.unsaved.is_empty() || state.retry.is_some()
    }

    /// Waits until `position` is learned, or also saved.
    pub(crate) fn wait(
        &self,
        position: Position,
        until: Watermark,
        patience: Patience,
        deadline: Option<Instant>,
    ) -> Result<(), WaitError> {
        let started = Instant::now();
        let mut state = self.state.lock();
        let failed_before = match patience {
            Patience::OneAttempt => Some(state.failed_saves),
            Patience::UntilDeadline => None,
        };
        loop {
            if let Some(verdict) = state.verdict(position, until, failed_before) {
                return verdict;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(WaitError::Timeout {
                    waited_ms: started.elapsed().as_millis(),
                });
            }
            state = match left {
                None => self.state.wait(state),
                Some(left) => self.state.wait_timeout(state, left),
            };
        }
    }

    /// [`wait`](Self::wait) until one attempt has failed, without a thread.
    pub(crate) fn poll_wait(
        &self,
        wait: &mut Wait,
        task: &mut task::Context<'_>,
    ) -> Poll<Result<(), WaitError>> {
        // Of the caller's executor, as every waker: copied and dropped without a lock.
        let waker = task.waker().clone();
        let mut state = self.state.lock();
        let begun = *wait.begun.get_or_insert_with(|| Begun {
            number: state.waiters(wait.until).arrive(),
            failed_before: state.failed_saves,
        });
        let place = wait.position.tokens;
        let verdict = state.verdict(wait.position, wait.until, Some(begun.failed_before));
        let waiters = state.waiters(wait.until);
        let Some(verdict) = verdict else {
            let before = waiters.wait(place, begun.number, wait.position, waker);
            drop(state);
            drop(before);
            return Poll::Pending;
        };
        let before = waiters.leave(place, begun.number);
        drop(state);
        drop(before);
        wait.begun = None;
        Poll::Ready(verdict)
    }

    /// Takes a wait back.
    pub(crate) fn stop_waiting(&self, wait: &mut Wait) {
        if let Some(begun) = wait.begun.take() {
            let mut state = self.state.lock();
            let waiters = state.waiters(wait.until);
            let unused = waiters.leave(wait.position.tokens, begun.number);
            drop(state);
            drop(unused);
        }
    }

    /// Waits until no thread is at work here. That what was taken is durable can be known a
    /// little before the learner, or the thread with the files, has let go of the shard.
    pub(crate) fn wait_until_idle(&self) {
        let mut state = self.state.lock();
        while state.desk.is_busy() && !state.desk.is_unattended() {
            state = self.state.wait(state);
        }
    }

    /// Takes nothing more; what was taken is still learned and saved.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.phase = state.phase.after(Event::Close);
        self.state.announce(state, ());
    }

    /// Lets nobody wait any more for what no thread is left to do.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        let commands = state.desk.dismiss();
        state.phase = state.phase.after(Event::End);
        // Whoever waits for one of the commands learns that it will not come.
        self.state.announce(state, commands);
    }

    /// Ends learning and saving until somebody resumes them; readers keep the last snapshot.
    /// `Broke` and `Froze` are what ends them.
    pub(crate) fn stop(&self, event: Event, reason: Arc<str>) {
        let mut state = self.state.lock();
        state.phase = state.phase.after(event);
        if state.phase.is_failure() {
            state.reason = Some(reason);
        }
        self.state.announce(state, ());
    }

    /// Whether everything that was taken is durable and no thread is at work here.
    pub(crate) fn is_clean(&self) -> bool {
        let state = self.state.lock();
        let is_saved = state.durable.tokens >= state.stream.chunker.accepted();
        is_saved && state.unsaved.is_empty() && !state.phase.is_failure() && !state.desk.is_busy()
    }

    /// Whether something failed that trying again does not mend.
    pub(crate) fn has_failed(&self) -> bool {
        self.state.lock().phase.is_failure()
    }

    /// How the memory is.
    pub(crate) fn health(&self) -> Health {
        let state = self.state.lock();
        let reason = || {
            let reason = state.reason.as_ref();
            reason.map_or_else(|| "unknown".into(), Arc::clone)
        };
        match (state.phase, &state.retry) {
            (Phase::Failed, _) => Health::Failed { reason: reason() },
            (Phase::Frozen, _) => Health::Frozen { reason: reason() },
            (Phase::Forgotten, _) => Health::Forgotten,
            (Phase::Closing | Phase::Closed, _) => Health::Closed,
            (Phase::Open | Phase::Retrying, None) => Health::Healthy,
            (Phase::Open | Phase::Retrying, Some(retry)) => Health::Retrying {
                reason: Arc::clone(&retry.reason),
                attempts: retry.attempts,
            },
        }
    }

    /// How many snapshots with something learned in them somebody holds.
    pub(crate) fn states_in_memory(&self) -> usize {
        let mut state = self.state.lock();
        state.live.count();
        state.live.states()
    }

    /// What failed, if something did and has not come back.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        let state = self.state.lock();
        match state.phase.is_failure() {
            true => state.reason.clone(),
            false => state.retry.as_ref().map(|retry| Arc::clone(&retry.reason)),
        }
    }
}
