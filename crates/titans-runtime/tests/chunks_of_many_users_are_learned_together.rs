//! A batch of chunks of many users is learned as each would be alone, fairly, and a chunk that
//! cannot be learned is its user's affair.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{CHUNK, Stream, config, newest_image};
use titans_core::Preset;
use titans_runtime::{Rows, Runtime, RuntimeConfig, ShardId, Stats, WaitError};
use titans_store::MemoryImage;

/// The folder of a memory below `root`.
fn memory_dir(root: &Path, shard: ShardId) -> PathBuf {
    let name = shard.to_string();
    let (first, rest) = name.split_at(2);
    let (second, rest) = rest.split_at(2);
    root.join("users").join(first).join(second).join(rest)
}

/// A configuration whose queues take whole streams, so that many users wait at once.
fn batches_of(learn_batch: usize, config: RuntimeConfig) -> RuntimeConfig {
    config
        .with_chunk_tokens(CHUNK)
        .with_queue_tokens(64 * CHUNK)
        .with_learn_batch(learn_batch)
}

/// What one runtime makes of the streams, each of a user of its own.
fn learn(config: RuntimeConfig, streams: &[Stream]) -> (Vec<MemoryImage>, Stats) {
    let root = tempfile::tempdir().unwrap();
    let runtime = Runtime::open(root.path(), config).unwrap();
    let users: Vec<_> = (0..streams.len())
        .map(|user| runtime.user(user).unwrap())
        .collect();
    for (user, stream) in users.iter().zip(streams) {
        stream.observe(user, 0..stream.tokens()).unwrap();
    }
    runtime.flush().unwrap();
    let images = users
        .iter()
        .map(|user| newest_image(&memory_dir(root.path(), user.shard()), user.shard()))
        .collect();
    (images, runtime.stats())
}

#[test]
fn every_preset_learns_in_a_batch_what_it_learns_alone() {
    for preset in Preset::ALL {
        let config = RuntimeConfig::preset(*preset);
        let widths = (config.memory.key_dim, config.memory.value_dim);
        // The ends differ, so that batches of unequal chunks would be tempting.
        let streams: Vec<_> = (0..4)
            .map(|user| Stream::with_widths(2 * CHUNK + 3 * user, user as u64, widths))
            .collect();
        let alone: Vec<_> = streams
            .iter()
            .flat_map(|stream| {
                let stream = std::slice::from_ref(stream);
                let (image, stats) = learn(batches_of(1, config.clone()), stream);
                assert_eq!(stats.batches, stats.chunks, "{preset}");
                image
            })
            .collect();
        // A learner that is faster than this thread finds nobody waiting.
        let shared = (0..50).any(|_| {
            let (together, stats) = learn(batches_of(3, config.clone()), &streams);
            assert_eq!(stats.chunks, 4 * 2 + 3, "{preset}");
            assert!(together == alone, "{preset}");
            stats.batches < stats.chunks
        });
        assert!(shared, "{preset}: nothing was shared");
    }
}

#[test]
fn one_poisoned_user_does_not_stop_the_others() {
    // The dense preset refuses a batch as a whole, the sparse one reports each of its users.
    for preset in [Preset::Sparse, Preset::Titans] {
        let config = batches_of(8, RuntimeConfig::preset(preset));
        let widths = (config.memory.key_dim, config.memory.value_dim);
        let stream = Stream::with_widths(4 * CHUNK, 1, widths);
        let (alone, _) = learn(batches_of(1, config.clone()), std::slice::from_ref(&stream));
        let shared = (0..50).any(|_| {
            let stats = learn_beside_poison(&config, &stream, &alone[0]);
            stats.batches < stats.chunks
        });
        assert!(shared, "{preset}: nothing was shared");
    }
}

/// Six users learn the stream, one of them a chunk of poison behind the first of it.
fn learn_beside_poison(config: &RuntimeConfig, stream: &Stream, alone: &MemoryImage) -> Stats {
    const POISONED: usize = 3;
    let (key_dim, value_dim) = (config.memory.key_dim, config.memory.value_dim);
    let root = tempfile::tempdir().unwrap();
    let runtime = Runtime::open(root.path(), config.clone()).unwrap();
    let users: Vec<_> = (0..6).map(|user| runtime.user(user).unwrap()).collect();
    // As long as a value may be, and in turn the one and the other way: learned one after the
    // other, what lies between them overflows.
    let longest = (f32::MAX / value_dim as f32).sqrt() * 0.99;
    let sign = |number: usize| [1.0, -1.0][number / value_dim % 2];
    let poison: Vec<f32> = (0..CHUNK * value_dim)
        .map(|number| sign(number) * longest)
        .collect();
    let same_key = stream.keys[..key_dim].repeat(CHUNK);
    let mut poisoned = None;
    for (index, user) in users.iter().enumerate() {
        stream.observe(user, 0..CHUNK).unwrap();
        if index == POISONED {
            let keys = Rows::matrix(&same_key, key_dim);
            let values = Rows::matrix(&poison, value_dim);
            poisoned = Some(user.observe(keys, values).unwrap());
        }
        stream.observe(user, CHUNK..4 * CHUNK).unwrap();
    }
    runtime.flush().unwrap();
    let error = poisoned.unwrap().wait().unwrap_err();
    assert!(matches!(error, WaitError::Dropped), "{error}");
    // The poisoned user's memory, too, is as if the poison had never been handed over.
    for (index, user) in users.iter().enumerate() {
        let image = newest_image(&memory_dir(root.path(), user.shard()), user.shard());
        assert!(image == *alone, "user {index}");
    }
    runtime.stats()
}

#[test]
fn a_short_note_does_not_wait_for_a_crowd_of_books() {
    let root = tempfile::tempdir().unwrap();
    let mut config = batches_of(4, config());
    config.queue_tokens = 100 * CHUNK;
    let runtime = Runtime::open(root.path(), config).unwrap();
    let book = Stream::new(100 * CHUNK, 7);
    let long: Vec<_> = (0..8)
        .map(|user| {
            let user = runtime.user(user).unwrap();
            book.observe(&user, 0..book.tokens()).unwrap()
        })
        .collect();
    let other = runtime.user("other").unwrap();
    let short = book.observe(&other, 0..3).unwrap();
    short.wait_timeout(Duration::from_secs(60)).unwrap();
    assert!(long.iter().any(|ticket| !ticket.is_durable()));
    runtime.flush().unwrap();
}

#[test]
fn a_memory_that_has_caught_up_keeps_one_snapshot() {
    let root = tempfile::tempdir().unwrap();
    let runtime = Runtime::open(root.path(), batches_of(4, config())).unwrap();
    let stream = Stream::new(8 * CHUNK, 7);
    let users: Vec<_> = (0..3).map(|user| runtime.user(user).unwrap()).collect();
    assert_eq!(runtime.stats().live_snapshots, 3);
    for user in &users {
        stream.observe(user, 0..stream.tokens()).unwrap();
    }
    runtime.flush().unwrap();
    // The learner lets go of the buffers after the last chunk is durable.
    let patience = Instant::now() + Duration::from_secs(60);
    while runtime.stats().live_snapshots > 3 && Instant::now() < patience {
        std::thread::yield_now();
    }
    assert_eq!(runtime.stats().live_snapshots, 3);
}
