//! What waits is a future of any executor: it is told what a thread is told, and woken by it.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/disk.rs"]
mod disk;
#[path = "common/executor.rs"]
mod executor;
#[path = "common/patience.rs"]
mod patience;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use common::{CHUNK, KEY_DIM, Stream, VALUE_DIM, config};
use disk::{ENOSPC, Fault, Injector};
use executor::{Counter, block_on};
use patience::{PATIENCE, ends, eventually};
use tempfile::TempDir;
use titans_runtime::{
    ObserveError, Rows, Runtime, RuntimeConfig, RuntimeError, Stopped, Ticket, UserMemory,
    WaitError,
};

/// A runtime whose disk a test can hold.
struct Held {
    runtime: Runtime,
    memory: UserMemory,
    injector: Injector,
    stream: Stream,
    _root: TempDir,
}

impl Held {
    fn new() -> Self {
        Self::with(config())
    }

    fn with(mut config: RuntimeConfig) -> Self {
        let root = tempfile::tempdir().unwrap();
        let injector = Injector::default();
        config.storage = Some(injector.hook());
        let runtime = Runtime::open(root.path(), config).unwrap();
        Self {
            memory: runtime.user("alice").unwrap(),
            runtime,
            injector,
            stream: Stream::new(16 * CHUNK, 1),
            _root: root,
        }
    }

    /// Two chunks that nothing saves. As many may wait for the disk, so nothing more is learned.
    fn stop_learning(&self) {
        let ticket = self.stream.observe(&self.memory, 0..2 * CHUNK).unwrap();
        ticket.wait_visible().unwrap();
    }

    /// The same, with a queue that takes nothing more. The ticket is of its last chunk.
    fn fill(&self) -> Ticket {
        self.stop_learning();
        let tokens = 2 * CHUNK..6 * CHUNK;
        self.stream.observe(&self.memory, tokens).unwrap()
    }

    async fn observe_async(&self, tokens: std::ops::Range<usize>) -> Result<Ticket, ObserveError> {
        let (keys, values) = self.stream.rows(tokens);
        self.memory.observe_async(keys, values).await
    }
}

/// Polls a future that has to wait.
fn begin<F: Future>(counter: &Arc<Counter>, future: Pin<&mut F>) {
    assert!(counter.poll(future).is_pending());
}

/// Waits until a future that waits is woken, and asks it again until it is ready.
fn finish<F: Future>(counter: &Arc<Counter>, mut future: Pin<&mut F>) -> F::Output {
    let mut seen = 0;
    loop {
        eventually("it is woken", || counter.woken() > seen);
        seen = counter.woken();
        if let Poll::Ready(output) = counter.poll(future.as_mut()) {
            return output;
        }
    }
}

