//! Which shard is served next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::shard::Shard;

/// Shards that wait for a thread, the longest due first.
///
/// A thread does one chunk of each shard that it takes, or one file, and puts the shard back
/// if there is more. So a user who streams a book delays another user by one batch at most.
#[derive(Debug, Default)]
pub(crate) struct WorkQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    /// Equal times are served in the order of arrival.
    waiting: BinaryHeap<Reverse<Turn>>,
    arrivals: u64,
    closed: bool,
}

/// A shard's place in line.
#[derive(Debug)]
pub(crate) struct Turn {
    due: Instant,
    arrival: u64,
    pub(crate) shard: Arc<Shard>,
}

impl WorkQueue {
    /// Puts a shard in line, not to be served before `due`.
    pub(crate) fn push(&self, shard: &Arc<Shard>, due: Instant) {
        let mut state = self.lock();
        state.arrivals += 1;
        let turn = Turn {
            due,
            arrival: state.arrivals,
            shard: Arc::clone(shard),
        };
        state.waiting.push(Reverse(turn));
        drop(state);
        self.changed.notify_one();
    }

    /// The next shard, once it is due; `None` when the queue is closed.
    pub(crate) fn pop(&self) -> Option<Arc<Shard>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            let due = state.waiting.peek().map(|Reverse(turn)| turn.due);
            state = match due {
                Some(due) if due <= now => return state.waiting.pop().map(|turn| turn.0.shard),
                Some(due) => {
                    let waited = self.changed.wait_timeout(state, due - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// The next shard if one is due now; does not wait.
    pub(crate) fn pop_due(&self) -> Option<Turn> {
        let mut state = self.lock();
        let Reverse(next) = state.waiting.peek()?;
        if next.due > Instant::now() {
            return None;
        }
        state.waiting.pop().map(|Reverse(turn)| turn)
    }

    /// Gives shards the places back that they had.
    pub(crate) fn put_back(&self, turns: Vec<Turn>) {
        if turns.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.waiting.extend(turns.into_iter().map(Reverse));
        drop(state);
        self.changed.notify_all();
    }

    /// Sends every thread home. What waits is dropped.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    fn order(&self) -> (Instant, u64) {
        (self.due, self.arrival)
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Turn {}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}
