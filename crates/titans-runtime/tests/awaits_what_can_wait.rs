//! The handles for tokio do what their twins do, and an executor of one thread never waits.
#![allow(clippy::unwrap_used)]

mod common;

use std::future::Future;
use std::time::{Duration, SystemTime};

use common::{CHUNK, KEY_DIM, Stream, VALUE_DIM, config};
use titans_runtime::tokio::{AsyncMemory, AsyncRuntime, AsyncTicket};
use titans_runtime::{
    ObserveError, OpenError, RecallError, Rows, RowsError, Runtime, Stopped, WaitError,
};

const SOON: Duration = Duration::from_secs(60);

/// Runs on one thread: whatever blocks it blocks everything.
fn run<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.build().unwrap().block_on(future)
}

async fn observe(
    stream: &Stream,
    memory: &AsyncMemory,
    tokens: std::ops::Range<usize>,
) -> Result<AsyncTicket, ObserveError> {
    let keys = &stream.keys[tokens.start * KEY_DIM..tokens.end * KEY_DIM];
    let values = &stream.values[tokens.start * VALUE_DIM..tokens.end * VALUE_DIM];
    let keys = Rows::matrix(keys, KEY_DIM);
    memory.observe(keys, Rows::matrix(values, VALUE_DIM)).await
}

