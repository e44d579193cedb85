//! The locks of the runtime and the one order in which a thread may take them.
//!
//! A thread that holds a lock takes only locks of a higher [`Rank`]. So no two threads can
//! each hold what the other waits for. A debug build checks every lock that is taken; the
//! list of ranks below is the order, written down once.
//!
//! A poisoned lock is taken all the same: what these locks protect is whole after every
//! statement, and a panic of one user's step must not stop the others.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{self, PoisonError};
use std::time::Duration;

/// Which lock it is. The order of the variants is the order in which locks may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// When each memory was backed up last; held while one is backed up or forgotten.
    Backups,
    /// One thread at a time makes room for a memory that is to be loaded.
    Admission,
    /// The place of one memory, while it is opened, saved for the last time, or forgotten.
    Slot,
    /// One `observe` at a time for one user. Not a mutex but a place in a line, in which
    /// futures stand, too; only threads are checked.
    Producer,
    /// What is known of a memory's recall.
    Watch,
    /// The map of the memories that are loaded.
    Table,
    /// The folder of the runtime.
    Root,
    /// What one shard knows of itself.
    Shard,
    /// Lines of work: shards for learners and savers, alerts, the end of the backups and of the
    /// runtime; and what a thread sleeps on that waits for its turn.
    Line,
    /// Durations that were measured. Nothing is locked under it.
    Timer,
}

thread_local! {
    /// What this thread holds, in the order in which it was taken.
    static HELD: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
}

/// Where the pauses of [`shake_locks`] are; 0 while there are none.
#[cfg(debug_assertions)]
static SHAKEN: AtomicU64 = AtomicU64::new(0);

/// Lets threads pause for a moment before some locks are taken and after some are given back,
/// at places that follow from `seed`, so that tests meet orders of events that are rare
/// otherwise. Only a debug build has this, and it is for the whole process.
#[cfg(debug_assertions)]
#[doc(hidden)]
pub fn shake_locks(seed: u64) {
    // Odd, and what is added is even: it never becomes 0.
    SHAKEN.store(seed | 1, Ordering::Relaxed);
}

/// The place for a pause, if there is to be one.
fn shake() {
    #[cfg(debug_assertions)]
    {
        if SHAKEN.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut word = SHAKEN.fetch_add(0x9e37_79b9_7f4a_7c14, Ordering::Relaxed);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        match word >> 60 {
            0..=2 => std::thread::yield_now(),
            3 => std::thread::sleep(Duration::from_micros(word & 63)),
            _ => {}
        }
    }
}

/// Says that a lock is held that is not a [`Mutex`] of this module.
#[derive(Debug)]
pub(crate) struct Held(Rank);

impl Held {
    /// # Panics
    /// In a debug build, if this thread holds a lock that comes after this one, or this one.
    pub(crate) fn enter(rank: Rank) -> Self {
        if cfg!(debug_assertions) {
            HELD.with_borrow_mut(|held| {
                let last = held.iter().max();
                assert!(
                    last.is_none_or(|last| *last < rank),
                    "takes the lock {rank:?} while it holds {held:?}"
                );
                held.push(rank);
            });
        }
        Self(rank)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            HELD.with_borrow_mut(|held| {
                if let Some(at) = held.iter().rposition(|rank| *rank == self.0) {
                    held.remove(at);
                }
            });
        }
        // A guard gives its lock back before it says so.
        shake();
    }
}

/// Checks, in a debug build, that this thread holds no lock of the runtime: what is called
/// next is the caller's code, which may call the runtime.
pub(crate) fn assert_none_held() {
    if cfg!(debug_assertions) {
        HELD.with_borrow(|held| assert!(held.is_empty(), "calls out while it holds {held:?}"));
    }
}

/// A mutex with a place in the order.
#[derive(Debug)]
pub(crate) struct Mutex<T> {
    rank: Rank,
    value: sync::Mutex<T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(rank: Rank, value: T) -> Self {
        Self {
            rank,
            value: sync::Mutex::new(value),
        }
    }

    /// What is inside, which nobody else can have: no lock is taken.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.value.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        let held = Held::enter(self.rank);
        shake();
        Guard {
            value: self.value.lock().unwrap_or_else(PoisonError::into_inner),
            held,
        }
    }
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct Guard<'a, T> {
    value: sync::MutexGuard<'a, T>,
    held: Held,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

/// Something to wait for under a [`Mutex`].
#[derive(Debug, Default)]
pub(crate) struct Condvar(sync::Condvar);

impl Condvar {
    /// Waits until it is notified, or for no reason at all.
    pub(crate) fn wait<'a, T>(&self, guard: Guard<'a, T>) -> Guard<'a, T> {
        let Guard { value, held } = guard;
        let value = self.0.wait(value).unwrap_or_else(PoisonError::into_inner);
        Guard { value, held }
    }

    /// [`wait`](Self::wait), at most for `timeout`.
    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: Guard<'a, T>,
        timeout: Duration,
    ) -> Guard<'a, T> {
        let Guard { value, held } = guard;
        let waited = self.0.wait_timeout(value, timeout);
        let (value, _) = waited.unwrap_or_else(PoisonError::into_inner);
        Guard { value, held }
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_taken_in_their_order_and_given_back_in_any() {
        let (table, shard) = (Mutex::new(Rank::Table, 1), Mutex::new(Rank::Shard, 2));
        let first = table.lock();
        let second = shard.lock();
        drop(first);
        assert_eq!(*second, 2);
        drop(second);
        assert_none_held();
        drop(shard.lock());
        drop(table.lock());
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "takes the lock Table while it holds [Shard]")]
    fn the_other_order_is_a_bug_that_a_debug_build_finds() {
        let (table, shard) = (Mutex::new(Rank::Table, 1), Mutex::new(Rank::Shard, 2));
        let _first = shard.lock();
        let _second = table.lock();
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "calls out while it holds [Producer]")]
    fn nothing_is_called_under_a_lock() {
        let producer = Mutex::new(Rank::Producer, ());
        let _turn = producer.lock();
        assert_none_held();
    }
}
