//! Leases against eviction: a memory that somebody needs does not leave.

use crate::explore::{JoinHandle, every_order, spawn};
use crate::lease::{Lease, Leased, Leases, Slot};
use crate::sync::{Arc, AtomicUsize, Ordering};

/// Stands for a shard: its files are open until it is evicted.
#[derive(Default)]
struct Memory {
    leases: Leases,
    closed: AtomicUsize,
    /// What the user has written; relaxed, so that only the protocol can order it.
    written: AtomicUsize,
}

impl Leased for Memory {
    fn leases(&self) -> &Leases {
        &self.leases
    }
}

impl Memory {
    fn close(&self) {
        self.closed.store(1, Ordering::Relaxed);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed) == 1
    }
}

fn slot() -> Arc<Slot<Memory>> {
    let slot = Arc::new(Slot::default());
    let lease = fill(&slot);
    drop(lease);
    slot
}

fn fill(slot: &Slot<Memory>) -> Lease<Memory> {
    let filled = slot.fill(|| (), || Ok::<_, ()>(Memory::default()));
    filled.unwrap_or_else(|()| unreachable!("opening does not fail here"))
}

/// Uses the memory under a lease and, having let that one go, under a copy of it.
fn spawn_user(slot: &Arc<Slot<Memory>>) -> JoinHandle<()> {
    let slot = Arc::clone(slot);
    spawn(move || {
        let lease = slot.lease().unwrap_or_else(|| fill(&slot));
        assert!(!lease.is_closed(), "closed under a lease");
        let copy = lease.clone();
        drop(lease);
        copy.written.store(1, Ordering::Relaxed);
        assert!(!copy.value().is_closed(), "closed under a lease");
    })
}

#[test]
fn nothing_is_closed_while_it_is_leased() {
    every_order(|| {
        let slot = slot();
        let user = spawn_user(&slot);
        slot.evict(|memory| {
            memory.close();
            true
        });
        user.join().unwrap();
    });
}

#[test]
fn two_who_evict_and_one_who_uses_do_it_in_turn() {
    every_order(|| {
        let slot = slot();
        let user = spawn_user(&slot);
        let evict = |slot: &Slot<Memory>| {
            slot.evict(|memory| {
                assert!(!memory.is_closed(), "evicted twice");
                memory.close();
                true
            })
        };
        let other = {
            let slot = Arc::clone(&slot);
            spawn(move || evict(&slot))
        };
        evict(&slot);
        other.join().unwrap();
        user.join().unwrap();
    });
}

#[test]
fn who_evicts_sees_the_last_use() {
    every_order(|| {
        let slot = slot();
        let (lease, evicting) = (slot.lease(), Arc::clone(&slot));
        let user = spawn(move || {
            let lease = lease.unwrap_or_else(|| unreachable!("it is there"));
            lease.written.store(1, Ordering::Relaxed);
        });
        let evicted = evicting.evict(|memory| {
            assert_eq!(memory.written.load(Ordering::Relaxed), 1);
            assert!(memory.leases.last_released() > 0);
            true
        });
        user.join().unwrap();
        assert_eq!(evicted, slot.get().is_none());
    });
}

#[test]
fn what_was_forgotten_is_not_found_again() {
    every_order(|| {
        let slot = slot();
        let user = {
            let slot = Arc::clone(&slot);
            spawn(move || drop(slot.lease().unwrap_or_else(|| fill(&slot))))
        };
        // Leased or not.
        slot.empty(|memory| {
            if let Some(memory) = memory {
                memory.close();
            }
        });
        let found = slot.lease();
        assert!(found.is_none_or(|memory| !memory.is_closed()));
        user.join().unwrap();
    });
}

/// The models can fail: the same with a careless table.
#[cfg(not(miri))]
mod careless {
    use super::*;

    #[test]
    #[should_panic(expected = "closed under a lease")]
    fn who_looks_at_the_leases_before_the_lock_closes_a_leased_memory() {
        every_order(|| {
            let slot = slot();
            let user = spawn_user(&slot);
            let is_idle = slot.get().is_some_and(|memory| !memory.leases.are_held());
            if is_idle {
                slot.empty(|memory| {
                    if let Some(memory) = memory {
                        memory.close();
                    }
                });
            }
            user.join().unwrap();
        });
    }
}
