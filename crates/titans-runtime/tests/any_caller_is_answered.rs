//! Whoever calls, from whichever thread and with whatever numbers, is answered: calls from the
//! pool of the process or from an alert end, durations without end do not overflow, and rows
//! that cannot be learned are refused.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/patience.rs"]
mod patience;

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{CHUNK, KEY_DIM, Stream, VALUE_DIM, config, open};
use patience::{PATIENCE, ends, eventually};
use rayon::prelude::*;
use titans_core::Preset;
use titans_runtime::{
    Alert, AlertKind, AlertSink, Alerts, CommandError, Durability, ObserveError, OnDrop,
    RecallWatch, Rows, RowsError, Runtime, RuntimeConfig, Stopped, UserMemory,
};

#[test]
fn a_program_may_fill_its_own_pool_with_calls_of_ours() {
    ends("observing in the pool of the process", || {
        let root = tempfile::tempdir().unwrap();
        for preset in [Preset::Sparse, Preset::Titans] {
            let mut config = config();
            if preset == Preset::Titans {
                config.memory = preset.config();
            }
            config.queue_tokens = 2 * CHUNK;
            let widths = (config.memory.key_dim, config.memory.value_dim);
            let dir = root.path().join(preset.name());
            let runtime = Runtime::open(dir, config).unwrap();
            let memory = runtime.user("alice").unwrap();
            let stream = Stream::with_widths(4 * CHUNK, 1, widths);
            (0..64).into_par_iter().for_each(|turn| {
                let ticket = stream.observe(&memory, 0..4 * CHUNK).unwrap();
                if turn % 2 == 0 {
                    ticket.wait().unwrap();
                }
            });
            memory.flush().unwrap();
            assert_eq!(memory.progress().durable, 64 * 4 * CHUNK as u64);
        }
    });
}

#[test]
fn forgetting_in_the_pool_of_the_process_ends() {
    ends("forgetting in the pool of the process", || {
        let root = tempfile::tempdir().unwrap();
        let runtime = open(root.path());
        let memory = runtime.user("alice").unwrap();
        (0..32_u64).into_par_iter().for_each(|item| {
            let stream = Stream::new(3, item);
            let keys = Rows::matrix(&stream.keys, KEY_DIM);
            let values = Rows::matrix(&stream.values, VALUE_DIM);
            memory.observe_item(item, keys, values).unwrap();
            let forgotten = memory.forget(item).unwrap().unwrap();
            assert_eq!(forgotten.tokens, 3);
        });
        memory.flush().unwrap();
    });
}

#[test]
fn an_interval_without_end_saves_when_it_is_asked_to() {
    ends("a flush under an interval without end", || {
        for pause in [Duration::MAX, Duration::from_secs(u64::MAX / 4)] {
            let root = tempfile::tempdir().unwrap();
            let mut config = config();
            config.durability = Durability::Interval(pause);
            let runtime = Runtime::open(root.path(), config).unwrap();
            let memory = runtime.user("alice").unwrap();
            let stream = Stream::new(4 * CHUNK, 2);
            let ticket = stream.observe(&memory, 0..4 * CHUNK).unwrap();
            ticket.wait_visible().unwrap();
            assert_eq!(runtime.stats().saves, 0, "nobody has asked");
            memory.flush().unwrap();
            assert_eq!(memory.progress().durable, 4 * CHUNK as u64);
        }
    });
}

#[test]
fn durations_without_end_do_not_overflow() {
    ends("waiting with durations without end", || {
        let root = tempfile::tempdir().unwrap();
        let mut config = config();
        let mut backups = titans_runtime::BackupConfig::new(root.path().join("backups"));
        backups.every = Duration::MAX;
        backups.pause = Duration::MAX;
        backups.driver = titans_runtime::BackupDriver::Thread {
            look_every: Duration::MAX,
        };
        config.backups = Some(backups);
        let runtime = Runtime::open(root.path().join("memories"), config).unwrap();
        let memory = runtime.user("alice").unwrap();
        let stream = Stream::new(CHUNK, 2);
        let ticket = stream.observe(&memory, 0..CHUNK).unwrap();
        ticket.wait_timeout(Duration::MAX).unwrap();
        for now in [
            std::time::UNIX_EPOCH,
            std::time::UNIX_EPOCH - Duration::from_secs(1 << 40),
            std::time::UNIX_EPOCH + Duration::from_secs(1 << 40),
        ] {
            runtime.tick(now).unwrap();
        }
        assert!(runtime.close(Duration::MAX).is_durable());
    });
}

