//! Whatever goes wrong with the disk of a memory, or in a step of its own, the process goes on: a
//! full disk is waited for, a bug stops one user until it is resumed.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/disk.rs"]
mod disk;
#[path = "common/patience.rs"]
mod patience;

use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use common::{CHUNK, KEY_DIM, Stream, VALUE_DIM, config, heard, newest_image, only_memory, open};
use disk::{EIO, EMFILE, ENOSPC, Fault, Injector};
use patience::{PATIENCE, ends, eventually};
use titans_runtime::{
    Alert, AlertKind, CommandError, Durability, Health, Rows, Runtime, RuntimeConfig, Stopped,
    UserMemory, WaitError,
};

/// A runtime on a disk that can be told to fail, and its alerts.
fn on_a_disk_that_can_fail(
    root: &Path,
    change: impl FnOnce(&mut RuntimeConfig),
) -> (Runtime, Injector, Receiver<Alert>) {
    let injector = Injector::default();
    let (alerts, raised) = heard();
    let mut config = config();
    config.storage = Some(injector.hook());
    config.alerts = alerts;
    change(&mut config);
    (Runtime::open(root, config).unwrap(), injector, raised)
}

/// Saves fail for a while, at any step, with any error that may pass: what was handed over is
/// kept, what is visible stays visible, and all of it becomes durable.
#[test]
fn what_a_disk_refuses_is_kept_and_saved_once_it_takes_it() {
    ends("saving on a disk that refuses", || {
        for (round, number) in [ENOSPC, EMFILE, EIO, ENOSPC].into_iter().enumerate() {
            let root = tempfile::tempdir().unwrap();
            let (runtime, injector, alerts) = on_a_disk_that_can_fail(root.path(), |config| {
                if round == 3 {
                    config.store.mode = titans_store::SaveMode::Journal;
                    config.ledger.replay_bytes = 1 << 20;
                }
            });
            let memory = runtime.user("alice").unwrap();
            let stream = Stream::new(8 * CHUNK, 5);
            stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
            injector.fail_steps(round, usize::MAX, Fault::Error(number));
            let ticket = stream.observe(&memory, CHUNK..4 * CHUNK).unwrap();
            let error = ticket.wait().unwrap_err();
            assert!(matches!(error, WaitError::Unavailable { .. }), "{error:?}");
            assert!(!memory.health().is_healthy());
            // Whoever waits is told first, and then it is counted.
            eventually("it is counted", || runtime.stats().unhealthy_users == 1);
            let visible = memory.progress().visible;
            assert!(visible >= 2 * CHUNK as u64, "{visible}");
            let seen = stream.recall(&memory);
            assert!(matches!(
                memory.resume(),
                Err(CommandError::Wait(WaitError::Unavailable { .. }))
            ));
            // Others learn and wait on the same disk, and are told the same.
            let bob = runtime.user("bob");
            assert!(bob.is_err(), "no file can be opened");

            injector.heal();
            eventually("it comes back by itself", || memory.health().is_healthy());
            ticket.wait().unwrap();
            assert_eq!(memory.progress().durable, 4 * CHUNK as u64);
            stream
                .observe(&memory, 4 * CHUNK..8 * CHUNK)
                .unwrap()
                .wait()
                .unwrap();
            assert!(stream.recall(&memory) != seen);
            let recalled = stream.recall(&memory);
            drop((memory, ticket));
            assert!(runtime.close(PATIENCE).is_durable());
            let mut kinds: Vec<_> = alerts.try_iter().map(|alert| alert.kind).collect();
            kinds.retain(|kind| *kind != AlertKind::RecallDropped);
            assert_eq!(kinds, [AlertKind::Unavailable, AlertKind::Recovered]);
            let again = open_with_replay(root.path());
            assert_eq!(
                stream.recall(&again.user("alice").unwrap()),
                recalled,
                "round {round}"
            );
        }
    });
}

fn open_with_replay(root: &Path) -> Runtime {
    Runtime::open(root, config()).unwrap()
}

