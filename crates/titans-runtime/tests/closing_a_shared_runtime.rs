//! A runtime is closed while others use it: once, whoever asks and however often, and nothing
//! that was taken is lost without a word.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/disk.rs"]
mod disk;
#[path = "common/patience.rs"]
mod patience;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use common::{CHUNK, Stream, config, open};
use disk::{ENOSPC, Fault, Injector};
use patience::{PATIENCE, ends, eventually};
use titans_runtime::{
    Alert, AlertSink, Alerts, CommandError, Health, ObserveError, OpenError, Runtime, RuntimeError,
    Stopped,
};

fn is_closed<T, E>(outcome: Result<T, E>) -> bool
where
    RuntimeError: From<E>,
{
    let error = outcome.map_err(RuntimeError::from).err();
    matches!(error, Some(error) if error.stopped() == Some(&Stopped::Closed))
}

#[test]
fn after_closing_every_call_says_so_and_closing_again_says_the_same() {
    let root = tempfile::tempdir().unwrap();
    let runtime = open(root.path());
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::new(CHUNK + 3, 1);
    stream.observe(&memory, 0..CHUNK + 3).unwrap();
    let report = runtime.close(PATIENCE);
    assert!(report.is_durable());
    assert_eq!(report.users.len(), 1);
    assert_eq!(report.users[0].progress.durable, CHUNK as u64 + 3);

    assert!(is_closed(runtime.user("alice")));
    assert!(is_closed(runtime.user("bob")));
    assert!(is_closed(runtime.forget_user("alice")));
    assert!(is_closed(runtime.tick(SystemTime::now())));
    assert!(is_closed(runtime.contains("alice")));
    assert!(is_closed(runtime.users()));
    assert!(is_closed(runtime.flush()));
    assert!(is_closed(stream.observe(&memory, 0..1)));
    assert!(is_closed(memory.pin()));
    assert_eq!(memory.health(), Health::Closed);
    assert_eq!(runtime.resident_users(), 0);

    // The folder is somebody else's now, and stays so.
    let other = open(root.path());
    assert_eq!(runtime.close(Duration::ZERO), report);
    drop(runtime);
    let again = other.user("alice").unwrap();
    assert_eq!(stream.recall(&again), stream.recall(&memory));
}

/// Writers that wait for room, readers, users that come and are forgotten, and several that close.
#[test]
fn many_may_close_while_many_others_work() {
    for round in 0..12_u64 {
        ends("closing a runtime that is in use", move || {
            #[cfg(debug_assertions)]
            titans_runtime::shake_locks(round);
            let root = tempfile::tempdir().unwrap();
            let mut config = config();
            // Users have to leave for others.
            config.resident_bytes = 3 * config.bytes_per_user();
            let runtime = Runtime::open(root.path(), config.clone()).unwrap();
            let stream = Stream::new(6 * CHUNK, round);
            let taken = Mutex::new(BTreeMap::new());
            let reports = thread::scope(|scope| {
                for worker in 0..4_u64 {
                    let (runtime, stream, taken) = (&runtime, &stream, &taken);
                    scope.spawn(move || {
                        for turn in 0.. {
                            let user = format!("user {}", (worker + turn) % 5);
                            let memory = match runtime.user(&user) {
                                Ok(memory) => memory,
                                Err(OpenError::Stopped(Stopped::Closed)) => return,
                                Err(OpenError::OverBudget { .. }) => continue,
                                Err(error) => panic!("{error:?}"),
                            };
                            match stream.observe(&memory, 0..stream.tokens()) {
                                Ok(ticket) => {
                                    let mut taken = taken.lock().unwrap();
                                    let longest = taken.entry(memory.shard()).or_insert(0);
                                    *longest = ticket.position().max(*longest);
                                }
                                Err(ObserveError::Stopped(Stopped::Closed)) => {}
                                Err(error) => panic!("{error:?}"),
                            }
                            stream.recall(&memory);
                        }
                    });
                }
                let runtime = &runtime;
                scope.spawn(move || {
                    for turn in 0.. {
                        let guest = format!("guest {turn}");
                        match runtime.user(&guest) {
                            Ok(_) | Err(OpenError::OverBudget { .. }) => {}
                            Err(OpenError::Stopped(Stopped::Closed)) => return,
                            Err(error) => panic!("{error:?}"),
                        }
                        match runtime.forget_user(&guest) {
                            Ok(_) => {}
                            Err(CommandError::Stopped(Stopped::Closed)) => return,
                            Err(error) => panic!("{error:?}"),
                        }
                    }
                });
                thread::sleep(Duration::from_millis(5 * round));
                let closing = [(); 3].map(|()| scope.spawn(move || runtime.close(PATIENCE)));
                closing.map(|closing| closing.join().unwrap())
            });
            assert!(reports[0].is_durable(), "{reports:?}");
            assert!(reports.iter().all(|report| *report == reports[0]));

            // What the tickets promised is in the folder, which is free.
            let again = Runtime::open(root.path(), config).unwrap();
            let taken = taken.into_inner().unwrap();
            for user in 0..5_u64 {
                let memory = again.user(format!("user {user}")).unwrap();
                assert!(memory.skipped().is_empty(), "{:?}", memory.skipped());
                let durable = memory.progress().durable;
                let promised = taken.get(&memory.shard()).copied().unwrap_or(0);
                assert!(durable >= promised, "{durable} of {promised}");
            }
        });
    }
}

