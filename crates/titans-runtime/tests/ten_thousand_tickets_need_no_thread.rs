//! However many tickets are awaited, no thread waits for them. The only test of its program,
//! because it counts the threads of the process.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/disk.rs"]
mod disk;
#[path = "common/executor.rs"]
mod executor;

use common::{Stream, config};
use disk::Injector;
use executor::run_all;
use titans_runtime::Runtime;

const TICKETS: usize = 10_000;

/// Threads of this process; `None` where the system does not tell.
fn threads() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("Threads:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn ten_thousand_tickets_are_awaited_on_one_thread() {
    let root = tempfile::tempdir().unwrap();
    let injector = Injector::default();
    let mut config = config();
    config.queue_tokens = TICKETS;
    config.storage = Some(injector.hook());
    let runtime = Runtime::open(root.path(), config).unwrap();
    let memory = runtime.user("alice").unwrap();
    // Threads that are started once are there after this.
    let stream = Stream::new(TICKETS, 1);
    stream.observe(&memory, 0..1).unwrap().wait().unwrap();
    let Some(before) = threads() else {
        println!("SKIPPED: nothing tells how many threads there are");
        return;
    };
    let saves = injector.hold_saves();
    let futures: Vec<_> = (0..TICKETS)
        .map(|row| {
            let ticket = stream.observe(&memory, row..row + 1).unwrap();
            ticket.durable()
        })
        .collect();
    let outcomes = run_all(futures, |waiting| {
        assert_eq!(waiting, TICKETS, "nothing is durable yet");
        assert_eq!(threads(), Some(before));
        drop(saves);
    });
    assert_eq!(threads(), Some(before));
    assert_eq!(outcomes.len(), TICKETS);
    outcomes.into_iter().for_each(|outcome| outcome.unwrap());
    assert_eq!(memory.progress().durable, TICKETS as u64 + 1);
}