#[test]
fn a_row_that_is_too_long_is_refused_under_every_preset_and_the_next_one_works() {
    for preset in Preset::ALL {
        let root = tempfile::tempdir().unwrap();
        let runtime = Runtime::open(root.path(), RuntimeConfig::preset(*preset)).unwrap();
        let memory = runtime.user("alice").unwrap();
        let (key_dim, value_dim) = (
            runtime.config().memory.key_dim,
            runtime.config().memory.value_dim,
        );
        let stream = Stream::with_widths(3, 3, (key_dim, value_dim));
        let poison: Vec<f32> = stream.values.iter().map(|value| value * 1e20).collect();
        let refused = memory.observe(
            Rows::matrix(&stream.keys, key_dim),
            Rows::matrix(&poison, value_dim),
        );
        let error = refused.unwrap_err();
        assert!(
            matches!(error, ObserveError::Rows(RowsError::TooLong { .. })),
            "{error}"
        );
        assert!(error.to_string().contains("row 0 of the values"), "{error}");
        stream.observe(&memory, 0..3).unwrap().wait().unwrap();
        assert!(memory.health().is_healthy());
    }
}

#[test]
fn an_item_that_no_ledger_can_hold_is_refused_and_takes_nobodys_name() {
    let root = tempfile::tempdir().unwrap();
    let mut config = config();
    config.ledger.max_bytes = 16 << 10;
    let runtime = Runtime::open(root.path(), config).unwrap();
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::new(1000, 4);
    let item = |item: u64, tokens: usize| {
        let keys = Rows::matrix(&stream.keys[..tokens * KEY_DIM], KEY_DIM);
        let values = Rows::matrix(&stream.values[..tokens * VALUE_DIM], VALUE_DIM);
        memory.observe_item(item, keys, values)
    };
    for small in 0..10 {
        item(small, 1).unwrap();
    }
    let error = item(10, 1000).unwrap_err();
    assert!(matches!(
        error,
        ObserveError::ItemTooLarge {
            rows: 1000,
            limit: 16384,
            ..
        }
    ));
    assert!(error.to_string().contains("max_bytes is 16384"), "{error}");
    memory.flush().unwrap();
    assert_eq!(memory.snapshot().unwrap().items().count(), 10);
    assert_eq!(memory.progress().accepted, 10, "nothing of it was taken");
    // The largest that fits is kept.
    let fits = (16384 - 512) / (KEY_DIM * 2);
    item(11, fits).unwrap().wait().unwrap();
    assert!(memory.forget(11_u64).unwrap().is_some());
}

/// A sink that calls the runtime about every alert.
struct CallsBack {
    memory: Mutex<Option<UserMemory>>,
    heard: Mutex<Vec<(AlertKind, bool)>>,
}

impl AlertSink for CallsBack {
    fn alert(&self, alert: &Alert) {
        let memory = self.memory.lock().unwrap().clone();
        let went_well = memory.is_none_or(|memory| {
            let went_back = memory.roll_back().map(drop);
            println!("{alert:?}: {went_back:?}");
            went_back.is_ok() && memory.snapshot().is_ok()
        });
        self.heard.lock().unwrap().push((alert.kind, went_well));
    }
}