#[test]
fn what_is_awaited_equals_what_is_waited_for() {
    let (root, twin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stream = Stream::new(5 * CHUNK + 3, 1);
    let runtime = common::open(twin.path());
    let memory = runtime.user("alice").unwrap();
    let ticket = stream.observe(&memory, 0..stream.tokens()).unwrap();
    ticket.wait().unwrap();
    let waited = stream.recall(&memory);
    let runtime = common::open(root.path());
    let memory = runtime.user("alice").unwrap();
    block_on(async {
        // More than the queue holds: has to wait for room.
        let (keys, values) = stream.rows(0..stream.tokens());
        let ticket = memory.observe_async(keys, values).await.unwrap();
        ticket.visible().await.unwrap();
        assert!(ticket.is_visible());
        ticket.durable().await.unwrap();
        assert!(ticket.is_durable());
        memory.flush_async().await.unwrap();
    });
    assert!(stream.recall(&memory) == waited);
}

#[test]
fn tokio_awaits_it_too_and_sets_the_limits() {
    let held = Held::new();
    let mut tokio = tokio::runtime::Builder::new_current_thread();
    let tokio = tokio.enable_time().build().unwrap();
    let saves = held.injector.hold_saves();
    let ticket = tokio.block_on(async {
        let ticket = held.observe_async(0..CHUNK).await.unwrap();
        ticket.visible().await.unwrap();
        let limit = Duration::from_millis(20);
        let waited = tokio::time::timeout(limit, ticket.durable()).await;
        assert!(waited.is_err(), "nothing is saved");
        ticket
    });
    drop(saves);
    let limited = async { tokio::time::timeout(PATIENCE, ticket.durable()).await };
    tokio.block_on(limited).unwrap().unwrap();
}

#[test]
fn futures_move_between_tasks_and_outlive_their_tickets() {
    let held = Held::new();
    let mut tokio = tokio::runtime::Builder::new_multi_thread();
    tokio.build().unwrap().block_on(async {
        let tasks: Vec<_> = (0..CHUNK)
            .map(|row| {
                let memory = held.memory.clone();
                let (key, value) = held.stream.rows(row..row + 1);
                let ticket = held.memory.observe(key, value).unwrap();
                let waiting = tokio::spawn(ticket.durable());
                tokio::spawn(async move {
                    waiting.await.unwrap().unwrap();
                    let row = [0.25; KEY_DIM];
                    let key = Rows::row(&row);
                    let value = Rows::row(&row[..VALUE_DIM]);
                    let item = memory.observe_item_async(7_u64, key, value);
                    item.await.unwrap().visible().await
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        held.memory.flush_async().await.unwrap();
    });
    assert_eq!(held.memory.progress().durable, 2 * CHUNK as u64);
}

#[test]
fn a_refused_save_is_told_and_awaiting_again_is_right() {
    let held = Held::new();
    let saves = held.injector.hold_saves();
    let ticket = held.stream.observe(&held.memory, 0..CHUNK).unwrap();
    let (counter, mut durable) = (Counter::new(), pin!(ticket.durable()));
    begin(&counter, durable.as_mut());
    held.injector.fail(Fault::Error(ENOSPC));
    drop(saves);
    let error = finish(&counter, durable.as_mut()).unwrap_err();
    assert!(matches!(error, WaitError::Unavailable { .. }), "{error}");
    held.injector.heal();
    // It begins anew.
    while let Err(error) = block_on(durable.as_mut()) {
        assert!(error.is_retryable(), "{error}");
    }
    assert!(ticket.is_durable());
}

#[test]
fn a_dropped_chunk_is_told() {
    let held = Held::new();
    let saves = held.injector.hold_saves();
    held.stop_learning();
    // Each value is as long as a value may be; what lies between them is not.
    let (keys, mut values) = ([1.0; 2 * KEY_DIM], [6e18; 2 * VALUE_DIM]);
    values[VALUE_DIM..].fill(-6e18);
    let keys = Rows::matrix(&keys, KEY_DIM);
    let values = Rows::matrix(&values, VALUE_DIM);
    let ticket = held.memory.observe(keys, values).unwrap();
    let behind = held.stream.observe(&held.memory, 0..CHUNK).unwrap();
    let (counter, mut durable) = (Counter::new(), pin!(ticket.durable()));
    let (other, mut learned) = (Counter::new(), pin!(behind.durable()));
    begin(&counter, durable.as_mut());
    begin(&other, learned.as_mut());
    drop(saves);
    let error = finish(&counter, durable.as_mut()).unwrap_err();
    assert!(matches!(error, WaitError::Dropped), "{error}");
    // Some of these rows were in the same chunk.
    let error = finish(&other, learned.as_mut()).unwrap_err();
    assert!(matches!(error, WaitError::Dropped), "{error}");
}

#[test]
fn a_step_that_panics_is_told_and_so_is_nothing_to_wait_for_after_it() {
    let held = Held::new();
    let saves = held.injector.hold_saves();
    let last = held.fill();
    let (counter, mut visible) = (Counter::new(), pin!(last.visible()));
    begin(&counter, visible.as_mut());
    let (other, mut waiting) = (Counter::new(), pin!(held.observe_async(0..CHUNK)));
    begin(&other, waiting.as_mut());
    held.injector.fail_steps(0, 1, Fault::Panic);
    drop(saves);
    for error in [
        RuntimeError::from(finish(&counter, visible.as_mut()).unwrap_err()),
        finish(&other, waiting.as_mut()).unwrap_err().into(),
        block_on(last.durable()).unwrap_err().into(),
        block_on(held.observe_async(0..1)).unwrap_err().into(),
    ] {
        assert!(
            matches!(error.stopped(), Some(Stopped::Failed { .. })),
            "{error}"
        );
    }
    held.memory.resume().unwrap();
    let error = block_on(last.durable()).unwrap_err();
    assert!(matches!(error, WaitError::RolledBack), "{error}");
    let ticket = block_on(held.observe_async(0..1)).unwrap();
    block_on(ticket.durable()).unwrap();
}

/// Lets a command come between a chunk that waits and its learning, and looks at what its ticket
/// says: of two outcomes, which depend on who comes first, both are right.
fn beside_a_command(command: fn(&Held), is_its_error: fn(&WaitError) -> bool) {
    let is_told = || {
        let held = Held::new();
        let ticket = held.stream.observe(&held.memory, 0..CHUNK).unwrap();
        ticket.wait().unwrap();
        held.memory.pin().unwrap();
        let saves = held.injector.hold_saves();
        held.stop_learning();
        let ticket = held.stream.observe(&held.memory, 0..CHUNK).unwrap();
        let (counter, mut visible) = (Counter::new(), pin!(ticket.visible()));
        begin(&counter, visible.as_mut());
        thread::scope(|scope| {
            let command = scope.spawn(|| command(&held));
            thread::sleep(Duration::from_millis(20));
            drop(saves);
            let outcome = finish(&counter, visible.as_mut());
            command.join().unwrap();
            match outcome {
                Ok(()) => false,
                Err(error) if is_its_error(&error) => true,
                Err(error) => panic!("{error}"),
            }
        })
    };
    eventually("the command comes first", is_told);
}

#[test]
fn a_rollback_is_told() {
    let roll_back = |held: &Held| {
        held.memory.roll_back().unwrap();
    };
    beside_a_command(roll_back, |error| matches!(error, WaitError::RolledBack));
}

#[test]
fn that_the_user_is_forgotten_is_told() {
    let forget = |held: &Held| drop(held.runtime.forget_user("alice").unwrap());
    // What waited is gone with the memory.
    beside_a_command(forget, |error| {
        matches!(
            error,
            WaitError::Stopped(Stopped::Forgotten) | WaitError::RolledBack
        )
    });
}

#[test]
fn closing_is_told_at_once_to_whoever_waits_for_room() {
    let Held {
        runtime,
        memory,
        injector,
        stream,
        _root,
    } = Held::new();
    let saves = injector.hold_saves();
    let _ = stream.observe(&memory, 0..2 * CHUNK).unwrap();
    let last = stream.observe(&memory, 0..3 * CHUNK).unwrap();
    let (counter, mut durable) = (Counter::new(), pin!(last.durable()));
    begin(&counter, durable.as_mut());
    let (keys, values) = stream.rows(0..3 * CHUNK);
    let mut waiting: Vec<_> = (0..3)
        .map(|_| {
            let line = (Counter::new(), memory.observe_async(keys, values));
            let mut line = (line.0, Box::pin(line.1));
            begin(&line.0, line.1.as_mut());
            line
        })
        .collect();
    let closing = thread::spawn(move || runtime.close(PATIENCE));
    // While the disk still holds everything up.
    for (counter, future) in &mut waiting {
        let error = finish(counter, future.as_mut()).unwrap_err();
        assert!(matches!(error.stopped(), Some(Stopped::Closed)), "{error}");
    }
    drop(saves);
    finish(&counter, durable.as_mut()).unwrap();
    assert!(closing.join().unwrap().is_durable());
    block_on(last.durable()).unwrap();
    let error = block_on(memory.observe_async(keys, values)).unwrap_err();
    assert!(matches!(error.stopped(), Some(Stopped::Closed)), "{error}");
}

#[test]
fn a_future_that_is_dropped_leaves_no_waker_and_takes_nothing_back() {
    let held = Held::new();
    let saves = held.injector.hold_saves();
    let last = held.fill();
    let counter = Counter::new();
    let accepted = held.memory.progress().accepted;
    for _ in 0..100 {
        let (mut durable, mut visible) = (pin!(last.durable()), pin!(last.visible()));
        let mut room = pin!(held.observe_async(0..CHUNK));
        let mut behind = pin!(held.observe_async(0..CHUNK));
        begin(&counter, durable.as_mut());
        begin(&counter, visible.as_mut());
        begin(&counter, room.as_mut());
        begin(&counter, behind.as_mut());
        // Polled again, each leaves one waker all the same.
        begin(&counter, durable.as_mut());
        begin(&counter, behind.as_mut());
        assert_eq!(counter.kept(), 4);
    }
    assert_eq!(counter.kept(), 0);
    assert_eq!(
        held.memory.progress().accepted,
        accepted,
        "nothing was taken"
    );
    drop(saves);
    // What was handed over is learned, and there is nobody in line.
    block_on(held.memory.flush_async()).unwrap();
    assert_eq!(held.memory.progress().durable, accepted);
    held.stream
        .observe(&held.memory, 0..1)
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(counter.woken(), 0);
}

#[test]
fn of_a_call_that_is_longer_than_the_queue_what_had_found_room_is_learned() {
    let held = Held::new();
    let saves = held.injector.hold_saves();
    held.stop_learning();
    let counter = Counter::new();
    let (keys, values) = held.stream.rows(0..6 * CHUNK);
    {
        let mut long = pin!(held.memory.observe_item_async(3_u64, keys, values));
        begin(&counter, long.as_mut());
        let mut behind = pin!(held.observe_async(0..1));
        begin(&counter, behind.as_mut());
        assert_eq!(held.memory.progress().accepted, 6 * CHUNK as u64);
    }
    assert_eq!(counter.kept(), 0);
    drop(saves);
    held.memory.flush().unwrap();
    assert_eq!(held.memory.progress().durable, 6 * CHUNK as u64);
    // Of an item that was not taken whole, nothing is known.
    assert!(held.memory.forget(3_u64).unwrap().is_none());
}

#[test]
fn who_came_first_is_served_first() {
    let held = Held::new();
    let saves = held.injector.hold_saves();
    held.fill();
    let mut waiting: Vec<_> = (0..20)
        .map(|length| {
            let mut future = Box::pin(held.observe_async(0..1 + length));
            let counter = Counter::new();
            begin(&counter, future.as_mut());
            (counter, future)
        })
        .collect();
    drop(saves);
    let mut end = 6 * CHUNK as u64;
    for (length, (counter, future)) in waiting.iter_mut().enumerate() {
        let ticket = finish(counter, future.as_mut()).unwrap();
        end += 1 + length as u64;
        assert_eq!(ticket.position(), end);
    }
}

#[test]
fn nobody_waits_for_ever_beside_others_who_never_stop() {
    for is_a_thread in [true, false] {
        ends("one among many who hand over", move || {
            let held = Held::new();
            let is_over = AtomicBool::new(false);
            let hand_over = || held.stream.observe(&held.memory, 0..CHUNK).map(drop);
            let hand_over_async = || async { held.observe_async(0..CHUNK).await.map(drop) };
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        while !is_over.load(Ordering::Relaxed) {
                            hand_over().unwrap();
                        }
                    });
                    scope.spawn(|| {
                        while !is_over.load(Ordering::Relaxed) {
                            block_on(hand_over_async()).unwrap();
                        }
                    });
                }
                for _ in 0..50 {
                    match is_a_thread {
                        true => hand_over().unwrap(),
                        false => block_on(hand_over_async()).unwrap(),
                    }
                }
                is_over.store(true, Ordering::Relaxed);
            });
            held.memory.flush().unwrap();
        });
    }
}