#[test]
fn whoever_has_no_patience_does_not_wait_for_another_who_closes() {
    ends("closing on a disk that refuses", || {
        let root = tempfile::tempdir().unwrap();
        let injector = Injector::default();
        let mut config = config();
        config.storage = Some(injector.hook());
        let runtime = Runtime::open(root.path(), config).unwrap();
        let memory = runtime.user("alice").unwrap();
        let stream = Stream::new(2 * CHUNK, 1);
        stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
        injector.fail_steps(0, usize::MAX, Fault::Error(ENOSPC));
        stream.observe(&memory, CHUNK..2 * CHUNK).unwrap();
        thread::scope(|scope| {
            let patient = scope.spawn(|| runtime.close(PATIENCE));
            eventually("it is closing", || memory.health() == Health::Closed);
            let report = runtime.close(Duration::from_millis(50));
            assert!(!report.is_durable(), "{report:?}");
            assert_eq!(report.users[0].progress.durable, CHUNK as u64);
            assert!(!patient.is_finished());
            injector.heal();
            let report = patient.join().unwrap();
            assert!(report.is_durable(), "{report:?}");
            assert_eq!(runtime.close(Duration::ZERO), report);
        });
    });
}

/// Closes the runtime when it hears of anything, with all the patience that there is.
#[derive(Default)]
struct Closes(Mutex<Option<Arc<Runtime>>>);

impl AlertSink for Closes {
    fn alert(&self, _alert: &Alert) {
        let runtime = self.0.lock().unwrap().take();
        if let Some(runtime) = runtime {
            runtime.close(Duration::MAX);
        }
    }
}

#[test]
fn a_sink_may_close_a_runtime_that_others_hold_and_close_too() {
    for round in 0..8 {
        ends("closing from a sink and from elsewhere", move || {
            let root = tempfile::tempdir().unwrap();
            let sink = Arc::new(Closes::default());
            let mut config = config();
            config.alerts = Alerts::to(Arc::clone(&sink) as _);
            let runtime = Arc::new(Runtime::open(root.path(), config).unwrap());
            let memory = runtime.user("alice").unwrap();
            let stream = Stream::new(CHUNK, 9);
            stream.observe(&memory, 0..CHUNK).unwrap();
            memory.pin().unwrap();
            *sink.0.lock().unwrap() = Some(Arc::clone(&runtime));
            memory.roll_back().unwrap();
            thread::sleep(Duration::from_micros(100 * round));
            assert!(runtime.close(Duration::MAX).is_durable());
            open(root.path());
        });
    }
}

#[test]
fn dropping_one_of_several_handles_closes_nothing_and_dropping_the_last_one_does() {
    let root = tempfile::tempdir().unwrap();
    let runtime = Arc::new(open(root.path()));
    let memory = runtime.user("alice").unwrap();
    drop(Arc::clone(&runtime));
    let stream = Stream::new(CHUNK, 1);
    stream.observe(&memory, 0..5).unwrap().wait().unwrap();
    drop(runtime);
    assert!(is_closed(stream.observe(&memory, 0..1)));
    open(root.path());
}
