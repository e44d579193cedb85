//! What is acknowledged is there after a restart; what fails is told, fails alone and loses
//! nothing that was saved.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{CHUNK, KEY_DIM, Stream, VALUE_DIM, config, newest_image, only_memory, open};
use titans_runtime::{
    Alert, AlertKind, AlertSink, Alerts, CommandError, Durability, ObserveError, OpenError, Rows,
    Runtime, Stopped, WaitError,
};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn what_was_taken_is_there_after_a_close() {
    let root = tempfile::tempdir().unwrap();
    let stream = Stream::new(3 * CHUNK + 5, 1);
    let runtime = open(root.path());
    let memory = runtime.user("alice").unwrap();
    let ticket = stream.observe(&memory, 0..stream.tokens()).unwrap();
    let report = runtime.close(SOON);
    assert!(report.is_durable(), "{report:?}");
    assert_eq!(report.users[0].progress.durable, 101);
    assert!(ticket.is_durable());

    // A handle still recalls, takes nothing, and does not keep the folder.
    let before = stream.recall(&memory);
    let error = stream.observe(&memory, 0..1).unwrap_err();
    assert_eq!(error, ObserveError::Stopped(Stopped::Closed));
    let runtime = open(root.path());
    let again = runtime.user("alice").unwrap();
    assert_eq!(stream.recall(&again), before);
    assert_eq!(again.progress().durable, 101);
    assert!(again.skipped().is_empty());
}

#[test]
fn a_root_has_one_owner() {
    let root = tempfile::tempdir().unwrap();
    let runtime = open(root.path());
    let error = Runtime::open(root.path(), config()).unwrap_err();
    assert!(matches!(error, OpenError::RootLocked { .. }), "{error}");
    drop(runtime);
    open(root.path());
}

#[test]
fn a_damaged_newest_generation_falls_back_and_says_so() {
    let root = tempfile::tempdir().unwrap();
    let stream = Stream::new(2 * CHUNK, 2);
    let runtime = open(root.path());
    let memory = runtime.user("alice").unwrap();
    stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
    let after_one = stream.recall(&memory);
    stream.observe(&memory, CHUNK..2 * CHUNK).unwrap();
    runtime.close(SOON);

    let mut files: Vec<_> = fs::read_dir(only_memory(root.path()))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "titanmem"))
        .collect();
    files.sort();
    assert_eq!(files.len(), 2);
    let mut bytes = fs::read(&files[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&files[1], bytes).unwrap();

    let runtime = open(root.path());
    let memory = runtime.user("alice").unwrap();
    assert_eq!(memory.skipped().len(), 1, "{:?}", memory.skipped());
    assert!(memory.skipped()[0].contains("generation 2 is damaged"));
    assert_eq!(memory.progress().durable, 32);
    assert_eq!(stream.recall(&memory), after_one);

    // Learning goes on from there, under a number that was never used.
    stream
        .observe(&memory, CHUNK..2 * CHUNK)
        .unwrap()
        .wait()
        .unwrap();
    assert!(
        only_memory(root.path())
            .join("g-00000000000000000003.titanmem")
            .exists()
    );
}

#[test]
fn a_memory_of_another_configuration_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let stream = Stream::new(CHUNK, 3);
    let runtime = open(root.path());
    stream
        .observe(&runtime.user("alice").unwrap(), 0..CHUNK)
        .unwrap();
    runtime.close(SOON);

    let mut other = config();
    other.memory.seed = 9;
    let runtime = Runtime::open(root.path(), other).unwrap();
    let error = runtime.user("alice").unwrap_err();
    assert!(error.to_string().contains("frozen parameters"), "{error}");
    assert!(error.to_string().contains("\"seed\": \"9\""), "{error}");
    // Another user's memory can be made all the same.
    runtime.user("bob").unwrap();
    drop(runtime);
    open(root.path()).user("alice").unwrap();
}