/// One step fails, whichever it is; learning goes on under every policy and loses nothing.
#[test]
fn one_failed_step_of_a_save_costs_nothing_but_time() {
    ends("saving with one failed step", || {
        for mode in [
            titans_store::SaveMode::Snapshot,
            titans_store::SaveMode::Journal,
        ] {
            for durability in [Durability::EveryChunk, Durability::Async { max_lag: 3 }] {
                for step in 0..24 {
                    let root = tempfile::tempdir().unwrap();
                    let (runtime, injector, _alerts) =
                        on_a_disk_that_can_fail(root.path(), |config| {
                            config.store.mode = mode;
                            config.durability = durability;
                            config.ledger.replay_bytes = 1 << 16;
                        });
                    let memory = runtime.user("alice").unwrap();
                    let stream = Stream::new(6 * CHUNK, 6);
                    stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
                    injector.fail_steps(step, 1, Fault::Error(ENOSPC));
                    let keys = Rows::matrix(&stream.keys, KEY_DIM);
                    let values = Rows::matrix(&stream.values, VALUE_DIM);
                    let ticket = memory.observe_item(1_u64, keys, values).unwrap();
                    while let Err(error) = ticket.wait() {
                        assert!(error.is_retryable(), "step {step}: {error}");
                    }
                    let recalled = stream.recall(&memory);
                    assert!(runtime.close(PATIENCE).is_durable());
                    let runtime = open(root.path());
                    let again = runtime.user("alice").unwrap();
                    assert!(again.skipped().is_empty(), "{:?}", again.skipped());
                    assert_eq!(again.progress().durable, 7 * CHUNK as u64);
                    assert_eq!(stream.recall(&again), recalled, "{mode:?}, step {step}");
                    assert!(again.forget(1_u64).unwrap().is_some(), "its name is kept");
                }
            }
        }
    });
}

#[test]
fn a_panic_while_saving_stops_one_user_who_can_be_resumed() {
    ends("resuming", || {
        let root = tempfile::tempdir().unwrap();
        let (runtime, injector, alerts) = on_a_disk_that_can_fail(root.path(), |_| {});
        let memory = runtime.user("alice").unwrap();
        let bob = runtime.user("bob").unwrap();
        let stream = Stream::new(4 * CHUNK, 7);
        stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
        stream.observe(&bob, 0..CHUNK).unwrap().wait().unwrap();
        let durable = stream.recall(&memory);
        injector.fail_steps(2, 1, Fault::Panic);
        let ticket = stream.observe(&memory, CHUNK..2 * CHUNK).unwrap();
        let error = ticket.wait().unwrap_err();
        assert!(
            matches!(error.stopped(), Some(Stopped::Failed { .. })),
            "{error}"
        );
        assert!(error.to_string().contains("of the disk panics"), "{error}");
        assert!(matches!(memory.health(), Health::Failed { .. }));
        assert!(stream.observe(&memory, 0..1).is_err());
        assert!(
            stream.recall(&memory) != durable,
            "readers keep what they saw"
        );
        stream
            .observe(&bob, CHUNK..2 * CHUNK)
            .unwrap()
            .wait()
            .unwrap();

        let resumed = memory.resume().unwrap();
        assert_eq!(resumed.tokens + resumed.tokens_lost, 2 * CHUNK as u64);
        assert_eq!(resumed.tokens, CHUNK as u64);
        assert!(matches!(ticket.wait(), Err(WaitError::RolledBack)));
        assert_eq!(stream.recall(&memory), durable);
        stream
            .observe(&memory, CHUNK..2 * CHUNK)
            .unwrap()
            .wait()
            .unwrap();
        assert_eq!(runtime.stats().unhealthy_users, 0);
        drop((memory, bob, ticket));
        assert!(runtime.close(PATIENCE).is_durable());
        let kinds: Vec<_> = alerts.try_iter().map(|alert| alert.kind).collect();
        assert_eq!(kinds, [AlertKind::Failed, AlertKind::Recovered]);
    });
}

#[test]
fn resuming_a_healthy_memory_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let runtime = open(root.path());
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::new(CHUNK + 3, 8);
    let ticket = stream.observe(&memory, 0..CHUNK + 3).unwrap();
    let resumed = memory.resume().unwrap();
    assert_eq!((resumed.tokens, resumed.tokens_lost), (35, 0));
    ticket.wait().unwrap();
}

