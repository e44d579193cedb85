//! What a shard takes, kept in the sums of its runtime.

use super::{Shard, ShardState};
use crate::config::RuntimeConfig;
use crate::stats::{Footprint, Meters};

/// What a state and a waiting token take, which the configuration alone decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    state_bytes: usize,
    token_bytes: usize,
}

impl Sizes {
    pub(crate) fn of(config: &RuntimeConfig) -> Self {
        let memory = &config.memory;
        Self {
            state_bytes: memory.state_bytes(),
            token_bytes: (memory.key_dim + memory.value_dim) * size_of::<f32>(),
        }
    }
}

impl Shard {
    /// Brings the sums up to date after something came, was learned or was saved.
    pub(crate) fn account(&self, sizes: Sizes, meters: &Meters) {
        let mut state = self.lock();
        let now = state.footprint(sizes);
        // A thread may still be at work for a shard that has left, and must not count it anew.
        if let Some(before) = &mut state.accounted {
            meters.replace(std::mem::replace(before, now), now);
        }
    }

    /// Takes the shard out of the sums for good.
    pub(crate) fn account_nothing(&self, meters: &Meters) {
        if let Some(before) = self.lock().accounted.take() {
            meters.replace(before, Footprint::default());
        }
    }
}

impl ShardState {
    fn footprint(&self, sizes: Sizes) -> Footprint {
        let queued_tokens = self.chunker.waiting();
        let waiting = queued_tokens * sizes.token_bytes;
        let dirty = self.unsaved.len() + usize::from(self.saving);
        Footprint {
            // The newest of the unsaved is the published one.
            resident_bytes: dirty.max(1) * sizes.state_bytes + waiting,
            dirty_bytes: dirty * sizes.state_bytes + waiting,
            queued_tokens,
        }
    }
}
