//! The lock of a shard, and the one way to tell of a change behind it.
//!
//! Threads wait on a condition variable, futures leave wakers in the state. Both are told by
//! [`announce`](SharedState::announce) and by nothing else, so neither can be forgotten.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Duration;

use super::state::ShardState;
use crate::locks::{Condvar, Guard, Mutex, Rank, assert_none_held};

/// What a shard knows of itself, behind its lock.
#[derive(Debug)]
pub(super) struct SharedState {
    state: Mutex<ShardState>,
    changed: Condvar,
}

impl SharedState {
    pub(super) fn new(state: ShardState) -> Self {
        Self {
            state: Mutex::new(Rank::Shard, state),
            changed: Condvar::default(),
        }
    }

    pub(super) fn lock(&self) -> Guard<'_, ShardState> {
        self.state.lock()
    }

    /// Waits until a change is announced, or for no reason at all.
    pub(super) fn wait<'a>(&self, state: Guard<'a, ShardState>) -> Guard<'a, ShardState> {
        self.changed.wait(state)
    }

    /// [`wait`](Self::wait), at most for `timeout`.
    pub(super) fn wait_timeout<'a>(
        &self,
        state: Guard<'a, ShardState>,
        timeout: Duration,
    ) -> Guard<'a, ShardState> {
        self.changed.wait_timeout(state, timeout)
    }

    /// Gives the lock back after a change, frees what is `left` over from it, and wakes
    /// everybody who may have waited for it. The caller holds no other lock.
    pub(super) fn announce<T>(&self, mut state: Guard<'_, ShardState>, left: T) {
        let due = state.take_due();
        drop(state);
        drop(left);
        self.changed.notify_all();
        wake(due);
    }
}

/// Calls wakers. They are code of the caller's, which may call the runtime, so no lock is held;
/// and one that panics does not take the thread with it that has come to call it.
pub(super) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        assert_none_held();
        if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
            tracing::error!("a waker panicked");
        }
    }
}
