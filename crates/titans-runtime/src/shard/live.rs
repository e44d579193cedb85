//! How many snapshots are alive.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use titans_store::ShardId;

use crate::metric;
use crate::snapshot::Snapshot;

/// The published snapshot, the one before it, and one more in a saver's hands.
const USUAL: usize = 3;

/// The snapshots of one shard that somebody holds.
///
/// They are counted when one comes or may have gone, by whoever publishes or saves; a reader
/// that lets one go counts nothing.
#[derive(Debug)]
pub(super) struct LiveSnapshots {
    shard: ShardId,
    held: Vec<Weak<Snapshot>>,
    has_warned: bool,
    /// Those of all shards. Relaxed: it orders nothing.
    all: Arc<AtomicUsize>,
}

impl LiveSnapshots {
    pub(super) fn new(shard: ShardId, all: Arc<AtomicUsize>) -> Self {
        Self {
            shard,
            held: Vec::new(),
            has_warned: false,
            all,
        }
    }

    /// One more is alive.
    pub(super) fn add(&mut self, snapshot: &Arc<Snapshot>) {
        self.held.push(Arc::downgrade(snapshot));
        self.all.fetch_add(1, Ordering::Relaxed);
        metrics::gauge!(metric::LIVE_SNAPSHOTS).increment(1.0);
        self.count();
        let is_unusual = self.held.len() > USUAL;
        if is_unusual && !self.has_warned {
            tracing::warn!(
                shard = %self.shard,
                snapshots = self.held.len(),
                "readers or savers hold on to old snapshots"
            );
        }
        self.has_warned = is_unusual;
    }

    /// Leaves out those that are gone.
    pub(super) fn count(&mut self) {
        let before = self.held.len();
        self.held.retain(|snapshot| snapshot.strong_count() > 0);
        self.take(before - self.held.len());
    }

    fn take(&self, gone: usize) {
        self.all.fetch_sub(gone, Ordering::Relaxed);
        metrics::gauge!(metric::LIVE_SNAPSHOTS).decrement(gone as f64);
    }
}

impl Drop for LiveSnapshots {
    fn drop(&mut self) {
        self.take(self.held.len());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use titans_core::{ComputeDevice, NeuralMemory, Preset};

    use super::*;
    use crate::checkpoint::empty_snapshot;

    #[test]
    fn whoever_is_held_is_counted_until_it_is_gone() {
        let device = ComputeDevice::Cpu.open().unwrap();
        let memory = NeuralMemory::new(Preset::Delta.config(), &device).unwrap();
        let shard = ShardId([1; 16]);
        let all = Arc::new(AtomicUsize::new(0));
        let mut live = LiveSnapshots::new(shard, Arc::clone(&all));
        let held: Vec<_> = (0..5)
            .map(|_| {
                let snapshot = Arc::new(empty_snapshot(&memory, shard));
                live.add(&snapshot);
                snapshot
            })
            .collect();
        assert_eq!(all.load(Ordering::Relaxed), 5);
        assert!(live.has_warned);
        drop(held);
        live.count();
        assert_eq!(all.load(Ordering::Relaxed), 0);
        let last = Arc::new(empty_snapshot(&memory, shard));
        live.add(&last);
        assert!(!live.has_warned);
        drop(live);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }
}
