//! Which shards are in memory, and which may leave it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use titans_store::ShardId;

use crate::error::RuntimeError;
use crate::shard::{Lease, Shard};
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
    slots: Mutex<HashMap<ShardId, Arc<Slot>>>,
    /// Shards that fit into memory.
    limit: usize,
    /// Held while room is made and taken, so that two openings do not share the same room.
    admission: Mutex<()>,
    meters: Arc<Meters>,
}

#[derive(Debug, Default)]
struct Slot(Mutex<Option<Arc<Shard>>>);

impl Slot {
    fn get(&self) -> Option<Arc<Shard>> {
        let shard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shard.clone()
    }
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
        let mut shard = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The place is taken: the slot counts from here on.
        drop(admission);
        match open() {
            Ok(opened) => Ok(Lease::new(shard.insert(Arc::new(opened)))),
            Err(error) => {
                self.remove(id);
                Err(error)
            }
        }
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
        let mut shard = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = act(shard.as_ref());
        if let Some(shard) = shard.take() {
            shard.account_nothing(&self.meters);
        }
        self.remove(id);
        outcome
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
        let shard = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
        shard.as_ref().map(Lease::new)
    }

    /// Lets shards leave until there is room for one more.
    fn make_room(&self, save: impl Fn(&Arc<Shard>)) -> Result<(), RuntimeError> {
        while self.len() >= self.limit {
            let idle = self.all().into_iter().filter(|shard| !shard.is_leased());
            // Looks at each once: saves and leases end meanwhile, and a sort that sees the
            // order change panics.
            let first = idle.min_by_key(|shard| (!shard.is_clean(), shard.last_used()));
            let Some(shard) = first else {
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
        let mut resident = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
        let may_leave = shard.is_clean() || shard.failure().is_some();
        if shard.is_leased() || !may_leave {
            return;
        }
        let _span = tracing::debug_span!("evict", shard = %shard.id).entered();
        shard.close_files();
        shard.account_nothing(&self.meters);
        *resident = None;
        self.remove(shard.id);
        self.meters.evictions.add(1);
    }

    /// Takes a slot out of the map. The caller holds the slot's own lock, so whoever waits
    /// for it finds it empty and looks the shard up again.
    fn remove(&self, id: ShardId) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.remove(&id);
        self.meters.resident_users.set(slots.len());
    }

    fn slots(&self) -> Vec<Arc<Slot>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.values().cloned().collect()
    }
}
