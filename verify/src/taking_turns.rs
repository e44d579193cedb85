//! Who hands over waits in one line: served in the order of arrival, and nobody sleeps on when
//! there is room, whoever gives up before.
//!
//! What matters of `Place` and `Shard::take` of the runtime: each hands one token over, and a
//! learner takes them.

use std::sync::Arc;

use crate::explore::{JoinHandle, MutexGuard, every_order_within, spawn};
use crate::sync::Mutex;
use crate::turns::Turns;
use crate::waiting::{End, Outcome, locked};

type Waker = Arc<Outcome>;

struct State {
    turns: Turns<Waker>,
    queued: usize,
    /// The numbers of those who were served, in order.
    served: Vec<u64>,
    /// Nothing is taken any more.
    is_over: bool,
}

/// What somebody forgets, to see that the model notices.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Careless {
    #[default]
    Nobody,
    /// Whoever leaves the line does not wake the next.
    Leaver,
    /// The learner makes room and wakes nobody.
    Learner,
    /// Whoever finds room takes it, whoever stands before.
    Pusher,
}

struct Shard {
    state: Mutex<State>,
    careless: Careless,
}

/// Tokens that the queue holds.
const LIMIT: usize = 1;

impl Shard {
    /// With a queue that is full.
    fn full(careless: Careless) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                turns: Turns::default(),
                queued: LIMIT,
                served: Vec::new(),
                is_over: false,
            }),
            careless,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Looks once, as a poll does: `None` when it is served or refused, or what it then sleeps
    /// on.
    fn poll(&self, number: u64) -> Option<Waker> {
        let waker = Outcome::new();
        let mut state = self.lock();
        if state.is_over {
            return None;
        }
        let has_turn = state.turns.is_first(number) || self.careless == Careless::Pusher;
        if has_turn && state.queued < LIMIT {
            assert!(state.turns.is_first(number), "out of turn");
            state.queued += 1;
            state.served.push(number);
            return None;
        }
        drop((state.turns).wait(number, LIMIT - 1, Arc::clone(&waker)));
        Some(waker)
    }

    fn leave(&self, number: u64) {
        let (own, next) = self.lock().turns.leave(number);
        drop(own);
        if self.careless != Careless::Leaver {
            wake(next);
        }
    }

    fn hand_over(&self, number: u64) {
        while let Some(waker) = self.poll(number) {
            assert_eq!(waker.wait(), End::CarriedOut);
        }
        self.leave(number);
    }

    /// Stands in line now and hands over on a thread.
    fn spawn_task(self: &Arc<Self>) -> JoinHandle<()> {
        let number = self.lock().turns.stand();
        let shard = Arc::clone(self);
        spawn(move || shard.hand_over(number))
    }

    /// Stands in line now; looks once and gives up on a thread.
    fn spawn_quitter(self: &Arc<Self>) -> JoinHandle<()> {
        let number = self.lock().turns.stand();
        let shard = Arc::clone(self);
        spawn(move || {
            if shard.poll(number).is_some() {
                shard.leave(number);
            } else {
                // Served after all: the learner makes room for one more.
                shard.leave(number);
                shard.learn();
            }
        })
    }

    /// Takes a token out of the queue.
    fn learn(&self) {
        let mut state = self.lock();
        state.queued -= 1;
        let queued = state.queued;
        let due = state.turns.take_first(queued);
        drop(state);
        if self.careless != Careless::Learner {
            wake(due);
        }
    }
}

fn wake(due: impl IntoIterator<Item = Waker>) {
    for waker in due {
        waker.set(End::CarriedOut);
    }
}

/// Two in line, and a learner who makes room for one of them, and, when that one is served, for
/// the other.
fn two_in_line(careless: Careless) {
    let shard = Shard::full(careless);
    let (first, second) = (shard.spawn_task(), shard.spawn_task());
    shard.learn();
    first.join().unwrap();
    shard.learn();
    second.join().unwrap();
    assert_eq!(shard.lock().served, [1, 2]);
    assert!(shard.lock().turns.is_empty());
}

/// The first gives up, perhaps after it was woken for the room that the second waits for.
fn one_gives_up(careless: Careless) {
    let shard = Shard::full(careless);
    let (quitter, second) = (shard.spawn_quitter(), shard.spawn_task());
    shard.learn();
    quitter.join().unwrap();
    second.join().unwrap();
    assert_eq!(shard.lock().served.last(), Some(&2));
    assert!(shard.lock().turns.is_empty());
}

#[test]
fn who_comes_first_is_served_first_and_the_next_after_that() {
    every_order_within(2, || two_in_line(Careless::Nobody));
}

#[test]
fn who_gives_up_leaves_the_turn_to_the_next() {
    every_order_within(2, || one_gives_up(Careless::Nobody));
}

#[test]
fn the_end_is_told_to_all_at_once() {
    every_order_within(2, || {
        let shard = Shard::full(Careless::Nobody);
        // Whoever has the turn does not look again.
        let holder = shard.lock().turns.stand();
        let tasks = [shard.spawn_task(), shard.spawn_task()];
        let mut state = shard.lock();
        state.is_over = true;
        let due: Vec<_> = state.turns.take_all().collect();
        drop(state);
        wake(due);
        for task in tasks {
            task.join().unwrap();
        }
        shard.leave(holder);
        assert!(shard.lock().turns.is_empty());
    });
}

/// The model can fail: the same with somebody who forgets to wake others.
#[cfg(not(miri))]
mod careless {
    use super::*;

    #[test]
    #[should_panic(expected = "deadlock")]
    fn whoever_leaves_in_silence_leaves_the_next_asleep() {
        every_order_within(2, || one_gives_up(Careless::Leaver));
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn room_that_nobody_tells_of_is_not_used() {
        every_order_within(2, || two_in_line(Careless::Learner));
    }

    #[test]
    #[should_panic(expected = "out of turn")]
    fn whoever_takes_room_out_of_turn_is_noticed() {
        every_order_within(2, || two_in_line(Careless::Pusher));
    }
}