#[test]
fn a_full_queue_is_an_error_at_once_where_nobody_is_to_wait() {
    let mut config = config();
    config.when_full = titans_runtime::WhenFull::Busy;
    let held = Held::with(config);
    let saves = held.injector.hold_saves();
    held.fill();
    let mut refused = pin!(held.observe_async(0..1));
    let Poll::Ready(Err(error)) = Counter::new().poll(refused.as_mut()) else {
        panic!("it waits, or was taken");
    };
    assert!(matches!(error, ObserveError::Busy { .. }), "{error}");
    drop(saves);
    held.memory.flush().unwrap();
    let mut taken = pin!(held.observe_async(0..1));
    assert!(Counter::new().poll(taken.as_mut()).is_ready());
}

/// A waker that panics.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker of the caller's panics");
    }
}

#[test]
fn a_waker_that_panics_takes_nobody_with_it() {
    let held = Held::new();
    let saves = held.injector.hold_saves();
    let last = held.fill();
    let panics = Waker::from(Arc::new(Panics));
    let mut task = Context::from_waker(&panics);
    let (mut durable, mut visible) = (pin!(last.durable()), pin!(last.visible()));
    let mut room = pin!(held.observe_async(0..1));
    assert!(durable.as_mut().poll(&mut task).is_pending());
    assert!(visible.as_mut().poll(&mut task).is_pending());
    assert!(room.as_mut().poll(&mut task).is_pending());
    let (counter, mut other) = (Counter::new(), pin!(last.durable()));
    begin(&counter, other.as_mut());
    drop(saves);
    finish(&counter, other.as_mut()).unwrap();
    assert!(held.memory.health().is_healthy());
    // It was woken and never looked; the line goes on when it is dropped.
    let (counter, mut behind) = (Counter::new(), pin!(held.observe_async(0..1)));
    begin(&counter, behind.as_mut());
    room.set(held.observe_async(0..0));
    let ticket = finish(&counter, behind.as_mut()).unwrap();
    block_on(ticket.durable()).unwrap();
}