#[test]
fn a_folder_that_is_removed_by_hand_is_made_again_and_only_its_user_notices() {
    let root = tempfile::tempdir().unwrap();
    let stream = Stream::new(4 * CHUNK, 4);
    let runtime = open(root.path());
    let alice = runtime.user("alice").unwrap();
    let folder = only_memory(root.path());
    stream.observe(&alice, 0..CHUNK).unwrap().wait().unwrap();
    // A folder without a name takes no files, not even root's.
    fs::remove_dir_all(&folder).unwrap();
    let ticket = stream.observe(&alice, CHUNK..2 * CHUNK).unwrap();
    let error = ticket.wait().unwrap_err();
    assert!(matches!(error, WaitError::Unavailable { .. }), "{error:?}");
    assert!(error.is_retryable());
    // It is tried again, with everything that the memory holds.
    ticket.wait().unwrap();
    assert!(alice.health().is_healthy(), "{:?}", alice.health());
    assert_eq!(newest_image(&folder, alice.shard()).tokens_seen, 64);
    let bob = runtime.user("bob").unwrap();
    stream.observe(&bob, 0..CHUNK).unwrap().wait().unwrap();
    assert!(runtime.close(SOON).is_durable());
}

#[test]
fn numbers_that_overflow_inside_a_chunk_do_not_replace_a_good_snapshot() {
    let root = tempfile::tempdir().unwrap();
    let runtime = open(root.path());
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::new(2 * CHUNK, 5);
    stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
    let before = stream.recall(&memory);
    // Each value is as long as a value may be; what lies between them is not.
    let (keys, mut values) = ([1.0; 2 * KEY_DIM], [6e18; 2 * VALUE_DIM]);
    values[VALUE_DIM..].fill(-6e18);
    let ticket = memory
        .observe(
            Rows::matrix(&keys, KEY_DIM),
            Rows::matrix(&values, VALUE_DIM),
        )
        .unwrap();
    // Handed over behind the poison, before anybody knows of it.
    let behind = stream.observe(&memory, CHUNK..2 * CHUNK).unwrap();
    let error = ticket.wait().unwrap_err();
    assert!(matches!(error, WaitError::Dropped), "{error}");
    let waited = behind.wait();
    assert!(matches!(waited, Ok(()) | Err(WaitError::Dropped)));
    if waited.is_err() {
        // It was in the same chunk.
        assert_eq!(stream.recall(&memory), before);
    }
    assert!(memory.health().is_healthy());
    // The next one works, and nothing of the poison is in the way.
    stream
        .observe(&memory, CHUNK..2 * CHUNK)
        .unwrap()
        .wait()
        .unwrap();
    let progress = memory.progress();
    assert_eq!(progress.accepted, progress.durable);
    assert!(stream.recall(&memory).iter().all(|x| x.abs() < 10.0));
}

#[test]
fn async_and_interval_pass_over_generations_but_a_wait_does_not() {
    for durability in [
        Durability::Async { max_lag: 64 },
        Durability::Interval(Duration::from_secs(3600)),
    ] {
        let root = tempfile::tempdir().unwrap();
        let mut config = config();
        config.durability = durability;
        // Learning must be faster than the disk.
        config.recall_watch = None;
        let runtime = Runtime::open(root.path(), config).unwrap();
        let memory = runtime.user("alice").unwrap();
        let stream = Stream::new(60 * CHUNK, 6);
        stream
            .observe(&memory, 0..stream.tokens())
            .unwrap()
            .wait()
            .unwrap();
        let saves = runtime.stats().save.count;
        assert!(
            (1..60).contains(&saves),
            "{saves} saves under {durability:?}"
        );
        let image = newest_image(&only_memory(root.path()), memory.shard());
        assert_eq!(image.tokens_seen, 60 * CHUNK as u64);
        assert_eq!(image.last_chunk_id, 60);
    }
}

#[test]
fn every_chunk_becomes_a_generation_by_default() {
    let root = tempfile::tempdir().unwrap();
    let runtime = open(root.path());
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::new(20 * CHUNK, 7);
    stream.observe(&memory, 0..stream.tokens()).unwrap();
    memory.flush().unwrap();
    let stats = runtime.stats();
    assert_eq!((stats.learn.count, stats.publish.count), (20, 20));
    assert_eq!(stats.save.count, 20);
}

#[test]
fn impossible_settings_are_named() {
    let root = tempfile::tempdir().unwrap();
    let refused = |change: fn(&mut titans_runtime::RuntimeConfig)| {
        let mut config = config();
        change(&mut config);
        Runtime::open(root.path(), config).unwrap_err().to_string()
    };
    for (error, part) in [
        (refused(|c| c.chunk_tokens = 0), "chunk_tokens is 0"),
        (refused(|c| c.queue_tokens = 1), "queue_tokens is 1"),
        (refused(|c| c.learners = 0), "learners is 0"),
        (
            refused(|c| c.durability = Durability::Async { max_lag: 0 }),
            "max_lag is 0",
        ),
        (refused(|c| c.memory.key_dim = 0), "key_dim"),
    ] {
        assert!(error.contains(part), "{error}");
    }
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Runtime::open(&file, config()).unwrap_err();
    assert!(error.to_string().contains("cannot create"), "{error}");
}

