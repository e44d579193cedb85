//! Every order of events in which a thread is interrupted a few times.

pub(crate) use loom::sync::{Condvar, MutexGuard};
pub(crate) use loom::thread::{JoinHandle, spawn};

use crate::sync::AtomicU64;

/// Interruptions of a running thread. Three find every mistake that is tried here; what needs
/// more is rare, and the number of orders grows with it.
const PREEMPTIONS: usize = 3;

/// Runs `model` in every order of its events.
pub(crate) fn every_order(model: impl Fn() + Send + Sync + 'static) {
    every_order_within(PREEMPTIONS, model);
}

/// The same with other interruptions: where many threads wait for each other, their waits alone
/// give many orders.
pub(crate) fn every_order_within(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Changes a number that nobody else has; loom objects if somebody might.
pub(crate) fn set(number: &mut AtomicU64, value: u64) {
    number.with_mut(|number| *number = value);
}
