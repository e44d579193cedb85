//! The watch over recall: an accident that takes ten points away is undone, what is merely new
//! is not, and recalls say how sure they are.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{CHUNK, Stream, only_memory};
use titans_core::{MemoryArchitecture, SparseChannelMlp};
use titans_runtime::{
    Alert, AlertKind, AlertSink, Alerts, OnDrop, RecallWatch, Rows, Runtime, RuntimeConfig,
    Stopped, UserMemory, WaitError,
};
use titans_store::{Limits, read_newest};

/// Wide enough that random keys hardly meet.
const DIM: usize = 64;

/// A stream of that width, the same for the same seed.
fn stream(tokens: usize, seed: u64) -> Stream {
    Stream::with_widths(tokens, seed, (DIM, DIM))
}

#[derive(Default)]
struct Heard(Mutex<Vec<Alert>>);

impl AlertSink for Heard {
    fn alert(&self, alert: &Alert) {
        self.0.lock().unwrap().push(alert.clone());
    }
}

impl Heard {
    /// Alerts come from the thread that learns, after what they tell of.
    fn wait_for(&self, alerts: usize) {
        let patience = Instant::now() + Duration::from_secs(30);
        while self.kinds().len() < alerts && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn kinds(&self) -> Vec<AlertKind> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .map(|alert| alert.kind)
            .collect()
    }
}

/// A memory with room for some thousand pairs.
fn config(on_drop: OnDrop, heard: &Arc<Heard>) -> RuntimeConfig {
    let mut config = common::config();
    (config.memory.key_dim, config.memory.value_dim) = (DIM, DIM);
    config.memory.miras.architecture = MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
        channels: 8192,
        active_channels: 16,
    });
    // One chunk writes over an eighth of what is known.
    config.chunk_tokens = 3 * CHUNK;
    config.queue_tokens = PAIRS;
    config.recall_watch = Some(
        RecallWatch::default()
            .with_on_drop(on_drop)
            .with_look_every(3 * CHUNK),
    );
    config.alerts = Alerts::to(Arc::clone(heard) as _);
    config
}

const PAIRS: usize = 24 * CHUNK;

/// Pairs `from..to` of the stream once more, with other values.
fn write_over(memory: &UserMemory, stored: &Stream, pairs: std::ops::Range<usize>) {
    let keys = &stored.keys[pairs.start * DIM..pairs.end * DIM];
    let other = stream(pairs.len(), 999);
    memory
        .observe(Rows::matrix(keys, DIM), Rows::matrix(&other.values, DIM))
        .unwrap();
}

