//! Who still needs a value in memory, and the place that it leaves when nobody does.
//!
//! Protocol: a lease is taken under the lock of the [`Slot`], or from a lease that is still
//! held. Whoever evicts looks at the count under the same lock. So a count of zero that it sees
//! stays zero until the lock is free, and by then the slot is empty: a value with a lease is
//! never evicted. Ending a lease takes no lock.

use std::ops::Deref;
use std::sync::atomic::AtomicU64;

use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, PoisonError};

/// Counts the releases of all leases, so that values can be ordered by their last use.
static RELEASES: AtomicU64 = AtomicU64::new(0);

/// How many leases a value has, and when the last one ended.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// Release and acquire order the holder's last use before the eviction.
    held: AtomicUsize,
    /// Relaxed: it only decides which of several values leaves first.
    last_released: AtomicU64,
}

impl Leases {
    /// Whether somebody holds a lease.
    pub(crate) fn are_held(&self) -> bool {
        self.held.load(Ordering::Acquire) > 0
    }

    /// Higher where the last lease ended later.
    pub(crate) fn last_released(&self) -> u64 {
        self.last_released.load(Ordering::Relaxed)
    }
}

/// A value that can be leased.
pub(crate) trait Leased {
    /// Its leases.
    fn leases(&self) -> &Leases;
}

/// A promise that a value stays in memory while this exists.
#[derive(Debug)]
pub(crate) struct Lease<T: Leased>(Arc<T>);

impl<T: Leased> Lease<T> {
    /// The caller holds the lock of the slot, or a lease.
    fn new(value: &Arc<T>) -> Self {
        value.leases().held.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(value))
    }

    /// What is leased.
    pub(crate) fn value(&self) -> &Arc<T> {
        &self.0
    }
}

impl<T: Leased> Clone for Lease<T> {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl<T: Leased> Drop for Lease<T> {
    fn drop(&mut self) {
        let release = RELEASES.fetch_add(1, Ordering::Relaxed) + 1;
        let leases = self.0.leases();
        leases.last_released.store(release, Ordering::Relaxed);
        leases.held.fetch_sub(1, Ordering::Release);
    }
}

impl<T: Leased> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The place of one value; empty before it comes and after it has left.
///
/// Its lock is held while the value comes or goes, however long that takes, so that it is done
/// once however many ask.
#[derive(Debug)]
pub(crate) struct Slot<T>(Mutex<Option<Arc<T>>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Leased> Slot<T> {
    /// What is there, without a lease.
    pub(crate) fn get(&self) -> Option<Arc<T>> {
        let value = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        value.clone()
    }

    /// A lease on what is there.
    pub(crate) fn lease(&self) -> Option<Lease<T>> {
        let value = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        value.as_ref().map(Lease::new)
    }

    /// Fills the slot and leases what came. `admitted` is called once the slot is locked.
    pub(crate) fn fill<E>(
        &self,
        admitted: impl FnOnce(),
        open: impl FnOnce() -> Result<T, E>,
    ) -> Result<Lease<T>, E> {
        let mut value = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        admitted();
        open().map(|opened| Lease::new(value.insert(Arc::new(opened))))
    }

    /// Empties the slot if nobody has a lease and `leave` agrees; says whether it did.
    pub(crate) fn evict(&self, leave: impl FnOnce(&T) -> bool) -> bool {
        let mut value = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let leaves = match &*value {
            Some(value) => !value.leases().are_held() && leave(value),
            None => false,
        };
        if leaves {
            *value = None;
        }
        leaves
    }

    /// Empties the slot, leased or not, once `act` has dealt with what is there.
    pub(crate) fn empty<R>(&self, act: impl FnOnce(Option<&Arc<T>>) -> R) -> R {
        let mut value = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = act(value.as_ref());
        *value = None;
        outcome
    }
}