#[test]
fn a_sink_may_call_the_runtime() {
    ends("an alert whose sink rolls back", || {
        let root = tempfile::tempdir().unwrap();
        let sink = Arc::new(CallsBack {
            memory: Mutex::default(),
            heard: Mutex::default(),
        });
        let mut config = config();
        config.alerts = Alerts::to(Arc::clone(&sink) as _);
        config.recall_watch = Some(
            RecallWatch::default()
                .with_look_every(CHUNK)
                .with_on_drop(OnDrop::Alert),
        );
        let runtime = Runtime::open(root.path(), config).unwrap();
        let memory = runtime.user("alice").unwrap();
        let stream = Stream::new(16 * CHUNK, 9);
        stream.observe(&memory, 0..2 * CHUNK).unwrap();
        memory.pin().unwrap();
        *sink.memory.lock().unwrap() = Some(memory.clone());
        // Other values under the same keys: what was known is gone.
        let other = Stream::new(16 * CHUNK, 10);
        let harmful = || {
            let keys = Rows::matrix(&stream.keys[..2 * CHUNK * KEY_DIM], KEY_DIM);
            let values = Rows::matrix(&other.values[..2 * CHUNK * VALUE_DIM], VALUE_DIM);
            memory.observe(keys, values)
        };
        eventually("recall drops", || {
            // The sink goes back meanwhile.
            let _ = harmful().map(|ticket| ticket.wait());
            !sink.heard.lock().unwrap().is_empty()
        });
        *sink.memory.lock().unwrap() = None;
        drop(memory);
        runtime.close(PATIENCE);
        let heard = sink.heard.lock().unwrap();
        assert_eq!(heard[0], (AlertKind::RecallDropped, true), "{heard:?}");
    });
}

/// Closes the runtime when it hears of anything.
struct Closes(Mutex<Option<Runtime>>);

impl AlertSink for Closes {
    fn alert(&self, _alert: &Alert) {
        let runtime = self.0.lock().unwrap().take();
        drop(runtime);
    }
}

#[test]
fn a_sink_may_close_the_runtime() {
    ends("an alert whose sink closes the runtime", || {
        let root = tempfile::tempdir().unwrap();
        let sink = Arc::new(Closes(Mutex::default()));
        let mut config = config();
        config.alerts = Alerts::to(Arc::clone(&sink) as _);
        let runtime = Runtime::open(root.path(), config).unwrap();
        let memory = runtime.user("alice").unwrap();
        let stream = Stream::new(CHUNK, 9);
        stream.observe(&memory, 0..CHUNK).unwrap();
        memory.pin().unwrap();
        *sink.0.lock().unwrap() = Some(runtime);
        memory.roll_back().unwrap();
        eventually("the folder is free", || {
            Runtime::open(root.path(), common::config()).is_ok()
        });
        assert!(matches!(
            stream.observe(&memory, 0..1),
            Err(ObserveError::Stopped(Stopped::Closed))
        ));
    });
}

#[test]
fn closing_while_a_memory_is_rebuilt_or_forgotten_ends() {
    for round in 0..20_u64 {
        ends("closing beside a rebuild", move || {
            let root = tempfile::tempdir().unwrap();
            let mut config = config();
            config.ledger.replay_bytes = 1 << 20;
            let runtime = Runtime::open(root.path(), config).unwrap();
            let memory = runtime.user("alice").unwrap();
            let stream = Stream::new(4 * CHUNK, round);
            let keys = Rows::matrix(&stream.keys[..3 * KEY_DIM], KEY_DIM);
            let values = Rows::matrix(&stream.values[..3 * VALUE_DIM], VALUE_DIM);
            memory.observe_item(1_u64, keys, values).unwrap();
            stream.observe(&memory, 3..4 * CHUNK).unwrap();
            memory
                .forget(1_u64)
                .unwrap()
                .unwrap()
                .ticket
                .wait()
                .unwrap();
            thread::scope(|scope| {
                let rebuilding = scope.spawn(|| memory.rebuild().map(drop));
                let observing = scope.spawn(|| {
                    while stream.observe(&memory, 0..CHUNK).is_ok() {
                        thread::yield_now();
                    }
                });
                thread::sleep(Duration::from_micros(300 * round));
                runtime.close(PATIENCE);
                let rebuilt = rebuilding.join().unwrap();
                let is_known = matches!(
                    rebuilt,
                    Ok(())
                        | Err(
                            CommandError::Stopped(Stopped::Closed) | CommandError::NoReplay { .. }
                        )
                );
                assert!(is_known, "{rebuilt:?}");
                observing.join().unwrap();
            });
            // Whatever came of it, the memory opens.
            let again = open(root.path());
            assert!(again.user("alice").unwrap().skipped().is_empty());
        });
    }
}