/// Collects alerts.
#[derive(Default)]
struct Collected(Mutex<Vec<Alert>>);

impl AlertSink for Collected {
    fn alert(&self, alert: &Alert) {
        self.0.lock().unwrap().push(alert.clone());
        panic!("a sink must not take the runtime with it");
    }
}

#[test]
fn whoever_asked_is_told_what_was_lost_and_what_failed() {
    let root = tempfile::tempdir().unwrap();
    let collected = Arc::new(Collected::default());
    let mut config = config();
    config.alerts = Alerts::to(collected.clone());
    let stream = Stream::new(CHUNK, 8);
    let runtime = Runtime::open(root.path(), config.clone()).unwrap();
    let memory = runtime.user("alice").unwrap();
    stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
    drop(memory);
    runtime.close(SOON);
    let file = only_memory(root.path()).join("g-00000000000000000001.titanmem");
    fs::write(&file, "no memory").unwrap();

    let runtime = Runtime::open(root.path(), config).unwrap();
    let memory = runtime.user("alice").unwrap();
    fs::remove_dir_all(only_memory(root.path())).unwrap();
    let ticket = stream.observe(&memory, 0..CHUNK).unwrap();
    ticket.wait().unwrap_err();
    ticket.wait().unwrap();
    assert!(runtime.close(SOON).is_durable());
    let alerts = collected.0.lock().unwrap();
    let kinds: Vec<_> = alerts.iter().map(|alert| alert.kind).collect();
    let expected = [
        AlertKind::DamagedFile,
        AlertKind::Unavailable,
        AlertKind::Recovered,
    ];
    assert_eq!(kinds, expected);
    assert!(alerts.iter().all(|alert| alert.shard == memory.shard()));
    assert!(alerts[0].message.contains("generation 1 is damaged"));
}

#[test]
fn after_a_close_that_ran_out_of_time_nobody_waits_without_end() {
    let root = tempfile::tempdir().unwrap();
    let mut config = config();
    config.queue_tokens = 400 * CHUNK;
    let runtime = Runtime::open(root.path(), config).unwrap();
    let memory = runtime.user("alice").unwrap();
    memory.pin().unwrap_err();
    let stream = Stream::new(400 * CHUNK, 8);
    let ticket = stream.observe(&memory, 0..stream.tokens()).unwrap();
    let report = runtime.close(Duration::ZERO);
    assert!(!report.is_durable(), "so much is not learned in no time");
    assert!(matches!(
        ticket.wait(),
        Err(WaitError::Stopped(Stopped::Closed))
    ));
    assert!(matches!(
        memory.flush(),
        Err(WaitError::Stopped(Stopped::Closed))
    ));
    assert!(matches!(
        memory.roll_back(),
        Err(CommandError::Stopped(Stopped::Closed))
    ));
    assert!(memory.forget(1_u64).unwrap().is_none());
    // What is there can still be read.
    assert_eq!(stream.recall(&memory).len(), stream.tokens() * VALUE_DIM);
}

#[test]
fn an_item_that_was_cut_off_by_closing_is_not_known() {
    let root = tempfile::tempdir().unwrap();
    let mut config = config();
    config.queue_tokens = CHUNK;
    config.ledger.max_bytes = 8 << 20;
    let runtime = Runtime::open(root.path(), config).unwrap();
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::new(4000 * CHUNK, 9);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let keys = Rows::matrix(&stream.keys, KEY_DIM);
            let values = Rows::matrix(&stream.values, VALUE_DIM);
            memory.observe_item(7_u64, keys, values).map(drop)
        });
        while memory.progress().visible == 0 {
            std::thread::yield_now();
        }
        runtime.close(Duration::from_secs(60));
        let cut_off = writer.join().unwrap();
        assert_eq!(cut_off, Err(ObserveError::Stopped(Stopped::Closed)));
    });
    assert!(memory.forget(7_u64).unwrap().is_none());
}
