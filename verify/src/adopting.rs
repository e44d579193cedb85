//! How a new snapshot is taken in: published, then the marks moved and the notes dropped, all
//! behind the shard's lock, while readers load without it.
//!
//! What matters of `Shard::adopt` and `Shard::pieces` of the runtime: version `v` tells of the
//! items `1..=v`, and what no version tells of yet stands in the notes.

use crate::explore::{JoinHandle, every_order, spawn};
use crate::published::{Published, Reader, Versioned};
use crate::sync::{Arc, Mutex, PoisonError};

const OWNER: u8 = 7;

struct Version(u64);

impl Versioned for Version {
    type Owner = u8;

    fn owner(&self) -> u8 {
        OWNER
    }

    fn version(&self) -> u64 {
        self.0
    }
}

/// What stands behind the shard's lock.
struct State {
    visible: u64,
    /// Items that were handed over and of which no version tells yet, oldest first.
    notes: Vec<u64>,
}

struct Memory {
    published: Published<Version>,
    state: Mutex<State>,
}

impl Memory {
    /// With items that were handed over and not learned.
    fn with_notes(items: u64) -> Arc<Self> {
        Arc::new(Self {
            published: Published::new(Version(0)),
            state: Mutex::new(State {
                visible: 0,
                notes: (1..=items).collect(),
            }),
        })
    }

    fn locked<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn publish(&self, version: u64) {
        drop(self.published.publish(Arc::new(Version(version))));
    }

    fn adopt(&self, version: u64) {
        self.locked(|state| {
            self.publish(version);
            state.visible = version;
            state.notes.remove(0);
        });
    }

    fn finds(&self, item: u64) -> bool {
        // The notes first, as in the runtime.
        self.is_noted(item) || self.is_told(item)
    }

    fn is_noted(&self, item: u64) -> bool {
        self.locked(|state| state.notes.contains(&item))
    }

    fn is_told(&self, item: u64) -> bool {
        self.published.load().0 >= item
    }
}

/// Looks at the marks, then reads.
fn spawn_reader(memory: &Arc<Memory>) -> JoinHandle<()> {
    let memory = Arc::clone(memory);
    spawn(move || {
        let reader = Reader::new(OWNER);
        for _ in 0..2 {
            let visible = memory.locked(|state| state.visible);
            let read = reader.load(&memory.published);
            let version = read.unwrap_or_else(|_| panic!("foreign")).0;
            assert!(version >= visible, "visible and not there");
        }
    })
}

/// Looks for an item that was handed over before.
fn spawn_finder(
    memory: &Arc<Memory>,
    finds: impl Fn(&Memory, u64) -> bool + Send + 'static,
) -> JoinHandle<()> {
    let memory = Arc::clone(memory);
    spawn(move || assert!(finds(&memory, 2), "missed"))
}

fn learn_beside(seeker: impl Fn(&Arc<Memory>) -> JoinHandle<()>, adopt: impl Fn(&Memory, u64)) {
    let memory = Memory::with_notes(3);
    let seeker = seeker(&memory);
    for version in 1..=3 {
        adopt(&memory, version);
    }
    seeker.join().unwrap();
}

#[test]
fn what_the_marks_call_visible_is_read() {
    every_order(|| learn_beside(spawn_reader, Memory::adopt));
}

#[test]
fn an_item_is_in_the_notes_or_in_the_snapshot() {
    let seeker = |memory: &Arc<Memory>| spawn_finder(memory, Memory::finds);
    every_order(move || learn_beside(seeker, Memory::adopt));
}

/// The models can fail: the same with a careless order of steps.
#[cfg(not(miri))]
mod careless {
    use super::*;

    #[test]
    #[should_panic(expected = "visible and not there")]
    fn marks_that_move_before_the_swap_promise_too_much() {
        let adopt = |memory: &Memory, version| {
            memory.locked(|state| state.visible = version);
            memory.publish(version);
        };
        every_order(move || learn_beside(spawn_reader, adopt));
    }

    #[test]
    #[should_panic(expected = "missed")]
    fn notes_that_leave_before_the_swap_are_missed() {
        let adopt = |memory: &Memory, version| {
            memory.locked(|state| state.notes.remove(0));
            memory.publish(version);
        };
        let seeker = |memory: &Arc<Memory>| spawn_finder(memory, Memory::finds);
        every_order(move || learn_beside(seeker, adopt));
    }

    #[test]
    #[should_panic(expected = "missed")]
    fn who_looks_at_the_snapshot_first_misses_an_item() {
        let finds = |memory: &Memory, item| memory.is_told(item) || memory.is_noted(item);
        let seeker = move |memory: &Arc<Memory>| spawn_finder(memory, finds);
        every_order(move || learn_beside(seeker, Memory::adopt));
    }
}
