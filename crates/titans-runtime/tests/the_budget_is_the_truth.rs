//! What the runtime says that its memories take is what the process grows by, and memories
//! that were saved leave.
//!
//! Each case is a process of its own: what an earlier one has freed would be used again, and
//! the process would not grow.
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

mod common;

use std::time::{Duration, Instant};

use common::Stream;
use titans_runtime::{Durability, Rows, Runtime, RuntimeConfig, UserMemory};

/// Bytes of the process that are in RAM.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

/// Files that the process has open.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn settled(runtime: &Runtime) -> usize {
    let patience = Instant::now() + Duration::from_secs(60);
    let mut before = usize::MAX;
    while Instant::now() < patience {
        let now = runtime.stats().resident_bytes;
        if now == before {
            break;
        }
        before = now;
        std::thread::sleep(Duration::from_millis(50));
    }
    before
}

/// What some users do, and how far what is said may be from what is.
fn grows_as_it_says(what: &str, users: usize, act: impl Fn(&UserMemory, &Stream)) {
    let root = tempfile::tempdir().unwrap();
    let config =
        RuntimeConfig::default().with_durability(Durability::Interval(Duration::from_secs(3600)));
    let widths = (config.memory.key_dim, config.memory.value_dim);
    let runtime = Runtime::open(root.path(), config).unwrap();
    let stream = Stream::with_widths(4096, 1, widths);
    let mut handles = Vec::new();
    let mut join = |count: usize| {
        for _ in 0..count {
            let memory = runtime.user(handles.len().to_string()).unwrap();
            act(&memory, &stream);
            handles.push(memory);
        }
        settled(&runtime)
    };
    // The first ones pay for what all share, and for what a saver keeps.
    let said_before = join(10);
    let (before, files_before) = (resident(), open_files());
    let said = join(users) - said_before;
    let grown = resident().saturating_sub(before);
    let files = open_files() - files_before;
    let apart = (said as f64 - grown as f64).abs() / grown as f64;
    println!(
        "{what}: the process grew by {grown} bytes and {files} files for {users} users, the gauge by {said}: {:.1} % apart",
        100.0 * apart
    );
    assert!(apart <= 0.1, "{what}");
    assert!(files <= 4 * users, "{what}: {files} files");
}

/// Which case a child process runs.
const CASE: &str = "TITANMEM_BUDGET_CASE";
const CASES: [(&str, fn()); 5] = [
    ("learned and saved", || {
        grows_as_it_says("learned and saved", 40, |memory, stream| {
            stream.observe(memory, 0..4096).unwrap().wait().unwrap();
        });
    }),
    ("learned, not saved", || {
        grows_as_it_says("learned, not saved", 40, |memory, stream| {
            let ticket = stream.observe(memory, 0..4096).unwrap();
            ticket.wait_visible().unwrap();
        });
    }),
    ("waiting to be learned", || {
        grows_as_it_says("waiting to be learned", 40, |memory, stream| {
            stream.observe(memory, 0..4000).unwrap();
        });
    }),
    ("with full ledgers", || {
        grows_as_it_says("with full ledgers", 40, |memory, stream| {
            for item in 0..2048_usize {
                let keys = Rows::row(&stream.keys[item * 64..][..64]);
                let values = Rows::row(&stream.values[item * 64..][..64]);
                memory.observe_item(item as u64, keys, values).unwrap();
            }
            memory.flush().unwrap();
        });
    }),
    ("room for two", what_is_saved_leaves),
];

#[test]
fn child() {
    let Ok(asked) = std::env::var(CASE) else {
        return;
    };
    for (name, case) in CASES {
        if name == asked {
            case();
        }
    }
}

#[test]
fn the_gauge_is_within_a_tenth_of_what_the_process_grows_by() {
    for (name, _) in CASES {
        let ended = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(CASE, name)
            .status()
            .unwrap();
        assert!(ended.success(), "{name}");
    }
}

fn what_is_saved_leaves() {
    // A hundred users, room for two: what has been saved leaves, although the next save by
    // the policy is an hour away.
    let root = tempfile::tempdir().unwrap();
    let mut config =
        RuntimeConfig::default().with_durability(Durability::Interval(Duration::from_secs(3600)));
    config.resident_bytes = 2 * config.bytes_per_user();
    let budget = config.resident_bytes;
    let widths = (config.memory.key_dim, config.memory.value_dim);
    let runtime = Runtime::open(root.path(), config).unwrap();
    let stream = Stream::with_widths(4096, 1, widths);
    let (before, files_before) = (resident(), open_files());
    let mut most = 0;
    for user in 0..100 {
        let memory = runtime.user(user).unwrap();
        let ticket = stream.observe(&memory, 0..4096).unwrap();
        while !ticket.is_visible() {
            std::thread::yield_now();
        }
        most = most.max(resident().saturating_sub(before));
    }
    let stats = runtime.stats();
    println!(
        "room for two ({budget} bytes): {} snapshots live, at most {most} bytes more, {} files more",
        stats.live_snapshots,
        open_files() - files_before
    );
    assert!(stats.live_snapshots <= 6, "{}", stats.live_snapshots);
    assert_eq!(stats.resident_users, 2);
    // A saver's own room comes on top, as `bytes_per_user` says.
    assert!(most <= budget + 64 * 1024 * 1024, "{most}");
    assert!(open_files() - files_before <= 8);
}
