//! Which shards are open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use titans_store::ShardId;

use crate::error::RuntimeError;
use crate::shard::Shard;

/// The open shards of a runtime.
///
/// Two locks, outer before inner: the map, for a look-up, and the slot of one shard, for as
/// long as its files take to open. So opening is done once per shard however many ask, and
/// opening one does not hold up the others.
#[derive(Debug, Default)]
pub(crate) struct ShardTable {
    slots: Mutex<HashMap<ShardId, Arc<Slot>>>,
}

#[derive(Debug, Default)]
struct Slot(Mutex<Option<Arc<Shard>>>);

impl ShardTable {
    /// The shard, opened by `open` if it is not open.
    pub(crate) fn get_or_open(
        &self,
        id: ShardId,
        open: impl FnOnce() -> Result<Shard, RuntimeError>,
    ) -> Result<Arc<Shard>, RuntimeError> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(id).or_default())
        };
        let mut shard = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shard {
            Some(shard) => Ok(Arc::clone(shard)),
            None => {
                let opened = Arc::new(open()?);
                *shard = Some(Arc::clone(&opened));
                Ok(opened)
            }
        }
    }

    /// All open shards.
    pub(crate) fn all(&self) -> Vec<Arc<Shard>> {
        let slots: Vec<_> = {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.values().cloned().collect()
        };
        let shard = |slot: Arc<Slot>| {
            let shard = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
            shard.clone()
        };
        let mut shards: Vec<_> = slots.into_iter().filter_map(shard).collect();
        shards.sort_by_key(|shard| shard.id);
        shards
    }
}