/// A rebuild is cut off by an error at every step in turn. Either it says that the memory is
/// as it was, and so it is; or the memory is the rebuilt one. In no case comes back what was
/// forgotten.
#[test]
fn a_rebuild_that_fails_at_any_step_leaves_one_memory_and_not_two() {
    ends("rebuilding on a disk that refuses", || {
        let (mut undone, mut unfinished, mut done) = (0, 0, 0);
        for step in 0..80 {
            let root = tempfile::tempdir().unwrap();
            let (runtime, injector, _alerts) = on_a_disk_that_can_fail(root.path(), |config| {
                config.ledger.replay_bytes = 1 << 20;
            });
            let memory = runtime.user("alice").unwrap();
            let stream = Stream::new(3 * CHUNK, 11);
            let keys = Rows::matrix(&stream.keys[..3 * KEY_DIM], KEY_DIM);
            let values = Rows::matrix(&stream.values[..3 * VALUE_DIM], VALUE_DIM);
            memory.observe_item(1_u64, keys, values).unwrap();
            stream.observe(&memory, 3..3 * CHUNK).unwrap();
            let forgotten = memory.forget(1_u64).unwrap().unwrap();
            forgotten.ticket.wait().unwrap();
            let before = stream.recall(&memory);
            injector.fail_steps(step, 1, Fault::Error(EIO));
            let rebuilt = memory.rebuild();
            injector.heal();
            match &rebuilt {
                Ok(rebuilt) => {
                    assert_eq!(rebuilt.forgotten.len(), 1);
                    done += 1;
                }
                Err(CommandError::Unfinished { .. }) => unfinished += 1,
                Err(error) => {
                    assert!(error.is_retryable(), "step {step}: {error}");
                    assert_eq!(stream.recall(&memory), before, "step {step}");
                    // It can be called again.
                    assert_eq!(memory.rebuild().unwrap().forgotten.len(), 1, "step {step}");
                    undone += 1;
                }
            }
            eventually("it is well", || memory.health().is_healthy());
            let after = stream.recall(&memory);
            assert!(after != before, "step {step}");
            // It goes on learning, and what is saved is the rebuilt memory.
            let other = Stream::new(CHUNK, 99);
            other.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
            let recalled = stream.recall(&memory);
            assert!(memory.forget(1_u64).unwrap().is_none(), "its name is back");
            assert!(runtime.close(PATIENCE).is_durable());
            let runtime = open(root.path());
            let again = runtime.user("alice").unwrap();
            assert_eq!(stream.recall(&again), recalled, "step {step}");
            let left = files_that_hold_a_row_of(&stream, 3, root.path());
            assert!(left.is_empty(), "step {step}, {rebuilt:?}: {left:?}");
        }
        println!("{undone} undone, {unfinished} unfinished, {done} done");
        assert!(undone > 5 && unfinished > 2 && done > 5);
    });
}

/// A memory of which a rebuild has left something to be removed.
fn unfinished(
    root: &Path,
    change: impl Fn(&mut RuntimeConfig),
) -> (Runtime, UserMemory, Injector, Stream) {
    for step in 0.. {
        let root = root.join(step.to_string());
        let (runtime, injector, _alerts) = on_a_disk_that_can_fail(&root, |config| {
            config.ledger.replay_bytes = 1 << 20;
            config.savers = 2;
            change(config);
        });
        let memory = runtime.user("alice").unwrap();
        let stream = Stream::new(CHUNK, 13);
        let keys = Rows::matrix(&stream.keys[..3 * KEY_DIM], KEY_DIM);
        let values = Rows::matrix(&stream.values[..3 * VALUE_DIM], VALUE_DIM);
        memory.observe_item(1_u64, keys, values).unwrap();
        memory.forget(1_u64).unwrap().unwrap();
        memory.flush().unwrap();
        injector.fail_steps(step, 1, Fault::Error(ENOSPC));
        match memory.rebuild() {
            Err(CommandError::Unfinished { .. }) => return (runtime, memory, injector, stream),
            Err(_) => {}
            Ok(_) => assert!(injector.failed() > 0, "no step leaves anything"),
        }
    }
    unreachable!("there is always another step")
}

