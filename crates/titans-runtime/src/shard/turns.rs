//! The line of those who hand tokens over: first come, first served, whether a thread or a
//! future waits.
//!
//! Protocol: all of this stands behind the shard's lock. Whoever hands over stands in line until
//! it has done so, and the first in line has the turn. Whoever cannot go on leaves a waker with
//! its place. The waker of the first is taken as soon as the queue has the room that it waits
//! for. When the first leaves, served or given up, the waker of the next is taken. So a waker
//! that was taken and never looked at again holds nobody up once its place is left.
//!
//! This file names nothing of the runtime, so that the package in `verify` can try it in every
//! order of events.

use std::collections::VecDeque;

/// Who has the turn, and who waits for it.
#[derive(Debug)]
pub(crate) struct Turns<W> {
    /// In the order of arrival, so the numbers rise.
    line: VecDeque<Place<W>>,
    /// How many have come so far.
    arrivals: u64,
}

#[derive(Debug)]
struct Place<W> {
    number: u64,
    /// `None` while whoever stands here is at work, or has been woken and has not looked yet.
    waiting: Option<Waiting<W>>,
}

#[derive(Debug)]
struct Waiting<W> {
    waker: W,
    /// It goes on when no more tokens than this wait in the queue.
    at_most: usize,
}

impl<W> Default for Turns<W> {
    fn default() -> Self {
        Self {
            line: VecDeque::new(),
            arrivals: 0,
        }
    }
}

impl<W> Turns<W> {
    /// Whether nobody hands over or waits to.
    pub(crate) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Stands at the end of the line; returns the number of the place.
    pub(crate) fn stand(&mut self) -> u64 {
        self.arrivals += 1;
        self.line.push_back(Place {
            number: self.arrivals,
            waiting: None,
        });
        self.arrivals
    }

    /// Whether the place with this number is the first.
    pub(crate) fn is_first(&self, number: u64) -> bool {
        self.line
            .front()
            .is_some_and(|first| first.number == number)
    }

    /// Waits at a place: for the turn, and then for a queue in which no more than `at_most`
    /// tokens wait. Returns the waker that was left there before.
    pub(crate) fn wait(&mut self, number: u64, at_most: usize, waker: W) -> Option<W> {
        let index = self.index(number)?;
        let waiting = Waiting { waker, at_most };
        let before = self.line[index].waiting.replace(waiting);
        before.map(|before| before.waker)
    }

    /// The waker of the first, if it waits for a queue of this many tokens.
    pub(crate) fn take_first(&mut self, queued: usize) -> Option<W> {
        let first = self.line.front_mut()?;
        let goes_on = |waiting: &mut Waiting<W>| queued <= waiting.at_most;
        first.waiting.take_if(goes_on).map(|waiting| waiting.waker)
    }

    /// The wakers of all who wait.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = W> {
        let waiting = self
            .line
            .iter_mut()
            .filter_map(|place| place.waiting.take());
        waiting.map(|waiting| waiting.waker)
    }

    /// Leaves a place. Returns the waker that was left there, which nobody needs any more, and
    /// the waker of whoever has the turn now and did not have it before.
    pub(crate) fn leave(&mut self, number: u64) -> (Option<W>, Option<W>) {
        let Some(index) = self.index(number) else {
            return (None, None);
        };
        let left = self.line.remove(index).and_then(|place| place.waiting);
        let next = match index {
            0 => self.line.front_mut().and_then(|next| next.waiting.take()),
            _ => None,
        };
        (left.map(|left| left.waker), next.map(|next| next.waker))
    }

    fn index(&self, number: u64) -> Option<usize> {
        self.line
            .binary_search_by_key(&number, |place| place.number)
            .ok()
    }
}
