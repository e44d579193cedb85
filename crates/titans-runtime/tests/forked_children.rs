//! A child that is forked has the handles of its parent and none of its threads: it is refused,
//! waits for nothing, and touches nothing that both share.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/disk.rs"]
mod disk;
#[path = "common/executor.rs"]
mod executor;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use common::{CHUNK, KEY_DIM, Stream, VALUE_DIM, config};
use disk::Injector;
use executor::{Counter, block_on};
use titans_runtime::{
    Health, MemorySnapshot, OpenError, Rows, Runtime, RuntimeConfig, RuntimeError, Stopped, Ticket,
    UserMemory,
};

/// Longer than a child takes that waits for nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a child gets from its parent.
struct Inherited {
    runtime: Runtime,
    memory: UserMemory,
    ticket: Ticket,
    snapshot: MemorySnapshot,
    stream: Stream,
}

fn refused<T, E>(what: &str, outcome: Result<T, E>) -> Result<(), String>
where
    RuntimeError: From<E>,
{
    match outcome.map_err(RuntimeError::from) {
        Err(error) => match error.stopped() {
            Some(Stopped::Forked { parent, child }) if parent != child => Ok(()),
            _ => Err(format!("{what}: {error}")),
        },
        Ok(_) => Err(format!("{what} was not refused")),
    }
}

fn expect(what: &str, is_so: bool) -> Result<(), String> {
    match is_so {
        true => Ok(()),
        false => Err(format!("not so: {what}")),
    }
}

/// Everything that a handle offers.
fn ask(inherited: &Inherited) -> Result<(), String> {
    let Inherited {
        runtime,
        memory,
        ticket,
        snapshot,
        stream,
    } = inherited;
    let mut recalled = vec![0.0; 2 * VALUE_DIM];
    let keys = Rows::matrix(&stream.keys[..2 * KEY_DIM], KEY_DIM);
    let values = Rows::matrix(&stream.values[..2 * VALUE_DIM], VALUE_DIM);
    refused("observe", memory.observe(keys, values))?;
    refused("observe_item", memory.observe_item(1_u64, keys, values))?;
    refused("recall", memory.recall(keys))?;
    refused("recall_into", memory.recall_into(keys, &mut recalled))?;
    let mut surprise = [0.0; 2];
    let surprised = memory.surprise_into(keys, values, &mut surprise);
    refused("surprise_into", surprised)?;
    refused("snapshot", memory.snapshot())?;
    refused("forget", memory.forget(1_u64))?;
    refused("rebuild", memory.rebuild())?;
    refused("flush", memory.flush())?;
    refused("pin", memory.pin())?;
    refused("roll_back", memory.roll_back())?;
    refused("resume", memory.resume())?;
    expect("health is closed", memory.health() == Health::Closed)?;
    let progress = memory.progress();
    expect("progress", progress.durable == 0 && progress.visible > 0)?;
    expect("accepted", progress.accepted >= progress.visible)?;
    expect("tokens_written", memory.tokens_written() > 0)?;
    expect("skipped", memory.skipped().is_empty())?;

    refused("a snapshot", snapshot.recall(keys))?;
    refused("a snapshot", snapshot.recall_into(keys, &mut recalled))?;
    expect("tokens of a snapshot", snapshot.tokens_seen() > 0)?;
    expect("items of a snapshot", snapshot.items().count() == 0)?;

    refused("wait", ticket.wait())?;
    refused("wait_timeout", ticket.wait_timeout(PATIENCE))?;
    refused("wait_visible", ticket.wait_visible())?;
    expect("is_visible", !ticket.is_visible())?;
    expect("is_durable", !ticket.is_durable())?;
    expect("position", ticket.position() > 0)?;

    refused("user", runtime.user("alice"))?;
    refused("forget_user", runtime.forget_user("alice"))?;
    refused("contains", runtime.contains("alice"))?;
    refused("users", runtime.users())?;
    refused("Runtime::flush", runtime.flush())?;
    refused("tick", runtime.tick(SystemTime::now()))?;
    expect("resident_users", runtime.resident_users() > 0)?;
    expect("stats", runtime.stats().resident_users > 0)?;
    let shown = format!("{runtime:?} {memory:?} {ticket:?} {snapshot:?}");
    expect("Debug", !shown.is_empty())
}

