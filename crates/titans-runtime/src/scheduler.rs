//! Which shard is served next.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use titans_store::ShardId;

use crate::locks::{Condvar, Mutex, Rank};
use crate::shard::Shard;

/// Shards that wait for a thread, the longest due first.
///
/// A thread does one chunk of each shard that it takes, or one file, and puts the shard back
/// if there is more. So a user who streams a book delays another user by one batch at most.
/// A shard stands in a line once, at the earliest time that was asked for.
#[derive(Debug)]
pub(crate) struct WorkQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    /// Equal times are served in the order of arrival.
    waiting: BTreeMap<(Instant, u64), Arc<Shard>>,
    places: HashMap<ShardId, (Instant, u64)>,
    arrivals: u64,
    closed: bool,
}

/// A shard that was taken from the line, with the place that it had.
#[derive(Debug)]
pub(crate) struct Turn {
    place: (Instant, u64),
    pub(crate) shard: Arc<Shard>,
}

impl Default for WorkQueue {
    fn default() -> Self {
        Self {
            state: Mutex::new(Rank::Line, QueueState::default()),
            changed: Condvar::default(),
        }
    }
}

impl WorkQueue {
    /// Puts a shard in line, not to be served before `due`. One that stands there already
    /// keeps the earlier of both times. `false` when the queue is closed: nobody will serve it.
    pub(crate) fn push(&self, shard: &Arc<Shard>, due: Instant) -> bool {
        let mut state = self.state.lock();
        state.arrivals += 1;
        let place = (due, state.arrivals);
        state.stand(place, Arc::clone(shard));
        let is_open = !state.closed;
        drop(state);
        self.changed.notify_one();
        is_open
    }

    /// The next shard, once it is due; `None` when the queue is closed.
    pub(crate) fn pop(&self) -> Option<Arc<Shard>> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            let due = state.waiting.keys().next().map(|(due, _)| *due);
            state = match due {
                Some(due) if due <= now => return state.leave().map(|turn| turn.shard),
                Some(due) => self.changed.wait_timeout(state, due - now),
                None => self.changed.wait(state),
            };
        }
    }

    /// The next shard if one is due now; does not wait.
    pub(crate) fn pop_due(&self) -> Option<Turn> {
        let mut state = self.state.lock();
        let (due, _) = *state.waiting.keys().next()?;
        match due > Instant::now() {
            true => None,
            false => state.leave(),
        }
    }

    /// Gives shards the places back that they had.
    pub(crate) fn put_back(&self, turns: Vec<Turn>) {
        if turns.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        for Turn { place, shard } in turns {
            state.stand(place, shard);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Takes a shard out of the line that leaves memory.
    pub(crate) fn remove(&self, id: ShardId) {
        let mut state = self.state.lock();
        let place = state.places.remove(&id);
        let shard = place.and_then(|place| state.waiting.remove(&place));
        drop(state);
        drop(shard);
    }

    /// Sends every thread home. Returns the shards that nobody will serve.
    pub(crate) fn close(&self) -> Vec<Arc<Shard>> {
        let mut state = self.state.lock();
        state.closed = true;
        state.places.clear();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.changed.notify_all();
        waiting.into_values().collect()
    }
}

impl QueueState {
    fn stand(&mut self, place: (Instant, u64), shard: Arc<Shard>) {
        if self.closed {
            return;
        }
        if let Some(earlier) = self.places.get(&shard.id) {
            // A shard that has left may have been put in line by a handle of it: the one that
            // came after it takes its place.
            let is_same =
                (self.waiting.get(earlier)).is_some_and(|other| Arc::ptr_eq(other, &shard));
            if is_same && *earlier <= place {
                return;
            }
            self.waiting.remove(earlier);
        }
        self.places.insert(shard.id, place);
        self.waiting.insert(place, shard);
    }

    fn leave(&mut self) -> Option<Turn> {
        let (place, shard) = self.waiting.pop_first()?;
        self.places.remove(&shard.id);
        Some(Turn { place, shard })
    }
}
