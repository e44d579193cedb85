//! Who still needs a shard in memory.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Shard;

/// Counts the releases of all leases, so that shards can be ordered by their last use.
static RELEASES: AtomicU64 = AtomicU64::new(0);

/// How many leases a shard has, and when the last one ended.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// Taken under the lock of the shard's slot, or from a lease that is still held; so a
    /// zero read under that lock stays zero while it is held. Release and acquire order the
    /// holder's last use before the eviction.
    held: AtomicUsize,
    /// Relaxed: it only decides which of several shards leaves first.
    last_released: AtomicU64,
}

/// A promise that a shard stays in memory while this exists.
#[derive(Debug)]
pub(crate) struct Lease(Arc<Shard>);

impl Lease {
    /// The caller holds the lock of the shard's slot.
    pub(crate) fn new(shard: &Arc<Shard>) -> Self {
        shard.leases.held.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shard))
    }

    pub(crate) fn shard(&self) -> &Arc<Shard> {
        &self.0
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let release = RELEASES.fetch_add(1, Ordering::Relaxed) + 1;
        self.0
            .leases
            .last_released
            .store(release, Ordering::Relaxed);
        self.0.leases.held.fetch_sub(1, Ordering::Release);
    }
}

impl Deref for Lease {
    type Target = Shard;

    fn deref(&self) -> &Shard {
        &self.0
    }
}

impl Shard {
    /// Whether somebody holds a lease.
    pub(crate) fn is_leased(&self) -> bool {
        self.leases.held.load(Ordering::Acquire) > 0
    }

    /// Higher for a shard whose last lease ended later.
    pub(crate) fn last_used(&self) -> u64 {
        self.leases.last_released.load(Ordering::Relaxed)
    }
}
