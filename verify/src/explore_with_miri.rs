//! Some orders of events, with Miri watching every access. `-Zmiri-many-seeds` gives others.

pub(crate) use std::sync::{Condvar, MutexGuard};
pub(crate) use std::thread::{JoinHandle, spawn};

use crate::sync::AtomicU64;

/// Runs `model` in some orders of its events.
pub(crate) fn every_order(model: impl Fn() + Send + Sync + 'static) {
    for _ in 0..8 {
        model();
    }
}

/// The same: Miri does not count interruptions.
pub(crate) fn every_order_within(_preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    every_order(model);
}

/// Changes a number that nobody else has.
pub(crate) fn set(number: &mut AtomicU64, value: u64) {
    *number.get_mut() = value;
}
