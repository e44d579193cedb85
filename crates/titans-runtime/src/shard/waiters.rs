//! Who waits for a place in a stream without a thread of its own.
//!
//! Protocol: all of this is protected by the shard's lock. A future that looks whether its place
//! is reached keeps the lock until it has left its waker. Whoever moves the mark keeps the lock
//! until the wakers are taken. So nobody waits for a mark that was reached before. A waker is
//! taken once; a future that is woken and has to wait longer leaves another one.
//!
//! This file names nothing of the runtime, so that the package in `verify` can try it in every
//! order of events.

use std::collections::BTreeMap;

/// The futures that wait for one mark.
#[derive(Debug)]
pub(crate) struct Waiters<P, W> {
    /// By where they wait and in the order of arrival, so that only those are looked at whose
    /// place is reached, and the first behind them.
    waiting: BTreeMap<(u64, u64), (P, W)>,
    /// How many have come so far.
    arrivals: u64,
}

impl<P, W> Default for Waiters<P, W> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            arrivals: 0,
        }
    }
}

impl<P, W> Waiters<P, W> {
    /// A number for a future that begins to wait.
    pub(crate) fn arrive(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    /// Leaves a waker at a place; returns the one that this future had left there before.
    pub(crate) fn wait(&mut self, place: u64, number: u64, what: P, waker: W) -> Option<W> {
        let before = self.waiting.insert((place, number), (what, waker));
        before.map(|(_, waker)| waker)
    }

    /// Waits no longer; returns the waker that was left.
    pub(crate) fn leave(&mut self, place: u64, number: u64) -> Option<W> {
        let left = self.waiting.remove(&(place, number));
        left.map(|(_, waker)| waker)
    }

    /// The wakers of those whose place is reached, which are those at the lowest places.
    pub(crate) fn take_reached(&mut self, is_reached: impl Fn(&P) -> bool, taken: &mut Vec<W>) {
        while let Some(first) = self.waiting.first_entry()
            && is_reached(&first.get().0)
        {
            taken.push(first.remove().1);
        }
    }

    /// The wakers of all.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = W> + use<P, W> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_values().map(|(_, waker)| waker)
    }
}
