//! Futures that wait for a mark, beside a thread that moves it: none sleeps on after its mark.
//!
//! What matters of `Shard::poll_wait`, `Shard::stop_waiting` and `ShardState::take_due` of the
//! runtime: a place is a number, and a setback ends every wait.

use std::sync::Arc;

use crate::explore::{JoinHandle, MutexGuard, every_order, spawn};
use crate::sync::Mutex;
use crate::waiters::Waiters;
use crate::waiting::{End, Outcome, locked};

/// What a task sleeps on. Woken once, it is done; a task that has to wait on takes another.
type Waker = Arc<Outcome>;

#[derive(Default)]
struct State {
    mark: u64,
    is_over: bool,
    waiters: Waiters<u64, Waker>,
}

impl State {
    fn take_due(&mut self) -> Vec<Waker> {
        let mut due = Vec::new();
        if self.is_over {
            due.extend(self.waiters.take_all());
        }
        let mark = self.mark;
        self.waiters.take_reached(|place| *place <= mark, &mut due);
        due
    }
}

/// What somebody forgets, to see that the model notices.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Careless {
    #[default]
    Nobody,
    /// A task gives the lock back between its look at the mark and its waker.
    Task,
    /// The mark is moved and the wakers are taken before that.
    Mark,
}

struct Shard {
    state: Mutex<State>,
    careless: Careless,
}

impl Shard {
    fn new(careless: Careless) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::default()),
            careless,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Moves the mark by one.
    fn advance(&self) {
        if self.careless == Careless::Mark {
            let due = self.lock().take_due();
            self.lock().mark += 1;
            return wake(due);
        }
        let mut state = self.lock();
        state.mark += 1;
        let due = state.take_due();
        drop(state);
        wake(due);
    }

    fn end(&self) {
        let mut state = self.lock();
        state.is_over = true;
        let due = state.take_due();
        drop(state);
        wake(due);
    }

    /// Waits as a task does; loom calls it a deadlock if nobody wakes it.
    fn reach(&self, place: u64) {
        let number = self.lock().waiters.arrive();
        loop {
            let waker = Outcome::new();
            let mut state = self.lock();
            if state.mark >= place || state.is_over {
                drop(state.waiters.leave(place, number));
                return;
            }
            if self.careless == Careless::Task {
                drop(state);
                state = self.lock();
            }
            drop(state.waiters.wait(place, number, place, Arc::clone(&waker)));
            drop(state);
            assert_eq!(waker.wait(), End::CarriedOut);
        }
    }

    /// Looks once and gives up.
    fn look_and_leave(&self, place: u64) {
        let mut state = self.lock();
        let number = state.waiters.arrive();
        if state.mark < place && !state.is_over {
            drop(state.waiters.wait(place, number, place, Outcome::new()));
        }
        drop(state);
        let left = self.lock().waiters.leave(place, number);
        drop(left);
    }

    fn spawn_task(self: &Arc<Self>, place: u64) -> JoinHandle<()> {
        let shard = Arc::clone(self);
        spawn(move || shard.reach(place))
    }
}

fn wake(due: Vec<Waker>) {
    for waker in due {
        waker.set(End::CarriedOut);
    }
}

/// Two who wait and one who gives up, at places in another order than they came.
fn assert_no_waker_is_kept(shard: &Shard) {
    let kept = shard.lock().waiters.take_all().count();
    assert_eq!(kept, 0, "a waker is kept");
}

fn reach_beside_a_mark(careless: Careless) {
    let shard = Shard::new(careless);
    let tasks = [shard.spawn_task(2), shard.spawn_task(1)];
    shard.advance();
    shard.look_and_leave(2);
    shard.advance();
    for task in tasks {
        task.join().unwrap();
    }
    assert_no_waker_is_kept(&shard);
}

#[test]
fn whoever_waits_for_a_mark_is_woken_by_it() {
    every_order(|| reach_beside_a_mark(Careless::Nobody));
}

#[test]
fn a_setback_wakes_all() {
    every_order(|| {
        let shard = Shard::new(Careless::Nobody);
        let tasks = [shard.spawn_task(2), shard.spawn_task(1)];
        shard.end();
        for task in tasks {
            task.join().unwrap();
        }
        assert_no_waker_is_kept(&shard);
    });
}

#[test]
fn one_mark_wakes_nobody_who_waits_for_more() {
    every_order(|| {
        let shard = Shard::new(Careless::Nobody);
        let task = shard.spawn_task(1);
        let number = shard.lock().waiters.arrive();
        let waker = Outcome::new();
        drop(shard.lock().waiters.wait(2, number, 2, Arc::clone(&waker)));
        shard.advance();
        task.join().unwrap();
        assert!(!waker.is_set(), "woken in vain");
    });
}

/// The model can fail: the same with somebody who does in two steps what belongs together.
#[cfg(not(miri))]
mod careless {
    use super::*;

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_task_that_looks_and_then_waits_misses_the_mark() {
        every_order(|| reach_beside_a_mark(Careless::Task));
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn wakers_that_are_taken_before_the_mark_moves_leave_somebody_asleep() {
        every_order(|| reach_beside_a_mark(Careless::Mark));
    }
}
