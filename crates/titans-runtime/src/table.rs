//! Which shards are in memory, and which may leave it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use titans_store::ShardId;

use crate::context::Context;
use crate::error::OpenError;
use crate::locks::{Held, Mutex, Rank};
use crate::shard::{Lease, Leased, Shard, Slot};

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
}

/// Who saves a shard before it leaves memory, and closes it.
pub(crate) trait Keeper {
    /// Saves what the shard holds, if that is possible now.
    fn save(&self, shard: &Arc<Shard>);

    /// Closes the files of a shard; nothing of it is in any line after that.
    fn close(&self, shard: &Arc<Shard>);
}

impl ShardTable {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            slots: Mutex::new(Rank::Table, HashMap::new()),
            limit,
            admission: Mutex::new(Rank::Admission, ()),
        }
    }

    /// A lease on the shard, which `open` opens if it is not in memory.
    pub(crate) fn lease(
        &self,
        id: ShardId,
        open: impl FnOnce() -> Result<Shard, OpenError>,
        keeper: &impl Keeper,
        context: &Context,
    ) -> Result<Lease, OpenError> {
        if let Some(lease) = self.lease_resident(id) {
            return Ok(lease);
        }
        let admission = self.admission.lock();
        if let Some(lease) = self.lease_resident(id) {
            return Ok(lease);
        }
        self.make_room(keeper, context)?;
        let slot = self.slot(id, context);
        let _slot = Held::enter(Rank::Slot);
        // Once the slot is locked the place is taken: it counts from here on.
        let admitted = || drop(admission);
        slot.fill(admitted, || {
            let opened = open();
            if opened.is_err() {
                self.remove(id, context);
            }
            opened
        })
    }

    /// Takes a shard out of memory, leased or not, once `act` has dealt with it. Nobody
    /// opens it meanwhile.
    pub(crate) fn take_out<T>(
        &self,
        id: ShardId,
        context: &Context,
        act: impl FnOnce(Option<&Arc<Shard>>) -> T,
    ) -> T {
        let _admission = self.admission.lock();
        let slot = self.slot(id, context);
        let _slot = Held::enter(Rank::Slot);
        slot.empty(|shard| {
            let outcome = act(shard);
            if let Some(shard) = shard {
                shard.account_nothing(context);
            }
            self.remove(id, context);
            outcome
        })
    }

    /// All shards in memory, in the order of their ids.
    pub(crate) fn all(&self) -> Vec<Arc<Shard>> {
        let slots: Vec<_> = self.slots.lock().values().cloned().collect();
        let mut shards: Vec<_> = slots.iter().filter_map(|slot| slot.get()).collect();
        shards.sort_by_key(|shard| shard.id);
        shards
    }

    /// A shard that is in memory, without a lease.
    pub(crate) fn find(&self, id: ShardId) -> Option<Arc<Shard>> {
        let slot = Arc::clone(self.slots.lock().get(&id)?);
        slot.get()
    }

    /// How many shards are in memory or on their way.
    pub(crate) fn len(&self) -> usize {
        self.slots.lock().len()
    }

    fn slot(&self, id: ShardId, context: &Context) -> Arc<Slot<Shard>> {
        let mut slots = self.slots.lock();
        let slot = Arc::clone(slots.entry(id).or_default());
        let resident = slots.len();
        drop(slots);
        context.meters.resident_users.set(resident);
        slot
    }

    fn lease_resident(&self, id: ShardId) -> Option<Lease> {
        let slot = Arc::clone(self.slots.lock().get(&id)?);
        // Waits while another thread opens or closes it.
        slot.lease()
    }

    /// Lets shards leave until there is room for one more.
    fn make_room(&self, keeper: &impl Keeper, context: &Context) -> Result<(), OpenError> {
        // A shard that cannot be saved now stays: it holds what nobody else does.
        let mut tried = HashSet::new();
        while self.len() >= self.limit {
            let idle = (self.all().into_iter())
                .filter(|shard| !shard.leases().are_held() && !tried.contains(&shard.id));
            // Looks at each once: saves and leases end meanwhile, and a sort that sees the
            // order change panics.
            let order = |shard: &Arc<Shard>| (!shard.is_clean(), shard.leases().last_released());
            let Some(shard) = idle.min_by_key(order) else {
                return Err(OpenError::OverBudget {
                    resident: self.len(),
                    limit: self.limit,
                });
            };
            if !shard.is_clean() {
                keeper.save(&shard);
            }
            if !self.evict(&shard, keeper, context) {
                tried.insert(shard.id);
            }
        }
        Ok(())
    }

    /// Closes a shard and takes it out, unless it was leased again or could not be saved; says
    /// whether it left.
    ///
    /// A shard that has failed leaves all the same: its last good generation is on disk, the
    /// failure was reported, and what it holds beyond that can never be saved.
    fn evict(&self, shard: &Arc<Shard>, keeper: &impl Keeper, context: &Context) -> bool {
        let slot = self.slots.lock().get(&shard.id).cloned();
        let Some(slot) = slot else { return true };
        let _slot = Held::enter(Rank::Slot);
        slot.evict(|resident| {
            let may_leave =
                std::ptr::eq(resident, &**shard) && (shard.is_clean() || shard.has_failed());
            if may_leave {
                let _span = tracing::debug_span!("evict", shard = %shard.id).entered();
                keeper.close(shard);
                shard.account_nothing(context);
                self.remove(shard.id, context);
                context.meters.evictions.add(1);
            }
            may_leave
        })
    }

    /// Takes a slot out of the map. The caller holds the slot's own lock, so whoever waits
    /// for it finds it empty and looks the shard up again.
    fn remove(&self, id: ShardId, context: &Context) {
        let mut slots = self.slots.lock();
        slots.remove(&id);
        let resident = slots.len();
        drop(slots);
        context.meters.resident_users.set(resident);
    }
}