/// A waker that asks the runtime for what takes its locks.
struct Asks {
    memory: UserMemory,
    times: AtomicUsize,
}

impl Wake for Asks {
    fn wake(self: Arc<Self>) {
        assert!(self.memory.health().is_healthy());
        self.memory.progress();
        let (key, value) = ([0.25; KEY_DIM], [0.25; VALUE_DIM]);
        let ticket = self.memory.observe(Rows::row(&key), Rows::row(&value));
        assert!(!ticket.unwrap().is_durable());
        self.times.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_waker_may_call_the_runtime() {
    ends("a waker that calls the runtime", || {
        let held = Held::new();
        let saves = held.injector.hold_saves();
        held.stop_learning();
        let ticket = held.stream.observe(&held.memory, 0..1).unwrap();
        let asks = Arc::new(Asks {
            memory: held.memory.clone(),
            times: AtomicUsize::new(0),
        });
        let waker = Waker::from(Arc::clone(&asks));
        let mut task = Context::from_waker(&waker);
        let (mut durable, mut visible) = (pin!(ticket.durable()), pin!(ticket.visible()));
        assert!(durable.as_mut().poll(&mut task).is_pending());
        assert!(visible.as_mut().poll(&mut task).is_pending());
        drop(saves);
        eventually("both are woken", || asks.times.load(Ordering::SeqCst) == 2);
        assert!(durable.as_mut().poll(&mut task).is_ready());
        held.memory.flush().unwrap();
        assert_eq!(held.memory.progress().durable, 2 * CHUNK as u64 + 3);
    });
}
