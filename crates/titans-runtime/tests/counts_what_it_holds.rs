//! The runtime's sums of what is loaded, waits and is not durable are those of its memories.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{CHUNK, Stream, config};
use titans_runtime::{Durability, Runtime};

#[test]
fn what_is_not_durable_is_dirty_until_it_is_saved() {
    let root = tempfile::tempdir().unwrap();
    let mut config = config();
    // Probes are counted, too, and how many there are depends on the shard.
    config.recall_watch = None;
    config.durability = Durability::Interval(Duration::from_secs(3600));
    let state = config.memory.state_bytes();
    let runtime = Runtime::open(root.path(), config).unwrap();
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::new(3 * CHUNK, 2);
    // A wait does not wait for the hour that lies between two saves.
    stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
    let settled = |expected: (usize, usize)| {
        let deadline = Instant::now() + Duration::from_secs(60);
        let now = || (runtime.stats().resident_bytes, runtime.stats().dirty_bytes);
        while now() != expected && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(now(), expected);
    };
    settled((state, 0));
    stream.observe(&memory, CHUNK..3 * CHUNK).unwrap();
    // Two chunks are learned, and the newer snapshot has replaced the older one.
    settled((state, state));
    memory.flush().unwrap();
    settled((state, 0));
}

#[test]
fn the_sums_are_those_of_the_memories_after_any_coming_and_going() {
    let root = tempfile::tempdir().unwrap();
    let mut config = config();
    // Probes are counted, too, and how many there are depends on the shard.
    config.recall_watch = None;
    config.resident_bytes = 3 * config.bytes_per_user();
    let state = config.memory.state_bytes();
    let runtime = Runtime::open(root.path(), config).unwrap();
    let stream = Stream::new(CHUNK + 1, 3);
    for turn in 0..30 {
        let memory = runtime.user(format!("user {}", turn % 7)).unwrap();
        stream.observe(&memory, 0..stream.tokens()).unwrap();
    }
    // The last one to come.
    runtime.forget_user("user 1").unwrap();
    runtime.flush().unwrap();
    // A saver tells that it is done before it has brought the sums up to date.
    let deadline = Instant::now() + Duration::from_secs(60);
    while runtime.stats().dirty_bytes > 0 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let stats = runtime.stats();
    assert_eq!((stats.dirty_bytes, stats.queued_tokens), (0, 0));
    assert_eq!(stats.resident_users, runtime.resident_users());
    assert_eq!(stats.resident_bytes, stats.resident_users * state);
    // Who was loaded has left, was forgotten or is here.
    assert_eq!(
        stats.load.count,
        stats.evictions + 1 + stats.resident_users as u64
    );
}