#[test]
fn what_is_awaited_equals_what_is_waited_for() {
    let (root, twin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stream = Stream::new(5 * CHUNK + 3, 1);
    let waited = {
        let runtime = Runtime::open(twin.path(), config()).unwrap();
        let memory = runtime.user("alice").unwrap();
        let ticket = stream.observe(&memory, 0..stream.tokens()).unwrap();
        ticket.wait().unwrap();
        stream.recall(&memory)
    };
    run(async {
        let runtime = AsyncRuntime::open(root.path(), config()).await.unwrap();
        let memory = runtime.user("alice").await.unwrap();
        // More than the queue holds: has to wait for room.
        let ticket = observe(&stream, &memory, 0..stream.tokens()).await.unwrap();
        ticket.wait_visible().await.unwrap();
        ticket.wait().await.unwrap();
        ticket.wait_timeout(SOON).await.unwrap();
        assert!(ticket.sync().is_durable());
        let queries = Rows::matrix(&stream.keys, KEY_DIM);
        let recalled = memory.recall(queries).await.unwrap();
        assert!(recalled.values() == waited && recalled.info().lag == 0);
        assert!(stream.recall(memory.sync()) == waited);
        let report = runtime.close(SOON).await.unwrap();
        assert!(report.is_durable());
    });
}

#[test]
fn pins_rollbacks_flushes_forgetting_and_ticks_are_those_of_the_twin() {
    let root = tempfile::tempdir().unwrap();
    let stream = Stream::new(3 * CHUNK, 2);
    run(async {
        let runtime = AsyncRuntime::open(root.path(), config()).await.unwrap();
        let memory = runtime.user("alice").await.unwrap();
        observe(&stream, &memory, 0..CHUNK)
            .await
            .unwrap()
            .wait()
            .await
            .unwrap();
        assert_eq!(memory.pin().await.unwrap(), 1);
        let known = stream.recall(memory.sync());
        let ticket = observe(&stream, &memory, CHUNK..3 * CHUNK).await.unwrap();
        memory.flush().await.unwrap();
        assert_eq!(memory.roll_back().await.unwrap().tokens, CHUNK as u64);
        assert!(stream.recall(memory.sync()) == known);
        let error = ticket.wait().await.unwrap_err();
        assert!(matches!(error, WaitError::RolledBack), "{error}");
        runtime.flush().await.unwrap();
        assert_eq!(runtime.stats().await.unwrap().rollbacks, 1);
        let report = runtime.tick(SystemTime::now()).await.unwrap();
        assert!(report.backed_up.is_empty(), "no backups are configured");
        assert!(runtime.forget_user("alice").await.unwrap().is_some());
        assert!(runtime.user("alice").await.is_err());
    });
}

#[test]
fn an_item_is_handed_over_taken_back_and_learned_away() {
    let root = tempfile::tempdir().unwrap();
    let stream = Stream::new(CHUNK, 6);
    let mut config = config();
    config.ledger.replay_bytes = 1 << 20;
    run(async {
        let runtime = AsyncRuntime::open(root.path(), config).await.unwrap();
        let memory = runtime.user("alice").await.unwrap();
        let keys = Rows::matrix(&stream.keys, KEY_DIM);
        let values = Rows::matrix(&stream.values, VALUE_DIM);
        let ticket = memory.observe_item(7_u64, keys, values).await.unwrap();
        ticket.wait().await.unwrap();
        assert!(memory.forget(8_u64).await.unwrap().is_none());
        let forgotten = memory.forget(7_u64).await.unwrap().unwrap();
        assert_eq!(forgotten.tokens, CHUNK as u64);
        AsyncTicket::from(forgotten.ticket).wait().await.unwrap();
        let rebuilt = memory.rebuild().await.unwrap();
        assert_eq!(rebuilt.tokens_replayed, 0, "the item was all there was");
        let query = Rows::row(&stream.keys[..KEY_DIM]);
        let recalled = memory.recall(query).await.unwrap();
        assert!(recalled.values().iter().all(|number| *number == 0.0));
    });
}

#[test]
fn the_executor_goes_on_while_something_waits() {
    let root = tempfile::tempdir().unwrap();
    let stream = Stream::new(200 * CHUNK, 3);
    run(async {
        let runtime = AsyncRuntime::open(root.path(), config()).await.unwrap();
        let memory = runtime.user("alice").await.unwrap();
        let whole = observe(&stream, &memory, 0..stream.tokens());
        let mut whole = std::pin::pin!(whole);
        let mut turns = 0_u64;
        // A call that blocked would be done the first time that it is looked at.
        let ticket = std::future::poll_fn(|context| {
            turns += 1;
            let polled = whole.as_mut().poll(context);
            context.waker().wake_by_ref();
            polled
        });
        ticket.await.unwrap().wait().await.unwrap();
        assert!(turns > 1, "{turns}");
    });
}

#[test]
fn closing_waits_for_what_has_begun_and_clones_are_told() {
    let root = tempfile::tempdir().unwrap();
    let stream = Stream::new(CHUNK, 4);
    run(async {
        let runtime = AsyncRuntime::open(root.path(), config()).await.unwrap();
        let clone = runtime.clone();
        let memory = runtime.user("alice").await.unwrap();
        let ticket = observe(&stream, &memory, 0..CHUNK).await.unwrap();
        assert!(runtime.contains("alice").await.unwrap());
        assert_eq!(runtime.users().await.unwrap().len(), 1);
        let report = runtime.close(SOON).await.unwrap();
        assert!(report.is_durable());
        assert!(ticket.sync().is_durable());
        let error = clone.users().await.unwrap_err();
        assert!(matches!(error.stopped(), Some(Stopped::Closed)), "{error}");
        let error = clone.user("bob").await.unwrap_err();
        assert!(matches!(error.stopped(), Some(Stopped::Closed)), "{error}");
        let error = observe(&stream, &memory, 0..1).await.unwrap_err();
        assert!(matches!(error.stopped(), Some(Stopped::Closed)), "{error}");
        assert_eq!(clone.close(SOON).await.unwrap(), report);
        // The folder is free.
        AsyncRuntime::open(root.path(), config()).await.unwrap();
    });
}

#[test]
fn errors_are_those_of_the_twin() {
    let root = tempfile::tempdir().unwrap();
    let stream = Stream::new(1, 5);
    run(async {
        let runtime = AsyncRuntime::open(root.path(), config()).await.unwrap();
        let error = AsyncRuntime::open(root.path(), config()).await.unwrap_err();
        assert!(matches!(error, OpenError::RootLocked { .. }), "{error}");
        let memory = runtime.user("alice").await.unwrap();
        let short = Rows::row(&stream.keys[..KEY_DIM - 1]);
        let error = memory.recall(short).await.unwrap_err();
        let is_told = matches!(error, RecallError::Rows(RowsError::Shape { .. }));
        assert!(is_told, "{error}");
        let none = Rows::matrix::<f32>(&[], VALUE_DIM);
        let key = Rows::row(&stream.keys[..KEY_DIM]);
        let error = memory.observe(key, none).await.unwrap_err();
        let is_told = matches!(error, ObserveError::Rows(RowsError::Shape { .. }));
        assert!(is_told, "{error}");
    });
}