/// Forks. The child does `work` and ends without running anything else of this process.
fn fork(work: impl FnOnce() -> Result<(), String>) -> libc::pid_t {
    // SAFETY: the child calls code of this crate and the allocator, which glibc keeps usable
    // across a fork, and leaves with `_exit`. That nothing there waits for a lock of another
    // thread is what these tests are about.
    match unsafe { libc::fork() } {
        0 => {
            let outcome = work();
            let status = match outcome {
                Ok(()) => 0,
                Err(text) => {
                    let text = format!("in the child: {text}\n");
                    // SAFETY: a buffer of that length.
                    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
                    1
                }
            };
            // SAFETY: it does not return.
            unsafe { libc::_exit(status) }
        }
        child => {
            assert!(child > 0);
            child
        }
    }
}

/// The exit status of a child; one that does not end is ended.
fn wait_for(child: libc::pid_t) {
    let patience = Instant::now() + PATIENCE;
    loop {
        let mut status = 0;
        // SAFETY: the pointer is to a local variable.
        let ended = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
        if ended == child {
            assert_eq!(status, 0, "the child ended with {status}");
            return;
        }
        if Instant::now() > patience {
            end(child);
            panic!("the child waits for something");
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn end(child: libc::pid_t) {
    let mut status = 0;
    // SAFETY: a child of this process that was not waited for.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, &raw mut status, 0);
    }
}

fn settings() -> RuntimeConfig {
    let mut config = config();
    config.ledger.replay_bytes = 1 << 20;
    config
}

/// Forks while other threads of the parent hold locks, again and again.
#[test]
fn a_child_is_refused_everything_and_the_parent_goes_on() {
    for round in 0..30 {
        let root = tempfile::tempdir().unwrap();
        #[cfg(debug_assertions)]
        titans_runtime::shake_locks(round);
        let runtime = Runtime::open(root.path(), settings()).unwrap();
        let memory = runtime.user("alice").unwrap();
        let stream = Stream::new(8 * CHUNK, round);
        let ticket = stream.observe(&memory, 0..CHUNK).unwrap();
        ticket.wait().unwrap();
        let inherited = Inherited {
            snapshot: memory.snapshot().unwrap(),
            memory: memory.clone(),
            runtime,
            ticket,
            stream: Stream::new(8 * CHUNK, round),
        };
        let is_over = AtomicBool::new(false);
        let inherited = thread::scope(|scope| {
            let busy = scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    stream.observe(&memory, 0..CHUNK + 3).unwrap();
                    memory.progress();
                    let _ = memory.flush();
                }
            });
            thread::sleep(Duration::from_micros(200 * round));
            let mut inherited = Some(inherited);
            let child = fork(|| {
                let inherited = inherited.take().ok_or("nothing is inherited")?;
                ask(&inherited)?;
                let Inherited {
                    runtime,
                    memory,
                    ticket,
                    snapshot,
                    ..
                } = inherited;
                let again = Runtime::open(root.path(), settings());
                let is_locked = matches!(again, Err(OpenError::RootLocked { .. }));
                expect("the folder is the parent's", is_locked)?;
                drop((memory, ticket, snapshot));
                if round % 2 == 0 {
                    drop(runtime);
                    return Ok(());
                }
                let report = runtime.close(PATIENCE);
                expect("close is refused", report.refused.is_some())?;
                expect("nothing was closed", !report.is_durable())
            });
            wait_for(child);
            is_over.store(true, Ordering::Relaxed);
            busy.join().unwrap();
            inherited.unwrap()
        });
        // The folder is still the parent's, and all of it works.
        let again = Runtime::open(root.path(), settings());
        assert!(matches!(again, Err(OpenError::RootLocked { .. })));
        inherited.ticket.wait().unwrap();
        memory.pin().unwrap();
        stream.observe(&memory, 0..5).unwrap().wait().unwrap();
        let recalled = stream.recall(&memory);
        let Inherited { runtime, .. } = inherited;
        assert!(runtime.close(PATIENCE).is_durable());
        let runtime = Runtime::open(root.path(), settings()).unwrap();
        let again = runtime.user("alice").unwrap();
        assert!(again.skipped().is_empty());
        assert_eq!(stream.recall(&again), recalled);
    }
}