/// Waits until everything handed over is learned or dropped.
fn settle(memory: &UserMemory) {
    loop {
        match memory.flush() {
            Err(WaitError::RolledBack) => {}
            Ok(()) | Err(WaitError::Stopped(Stopped::Failed { .. })) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

fn hits(memory: &UserMemory) -> (u64, u64) {
    let score = memory.snapshot().unwrap().probe_score().unwrap();
    (score.hits, score.probes)
}

/// `TITANMEM_WATCH_TRIALS=n` for more.
fn trials() -> u64 {
    let trials = std::env::var("TITANMEM_WATCH_TRIALS");
    trials.map_or(12, |trials| trials.parse().unwrap())
}

#[test]
fn ten_points_are_taken_back_and_new_pairs_are_not() {
    let (mut taken_back, mut false_alarms) = (0, 0);
    let trials = trials();
    for seed in 0..trials {
        let root = tempfile::tempdir().unwrap();
        let heard = Arc::new(Heard::default());
        let config = config(OnDrop::RollBack, &heard);
        let runtime = Runtime::open(root.path(), config).unwrap();
        let memory = runtime.user("alice").unwrap();
        let stored = stream(PAIRS, seed);
        stored.observe(&memory, 0..PAIRS).unwrap();
        settle(&memory);
        let (hits_before, probes) = hits(&memory);
        assert!(
            probes >= 400 && hits_before * 10 > probes * 8,
            "{hits_before} of {probes}"
        );
        // What was only new is no drop.
        if !heard.kinds().is_empty() {
            false_alarms += 1;
            continue;
        }
        let known = stored.recall(&memory);

        let eighth = PAIRS * 5 / 40;
        // The newest pairs first: the chunk that takes them away follows the one that wrote them.
        let start = (PAIRS - eighth) - seed as usize * 37 % (PAIRS - eighth + 1);
        write_over(&memory, &stored, start..start + eighth);
        settle(&memory);
        heard.wait_for(1);
        if heard.kinds() == [AlertKind::RolledBack] && stored.recall(&memory) == known {
            taken_back += 1;
            let dir = only_memory(root.path());
            let limits = Limits::default();
            let newest = read_newest(&dir, memory.shard(), &limits).unwrap();
            let (image, _) = newest.unwrap();
            assert_eq!(image.tokens_seen, memory.progress().durable);
            assert_eq!(image.recall.unwrap().n, probes);
        }
        // It goes on learning.
        let more = stream(CHUNK, 5000 + seed);
        more.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
    }
    println!("taken back {taken_back} of {trials}, false alarms {false_alarms}");
    assert!(taken_back * 100 >= trials * 99 && false_alarms * 100 <= trials);
}

#[test]
fn the_second_accident_within_ten_chunks_freezes_until_a_rollback_by_hand() {
    let root = tempfile::tempdir().unwrap();
    let heard = Arc::new(Heard::default());
    let runtime = Runtime::open(root.path(), config(OnDrop::RollBack, &heard)).unwrap();
    let memory = runtime.user("alice").unwrap();
    let stored = stream(PAIRS, 3);
    stored.observe(&memory, 0..PAIRS).unwrap();
    memory.pin().unwrap();
    let known = stored.recall(&memory);
    for accident in 1..=2 {
        write_over(&memory, &stored, 0..4 * CHUNK);
        settle(&memory);
        heard.wait_for(accident);
    }
    assert_eq!(heard.kinds(), [AlertKind::RolledBack, AlertKind::Frozen]);
    let error = stored.observe(&memory, 0..1).unwrap_err();
    assert!(error.to_string().contains("recall fell from"), "{error}");
    memory.roll_back().unwrap();
    assert!(stored.recall(&memory) == known);
    stored.observe(&memory, 0..1).unwrap().wait().unwrap();
}

#[test]
fn what_was_forgotten_is_not_brought_back() {
    let root = tempfile::tempdir().unwrap();
    let heard = Arc::new(Heard::default());
    let runtime = Runtime::open(root.path(), config(OnDrop::RollBack, &heard)).unwrap();
    let memory = runtime.user("alice").unwrap();
    let item = stream(2, 70);
    memory
        .observe_item(
            7_u64,
            Rows::matrix(&item.keys, DIM),
            Rows::matrix(&item.values, DIM),
        )
        .unwrap();
    let stored = stream(PAIRS, 3);
    stored.observe(&memory, 0..PAIRS).unwrap();
    settle(&memory);
    let forgotten = memory.forget(7_u64).unwrap().unwrap();
    assert!(forgotten.remains < 0.1, "{}", forgotten.remains);
    forgotten.ticket.wait().unwrap();
    // The last known good memory is the one from before.
    write_over(&memory, &stored, 0..4 * CHUNK);
    settle(&memory);
    heard.wait_for(1);
    assert_eq!(heard.kinds(), [AlertKind::RecallDropped]);
    assert_eq!(memory.snapshot().unwrap().items().count(), 0);
    assert!(memory.forget(7_u64).unwrap().is_none());
}

#[test]
fn an_alert_is_one_per_fall_and_takes_nothing_back() {
    let root = tempfile::tempdir().unwrap();
    let heard = Arc::new(Heard::default());
    let runtime = Runtime::open(root.path(), config(OnDrop::Alert, &heard)).unwrap();
    let memory = runtime.user("alice").unwrap();
    let stored = stream(PAIRS, 4);
    stored.observe(&memory, 0..PAIRS).unwrap();
    settle(&memory);
    let before = hits(&memory).0;
    write_over(&memory, &stored, 0..PAIRS / 2);
    memory.flush().unwrap();
    assert_eq!(memory.progress().durable as usize, PAIRS + PAIRS / 2);
    assert!(hits(&memory).0 * 10 < before * 9);
    let kinds = heard.kinds();
    assert!(!kinds.is_empty() && kinds.len() <= 4, "{kinds:?}");
    assert!(kinds.iter().all(|kind| *kind == AlertKind::RecallDropped));
    let message = heard.0.lock().unwrap()[0].message.clone();
    assert!(message.starts_with("recall fell from"), "{message}");
}

#[test]
fn confidence_tells_what_is_known_from_what_is_not_and_probes_come_back() {
    let root = tempfile::tempdir().unwrap();
    let heard = Arc::new(Heard::default());
    let config = || config(OnDrop::RollBack, &heard);
    let stored = stream(PAIRS, 6);
    let confidence = |memory: &UserMemory, stored: &Stream, rows: usize| {
        let queries = Rows::matrix(&stored.keys[..rows * DIM], DIM);
        memory.recall(queries).unwrap().info().confidence
    };
    {
        let runtime = Runtime::open(root.path(), config()).unwrap();
        let memory = runtime.user("alice").unwrap();
        assert_eq!(
            confidence(&memory, &stored, 4),
            None,
            "nothing is known yet"
        );
        stored.observe(&memory, 0..PAIRS).unwrap();
        memory.flush().unwrap();
        let known = confidence(&memory, &stored, 200).unwrap();
        let unknown = confidence(&memory, &stream(200, 77), 200).unwrap();
        assert!(known > 0.8 && unknown < 0.3, "{known} {unknown}");
        assert!(runtime.close(Duration::from_secs(60)).is_durable());
    }
    let runtime = Runtime::open(root.path(), config()).unwrap();
    let memory = runtime.user("alice").unwrap();
    stream(3 * CHUNK, 8).observe(&memory, 0..3 * CHUNK).unwrap();
    memory.flush().unwrap();
    // The probes of before, and a few of the new chunk's.
    let (hits, probes) = hits(&memory);
    assert!(
        probes >= 500 && hits * 10 > probes * 8,
        "{hits} of {probes}"
    );
}
