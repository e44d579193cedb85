//! Which shards are in memory, and which may leave it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use titans_store::ShardId;

use crate::error::RuntimeError;
use crate::shard::{Lease, Leased, Shard, Slot};
use crate::stats::Meters;

/// The shards that are in memory, at most as many as fit.
///
/// Two locks: the map, for a look-up, and the slot of one shard, for as long as its files
/// take to open or to close. Nobody waits for a slot while holding the map. So opening is
/// done once per shard however many ask, and opening one does not hold up the others.
///
/// A shard with a lease stays. One without leaves when room is needed: of those that have
/// nothing to save, the one that was used longest ago; if there is none, after saving.
#[derive(Debug)]
pub(crate) struct ShardTable {
    slots: Mutex<HashMap<ShardId, Arc<Slot<Shard>>>>,
    /// Shards that fit into memory.
    limit: usize,
    /// Held while room is made and taken, so that two openings do not share the same room.
    admission: Mutex<()>,
    meters: Arc<Meters>,
}

impl ShardTable {
    pub(crate) fn new(limit: usize, meters: Arc<Meters>) -> Self {
        Self {
            slots: Mutex::new(HashMap::new()),
            limit,
            admission: Mutex::new(()),
            meters,
        }
    }

    /// A lease on the shard, which `open` opens if it is not in memory. `save` is called
    /// for a shard that has to be saved before it can leave.
    pub(crate) fn lease(
        &self,
        id: ShardId,
        open: impl FnOnce() -> Result<Shard, RuntimeError>,
        save: impl Fn(&Arc<Shard>),
    ) -> Result<Lease, RuntimeError> {
        if let Some(lease) = self.lease_resident(id) {
            return Ok(lease);
        }
        let admission = self
            .admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = self.lease_resident(id) {
            return Ok(lease);
        }
        self.make_room(save)?;
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            let slot = Arc::clone(slots.entry(id).or_default());
            self.meters.resident_users.set(slots.len());
            slot
        };
        // Once the slot is locked the place is taken: it counts from here on.
        let admitted = || drop(admission);
        slot.fill(admitted, || {
            let opened = open();
            if opened.is_err() {
                self.remove(id);
            }
            opened
        })
    }

    /// Takes a shard out of memory, leased or not, once `act` has dealt with it. Nobody
    /// opens it meanwhile.
    pub(crate) fn take_out<T>(&self, id: ShardId, act: impl FnOnce(Option<&Arc<Shard>>) -> T) -> T {
        let _admission = self
            .admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(id).or_default())
        };
        slot.empty(|shard| {
            let outcome = act(shard);
            if let Some(shard) = shard {
                shard.account_nothing(&self.meters);
            }
            self.remove(id);
            outcome
        })
    }

    /// All shards in memory, in the order of their ids.
    pub(crate) fn all(&self) -> Vec<Arc<Shard>> {
        let mut shards: Vec<_> = self.slots().iter().filter_map(|slot| slot.get()).collect();
        shards.sort_by_key(|shard| shard.id);
        shards
    }

    /// How many shards are in memory or on their way.
    pub(crate) fn len(&self) -> usize {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.len()
    }

    fn lease_resident(&self, id: ShardId) -> Option<Lease> {
        let slot = {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.get(&id)?)
        };
        // Waits while another thread opens or closes it.
        slot.lease()
    }

    /// Lets shards leave until there is room for one more.
    fn make_room(&self, save: impl Fn(&Arc<Shard>)) -> Result<(), RuntimeError> {
        while self.len() >= self.limit {
            let idle = (self.all().into_iter()).filter(|shard| !shard.leases().are_held());
            // Looks at each once: saves and leases end meanwhile, and a sort that sees the
            // order change panics.
            let order = |shard: &Arc<Shard>| (!shard.is_clean(), shard.leases().last_released());
            let Some(shard) = idle.min_by_key(order) else {
                return Err(RuntimeError::OverBudget {
                    resident: self.len(),
                    limit: self.limit,
                });
            };
            if !shard.is_clean() {
                save(&shard);
            }
            self.evict(&shard);
        }
        Ok(())
    }

    /// Closes a shard and takes it out, unless it was leased again or has failed to save.
    ///
    /// A failed shard leaves all the same: its last good generation is on disk, the failure
    /// was reported, and what it holds beyond that can never be saved.
    fn evict(&self, shard: &Arc<Shard>) {
        let slot = {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.get(&shard.id).cloned()
        };
        let Some(slot) = slot else { return };
        slot.evict(|shard| {
            let may_leave = shard.is_clean() || shard.failure().is_some();
            if may_leave {
                let _span = tracing::debug_span!("evict", shard = %shard.id).entered();
                shard.close_files();
                shard.account_nothing(&self.meters);
                self.remove(shard.id);
                self.meters.evictions.add(1);
            }
            may_leave
        });
    }

    /// Takes a slot out of the map. The caller holds the slot's own lock, so whoever waits
    /// for it finds it empty and looks the shard up again.
    fn remove(&self, id: ShardId) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.remove(&id);
        self.meters.resident_users.set(slots.len());
    }

    fn slots(&self) -> Vec<Arc<Slot<Shard>>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.values().cloned().collect()
    }
}