/// A child has the same open files, and so the same locks. They are free as soon as the parent
/// gives them back, whatever the child does.
#[test]
fn a_child_that_lives_on_holds_nothing_locked() {
    let root = tempfile::tempdir().unwrap();
    let mut config = config();
    config.resident_bytes = config.bytes_per_user();
    let runtime = Runtime::open(root.path(), config.clone()).unwrap();
    let stream = Stream::new(CHUNK, 1);
    let observe = |runtime: &Runtime, user: &str| {
        let memory = runtime.user(user).unwrap();
        stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
        memory.progress().durable
    };
    observe(&runtime, "alice");
    let child = fork(|| {
        // SAFETY: it has no arguments.
        unsafe { libc::pause() };
        Ok(())
    });
    // There is room for one: each leaves, and its files are opened again.
    assert_eq!(observe(&runtime, "bob"), CHUNK as u64);
    assert_eq!(observe(&runtime, "alice"), 2 * CHUNK as u64);
    assert!(runtime.close(PATIENCE).is_durable());
    let runtime = Runtime::open(root.path(), config).unwrap();
    assert_eq!(observe(&runtime, "alice"), 3 * CHUNK as u64);
    assert!(runtime.forget_user("bob").unwrap().is_some());
    end(child);
}

#[test]
fn a_child_that_awaits_is_refused_at_once_and_may_drop_what_waits() {
    let root = tempfile::tempdir().unwrap();
    let injector = Injector::default();
    let mut config = config();
    config.storage = Some(injector.hook());
    let runtime = Runtime::open(root.path(), config).unwrap();
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::new(4 * CHUNK, 1);
    let (keys, values) = stream.rows(0..4 * CHUNK);
    let saves = injector.hold_saves();
    // Two chunks are learned and not saved, and the queue is full.
    let first = stream.observe(&memory, 0..2 * CHUNK).unwrap();
    first.wait_visible().unwrap();
    let last = memory.observe(keys, values).unwrap();
    let counter = Counter::new();
    let (durable, visible) = (last.durable(), last.visible());
    let room = memory.observe_async(keys, values);
    let mut waiting = (Box::pin(durable), Box::pin(visible), Box::pin(room));
    assert!(counter.poll(waiting.0.as_mut()).is_pending());
    assert!(counter.poll(waiting.1.as_mut()).is_pending());
    assert!(counter.poll(waiting.2.as_mut()).is_pending());
    let mut inherited = Some(waiting);
    let child = fork(|| {
        // The waiting ones, and such as begin here.
        let mut waiting = inherited.take().ok_or("nothing is inherited")?;
        refused("durable", block_on(waiting.0.as_mut()))?;
        refused("visible", block_on(waiting.1.as_mut()))?;
        refused("room", block_on(waiting.2.as_mut()))?;
        refused("a new wait", block_on(last.durable()))?;
        refused(
            "observe_async",
            block_on(memory.observe_async(keys, values)),
        )?;
        let item = memory.observe_item_async(1_u64, keys, values);
        refused("observe_item_async", block_on(item))?;
        refused("flush_async", block_on(memory.flush_async()))?;
        drop(waiting);
        Ok(())
    });
    wait_for(child);
    drop(saves);
    let (durable, visible, room) = inherited.take().unwrap();
    block_on(visible).unwrap();
    block_on(durable).unwrap();
    let ticket = block_on(room).unwrap();
    block_on(ticket.durable()).unwrap();
    assert!(runtime.close(PATIENCE).is_durable());
}

/// What is dropped in a child without having been asked again takes no lock either, while other
/// threads of the parent hold them.
#[test]
fn a_child_drops_what_waits_whoever_holds_the_locks() {
    for round in 0..30 {
        let root = tempfile::tempdir().unwrap();
        #[cfg(debug_assertions)]
        titans_runtime::shake_locks(round);
        let injector = Injector::default();
        let mut config = config();
        config.storage = Some(injector.hook());
        let runtime = Runtime::open(root.path(), config).unwrap();
        let memory = runtime.user("alice").unwrap();
        let stream = Stream::new(4 * CHUNK, round);
        let saves = injector.hold_saves();
        let first = stream.observe(&memory, 0..2 * CHUNK).unwrap();
        first.wait_visible().unwrap();
        let last = stream.observe(&memory, 0..4 * CHUNK).unwrap();
        let (keys, values) = stream.rows(0..CHUNK);
        let mut waiting = Some((
            Box::pin(last.durable()),
            Box::pin(memory.observe_async(keys, values)),
        ));
        if let Some((durable, room)) = &mut waiting {
            assert!(Counter::new().poll(durable.as_mut()).is_pending());
            assert!(Counter::new().poll(room.as_mut()).is_pending());
        }
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    memory.progress();
                }
            });
            let child = fork(|| {
                drop(waiting.take());
                Ok(())
            });
            wait_for(child);
            is_over.store(true, Ordering::Relaxed);
        });
        drop(saves);
        let (durable, room) = waiting.take().unwrap();
        block_on(durable).unwrap();
        block_on(room).unwrap();
    }
}
