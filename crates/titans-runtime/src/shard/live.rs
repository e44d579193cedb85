//! How many snapshots of a shard are alive.

use std::sync::{Arc, Weak};

use crate::snapshot::Snapshot;

/// The published snapshot, the one before it, and one more in a saver's hands.
const USUAL: usize = 3;

/// The snapshots of one shard that somebody holds.
///
/// They are counted when one comes or may have gone, by whoever publishes or saves; a reader
/// that lets one go counts nothing.
#[derive(Debug, Default)]
pub(super) struct LiveSnapshots {
    /// With whether it has numbers of its own: what has learned nothing shares the initial ones
    /// with all other memories.
    held: Vec<(Weak<Snapshot>, bool)>,
    has_warned: bool,
}

impl LiveSnapshots {
    /// One more is alive.
    pub(super) fn add(&mut self, snapshot: &Arc<Snapshot>) {
        let has_learned = snapshot.state.tokens_seen > 0;
        self.held.push((Arc::downgrade(snapshot), has_learned));
        self.count();
    }

    /// Leaves out those that are gone.
    pub(super) fn count(&mut self) {
        self.held
            .retain(|(snapshot, _)| snapshot.strong_count() > 0);
    }

    /// How many there are, as of the last count.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// How many of them have numbers of their own.
    pub(super) fn states(&self) -> usize {
        self.held
            .iter()
            .filter(|(_, has_learned)| *has_learned)
            .count()
    }

    /// How many, the first time that they are more than usual.
    pub(super) fn is_unusual(&mut self) -> Option<usize> {
        let is_unusual = self.held.len() > USUAL;
        let is_news = is_unusual && !std::mem::replace(&mut self.has_warned, is_unusual);
        self.has_warned = is_unusual;
        is_news.then_some(self.held.len())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use titans_core::{ComputeDevice, NeuralMemory, Preset};
    use titans_store::ShardId;

    use super::*;

    #[test]
    fn whoever_is_held_is_counted_until_it_is_gone() {
        let device = ComputeDevice::Cpu.open().unwrap();
        let memory = NeuralMemory::new(Preset::Delta.config(), &device).unwrap();
        let shard = ShardId([1; 16]);
        let mut live = LiveSnapshots::default();
        let held: Vec<_> = (0..5)
            .map(|_| {
                let snapshot = Arc::new(Snapshot::first(shard, memory.initial_state()));
                live.add(&snapshot);
                snapshot
            })
            .collect();
        assert_eq!(live.len(), 5);
        assert_eq!(live.is_unusual(), Some(5));
        assert_eq!(live.is_unusual(), None, "told once");
        drop(held);
        live.count();
        assert_eq!((live.len(), live.is_unusual()), (0, None));
    }
}