/// Nothing waits to be saved, so no policy's pause has to pass.
#[test]
fn what_a_rebuild_has_left_is_removed_soon_whatever_the_policy() {
    ends("removing what a rebuild has left", || {
        let root = tempfile::tempdir().unwrap();
        let (_runtime, memory, _injector, _) = unfinished(root.path(), |config| {
            config.durability = Durability::Interval(Duration::from_secs(3600));
        });
        eventually("it is well", || memory.health().is_healthy());
    });
}

/// While one saver opens the files again, another comes to save what was learned and finds
/// them away.
#[test]
fn what_is_learned_while_files_are_opened_again_is_saved() {
    ends("saving beside files that are opened again", || {
        let root = tempfile::tempdir().unwrap();
        let (_runtime, memory, injector, stream) = unfinished(root.path(), |_| {});
        let openings = injector.hold_openings();
        // The first pause is shorter than that.
        thread::sleep(Duration::from_millis(200));
        let ticket = stream.observe(&memory, 0..CHUNK).unwrap();
        ticket.wait_visible().unwrap();
        let waiting = thread::spawn(move || ticket.wait());
        thread::sleep(Duration::from_millis(100));
        drop(openings);
        waiting.join().unwrap().unwrap();
        eventually("it is well", || memory.health().is_healthy());
    });
}

/// The files of the only memory that hold the bytes of one of the first rows.
fn files_that_hold_a_row_of(stream: &Stream, rows: usize, root: &Path) -> Vec<PathBuf> {
    let planted: Vec<Vec<u8>> = (0..rows)
        .map(|row| {
            let key = &stream.keys[row * KEY_DIM..][..KEY_DIM];
            key.iter().flat_map(|x| x.to_le_bytes()).collect()
        })
        .collect();
    let mut files = Vec::new();
    let mut folders = vec![only_memory(root)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files.retain(|path| {
        let bytes = std::fs::read(path).unwrap();
        let holds = |row: &Vec<u8>| bytes.windows(row.len()).any(|window| window == row);
        planted.iter().any(holds)
    });
    files
}

/// Rolling back is cut off by an error at every step in turn.
#[test]
fn a_rollback_that_fails_at_any_step_is_done_or_is_not() {
    ends("rolling back on a disk that refuses", || {
        let (mut undone, mut done) = (0, 0);
        for step in 0..40 {
            let root = tempfile::tempdir().unwrap();
            let (runtime, injector, _alerts) = on_a_disk_that_can_fail(root.path(), |_| {});
            let memory = runtime.user("alice").unwrap();
            let stream = Stream::new(3 * CHUNK, 12);
            stream.observe(&memory, 0..CHUNK).unwrap();
            memory.pin().unwrap();
            let pinned = stream.recall(&memory);
            let ticket = stream.observe(&memory, CHUNK..3 * CHUNK).unwrap();
            ticket.wait().unwrap();
            let before = stream.recall(&memory);
            injector.fail_steps(step, 1, Fault::Error(EIO));
            let rolled_back = memory.roll_back();
            injector.heal();
            match rolled_back {
                Ok(_) => {
                    assert_eq!(stream.recall(&memory), pinned);
                    done += 1;
                }
                Err(error) => {
                    assert!(error.is_retryable(), "step {step}: {error}");
                    assert_eq!(stream.recall(&memory), before);
                    undone += 1;
                }
            }
            stream.observe(&memory, 0..5).unwrap().wait().unwrap();
            let recalled = stream.recall(&memory);
            let tokens = memory.progress().durable;
            assert!(runtime.close(PATIENCE).is_durable());
            let runtime = open(root.path());
            let again = runtime.user("alice").unwrap();
            assert_eq!(stream.recall(&again), recalled, "step {step}");
            let image = newest_image(&only_memory(root.path()), again.shard());
            assert_eq!(image.tokens_seen, tokens);
        }
        println!("{undone} undone, {done} done");
        assert!(undone > 3 && done > 3);
    });
}
