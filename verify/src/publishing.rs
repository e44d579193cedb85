//! One writer, readers beside it, and the buffers that go round.
//!
//! The value is a state of two numbers of which every chunk changes one, as a chunk changes
//! some rows of a table: version `v` holds [`content`]`(v)`. A buffer that is used again one
//! version too late lacks a change, and one that is used while somebody reads it changes under
//! his eyes.

use crate::explore::{JoinHandle, every_order, set, spawn};
use crate::published::{Foreign, Published, Reader, Versioned, reclaim};
use crate::sync::{Arc, AtomicU64, Ordering};

const OWNER: u8 = 7;

struct State {
    owner: u8,
    version: u64,
    numbers: [AtomicU64; 2],
}

/// What version `v` holds: chunk `v` adds one to number `v % 2`.
fn content(version: u64) -> [u64; 2] {
    [version / 2, version.div_ceil(2)]
}

impl State {
    fn of_version(version: u64) -> Self {
        Self {
            owner: OWNER,
            version,
            numbers: content(version).map(AtomicU64::new),
        }
    }

    fn numbers(&self) -> [u64; 2] {
        self.numbers.each_ref().map(|n| n.load(Ordering::Relaxed))
    }

    /// The next version as a write makes it: in the buffers of the version before this one, or
    /// in a copy.
    fn next(&self, buffers: Option<Self>) -> Self {
        let mut next = match buffers {
            None => Self {
                owner: self.owner,
                version: self.version,
                numbers: self.numbers().map(AtomicU64::new),
            },
            Some(mut older) => {
                let changed = (self.version % 2) as usize;
                set(&mut older.numbers[changed], self.numbers()[changed]);
                older
            }
        };
        next.version = self.version + 1;
        let changed = (next.version % 2) as usize;
        let number = next.numbers()[changed];
        set(&mut next.numbers[changed], number + 1);
        next
    }
}

impl Versioned for State {
    type Owner = u8;

    fn owner(&self) -> u8 {
        self.owner
    }

    fn version(&self) -> u64 {
        self.version
    }
}

fn published() -> Arc<Published<State>> {
    Arc::new(Published::new(State::of_version(0)))
}

/// Loads twice and looks at the first state again while it holds both.
fn spawn_reader(published: &Arc<Published<State>>, reader: &Arc<Reader<u8>>) -> JoinHandle<()> {
    let (published, reader) = (Arc::clone(published), Arc::clone(reader));
    spawn(move || {
        let load = || {
            reader
                .load(&published)
                .unwrap_or_else(|_| panic!("foreign"))
        };
        let first = load();
        assert_eq!(first.numbers(), content(first.version));
        let second = load();
        assert_eq!(second.numbers(), content(second.version));
        assert!(second.version >= first.version);
        assert_eq!(first.numbers(), content(first.version));
    })
}

/// Publishes `chunks` versions, each in what `take` makes of the state that was replaced.
fn write(
    published: &Published<State>,
    chunks: u64,
    take: impl Fn(Arc<State>, &State) -> Option<State>,
) {
    let mut replaced = None;
    for _ in 0..chunks {
        let current = published.load();
        let buffers = replaced.and_then(|replaced| take(replaced, &current));
        replaced = Some(published.publish(Arc::new(current.next(buffers))));
    }
}

#[test]
fn readers_see_whole_versions_that_do_not_change() {
    every_order(|| {
        let published = published();
        let readers = [0, 1].map(|_| spawn_reader(&published, &Arc::new(Reader::new(OWNER))));
        write(&published, 3, reclaim);
        for reader in readers {
            reader.join().unwrap();
        }
        assert_eq!(published.load().numbers(), content(3));
    });
}

#[test]
fn readers_that_share_a_handle_do_not_take_each_other_for_foreign() {
    every_order(|| {
        let published = published();
        let reader = Arc::new(Reader::new(OWNER));
        let readers = [0, 1].map(|_| spawn_reader(&published, &reader));
        write(&published, 2, reclaim);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn without_readers_the_buffers_are_used_again() {
    every_order(|| {
        let published = published();
        let first = Arc::clone(&published.load());
        let mut replaced = Some(published.publish(Arc::new(first.next(None))));
        drop(first);
        for _ in 0..2 {
            let current = published.load();
            let buffers = replaced.and_then(|replaced| reclaim(replaced, &current));
            assert!(buffers.is_some());
            replaced = Some(published.publish(Arc::new(current.next(buffers))));
        }
    });
}

/// A rollback publishes a version of its own between two chunks.
fn chunk_rollback_chunk(take: impl Fn(Arc<State>, &State) -> Option<State>) {
    let published = published();
    let reader = spawn_reader(&published, &Arc::new(Reader::new(OWNER)));
    let current = published.load();
    let replaced = published.publish(Arc::new(current.next(None)));
    drop(current);
    published.publish(Arc::new(State::of_version(2)));
    let current = published.load();
    let buffers = take(replaced, &current);
    published.publish(Arc::new(current.next(buffers)));
    reader.join().unwrap();
    assert_eq!(published.load().numbers(), content(3));
}

#[test]
fn buffers_that_are_two_versions_behind_are_not_used() {
    every_order(|| chunk_rollback_chunk(reclaim));
}

#[test]
fn a_snapshot_of_another_owner_or_an_older_one_is_refused() {
    every_order(|| {
        let published = Published::new(State::of_version(4));
        let error = Reader::new(8).load(&published).err();
        let foreign = |expected, version| Foreign {
            expected,
            found: OWNER,
            version,
        };
        assert_eq!(error, Some(foreign(8, 4)));
        let reader = Reader::new(OWNER);
        assert!(reader.load(&published).is_ok());
        published.publish(Arc::new(State::of_version(3)));
        assert_eq!(reader.load(&published).err(), Some(foreign(OWNER, 3)));
    });
}

/// The models can fail: the same with a careless writer.
#[cfg(not(miri))]
mod careless {
    use super::*;

    #[test]
    #[should_panic(expected = "left == right")]
    fn a_writer_who_does_not_look_at_the_version_loses_a_change() {
        every_order(|| chunk_rollback_chunk(|replaced, _| Arc::try_unwrap(replaced).ok()));
    }

    #[test]
    #[should_panic(expected = "left == right")]
    fn a_writer_who_does_not_look_at_the_holders_changes_what_is_read() {
        every_order(|| {
            let published = published();
            let reader = spawn_reader(&published, &Arc::new(Reader::new(OWNER)));
            let current = published.load();
            let replaced = published.publish(Arc::new(current.next(None)));
            // The next chunk, in place, whoever may hold it.
            for (number, value) in replaced.numbers.iter().zip(content(2)) {
                number.store(value, Ordering::Relaxed);
            }
            reader.join().unwrap();
        });
    }
}
