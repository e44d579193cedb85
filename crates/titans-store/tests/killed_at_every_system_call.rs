//! A child that saves is killed at every system call: the lock is free at once, and what was
//! acknowledged opens. This is process death only; for power loss see `crash_at_every_step`.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{SHARD, image_at};
use titans_store::fs::{DiskStorage, Storage, StorageFile};
use titans_store::{MemoryStore, SaveMode, StoreConfig};

const DIR: &str = "TITANMEM_TEST_DIR";
const DIE_AT: &str = "TITANMEM_TEST_DIE_AT";
const SAVES: u64 = 4;

fn config(mode: SaveMode) -> StoreConfig {
    StoreConfig::default().with_mode(mode).with_keep_old(2)
}

fn mode_of(dir: &Path) -> SaveMode {
    match dir.ends_with("journal") {
        true => SaveMode::Journal,
        false => SaveMode::Snapshot,
    }
}

/// The child: saves and says so after each acknowledgement.
#[test]
#[ignore = "run by the other tests, as a child"]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let dir = Path::new(&dir);
    let storage = DiskStorage::create(dir).unwrap();
    let die_at = std::env::var(DIE_AT).ok().and_then(|at| at.parse().ok());
    let storage = Dying::new(storage, die_at.unwrap_or(usize::MAX));
    let config = config(mode_of(dir));
    let (mut store, recovery) = MemoryStore::open_on(Box::new(storage), SHARD, config).unwrap();
    let start = recovery.image.map_or(0, |image| image.last_chunk_id);
    for chunk in start + 1..=start + SAVES {
        let saved = store.save(&image_at(chunk)).unwrap();
        if chunk % 3 == 0 {
            store.pin_last_known_good(saved.generation).unwrap();
        }
        println!("acknowledged {chunk}");
        io::stdout().flush().unwrap();
    }
}

/// Runs the child behind `wrapper`; returns what it printed and whether it died.
fn run_child(dir: &Path, wrapper: &[String], die_at: Option<usize>) -> (Option<u64>, bool) {
    let exe = std::env::current_exe().unwrap();
    let mut words: Vec<_> = wrapper.iter().map(Into::into).collect();
    words.push(exe.into_os_string());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command.args([
        "--exact",
        "child",
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    command.env(DIR, dir).stdin(Stdio::null());
    if let Some(at) = die_at {
        command.env(DIE_AT, at.to_string());
    }
    let Output { status, stdout, .. } = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    let words = stdout.split_whitespace().collect::<Vec<_>>();
    let acknowledged = words.windows(2).filter(|pair| pair[0] == "acknowledged");
    let last = acknowledged
        .filter_map(|pair| pair[1].parse().ok())
        .next_back();
    (last, !status.success())
}

/// Opens what the child left: the lock is free, the last acknowledged chunk or the next is
/// there, and saving goes on.
fn check(dir: &Path, acknowledged: Option<u64>, what: &str) {
    let (mut store, recovery) = MemoryStore::open(dir, SHARD, config(mode_of(dir))).unwrap();
    assert!(
        recovery.skipped.is_empty(),
        "{what}: {:?}",
        recovery.skipped
    );
    let found = recovery
        .image
        .as_ref()
        .map_or(0, |image| image.last_chunk_id);
    let floor = acknowledged.unwrap_or(0);
    assert!(
        (floor..=floor + 1).contains(&found),
        "{what}: {found}, acknowledged {floor}"
    );
    if let Some(image) = recovery.image {
        assert_eq!(image, image_at(found), "{what}");
    }
    store.save(&image_at(found + 1)).unwrap();
}

/// Whether strace can do its work here; says so if not.
fn can_trace() -> bool {
    let traced = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .status();
    let can = traced.is_ok_and(|status| status.success());
    if !can {
        println!("SKIPPED: strace is missing or may not trace");
    }
    can
}

/// The child behind strace, which meddles with the `n`-th `call` of each thread.
fn run_meddled(dir: &Path, call: &str, how: &str, n: usize) -> (Option<u64>, bool) {
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e"].map(str::to_owned);
    let inject = [
        format!("trace={call}"),
        "-e".to_owned(),
        format!("inject={call}:{how}:when={n}"),
    ];
    run_child(dir, &[&strace[..], &inject].concat(), None)
}

#[test]
fn a_system_call_that_fails_costs_one_save_at_most() {
    if !can_trace() {
        return;
    }
    let failures = [
        ("fallocate", "error=ENOSPC"),
        ("write", "error=EINTR"),
        ("fsync", "error=EIO"),
        ("fdatasync", "error=EIO"),
        ("renameat2", "error=EIO"),
        ("unlinkat", "error=EIO"),
        ("linkat", "error=EIO"),
    ];
    let (mut runs, mut survived) = (0, 0);
    for mode in ["snapshot", "journal"] {
        for (call, how) in failures {
            for n in 1..=6 {
                let root = tempfile::tempdir().unwrap();
                let dir = root.path().join(mode);
                let (acknowledged, died) = run_meddled(&dir, call, how, n);
                check(&dir, acknowledged, &format!("{mode}: {call} {how} {n}"));
                runs += 1;
                survived += usize::from(!died);
                // A retry with a new file.
                if matches!(call, "fallocate" | "fdatasync") {
                    assert_eq!(
                        (acknowledged, died),
                        (Some(SAVES), false),
                        "{mode}: {call} {n}"
                    );
                }
            }
        }
    }
    println!("{runs} failed system calls, {survived} of them went unnoticed by the caller");
}

#[test]
fn killed_at_every_system_call() {
    if !can_trace() {
        return;
    }
    let mut calls = vec![
        "mkdir",
        "flock",
        "ftruncate",
        "getdents64",
        "write",
        "fallocate",
        "fsync",
        "fdatasync",
        "renameat2",
        "linkat",
        "unlinkat",
    ];
    // Calls that change nothing, most of them of the program's start: for long runs.
    if std::env::var_os("TITANMEM_ALL_CALLS").is_some() {
        calls.extend([
            "openat", "mkdirat", "read", "close", "fstat", "statx", "fstatfs",
        ]);
    }
    let mut kills = 0;
    for mode in ["snapshot", "journal"] {
        for call in &calls {
            for n in 1.. {
                let root = tempfile::tempdir().unwrap();
                let dir = root.path().join(mode);
                let (acknowledged, died) = run_meddled(&dir, call, "signal=SIGKILL", n);
                if !died {
                    assert_eq!(acknowledged, Some(SAVES), "{mode} {call}");
                    break;
                }
                kills += 1;
                check(&dir, acknowledged, &format!("{mode}: {call} {n}"));
            }
        }
    }
    println!("{kills} kills, one per system call");
    assert!(kills > 100, "{kills}");
}

#[test]
fn dead_before_every_step_of_a_save() {
    for mode in ["snapshot", "journal"] {
        for at in 0.. {
            let root = tempfile::tempdir().unwrap();
            let dir = root.path().join(mode);
            let (acknowledged, died) = run_child(&dir, &[], Some(at));
            check(&dir, acknowledged, &format!("{mode}: step {at}"));
            if !died {
                assert!(at > 15, "{at} steps");
                break;
            }
        }
    }
}

/// A disk on which the process aborts before step `die_at`.
struct Dying {
    disk: DiskStorage,
    steps: std::sync::Arc<Steps>,
}

struct Steps {
    die_at: usize,
    taken: AtomicUsize,
}

impl Steps {
    fn step(&self) {
        if self.taken.fetch_add(1, Ordering::Relaxed) == self.die_at {
            std::process::abort();
        }
    }
}

impl Dying {
    fn new(disk: DiskStorage, die_at: usize) -> Self {
        let taken = AtomicUsize::new(0);
        let steps = std::sync::Arc::new(Steps { die_at, taken });
        Self { disk, steps }
    }
}

impl fmt::Debug for Dying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dying")
    }
}

impl Storage for Dying {
    fn path(&self) -> &Path {
        self.disk.path()
    }

    fn try_lock(&mut self, name: &str) -> io::Result<bool> {
        self.disk.try_lock(name)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.disk.list(folder)
    }

    fn read(&self, name: &str, max_bytes: u64) -> io::Result<Vec<u8>> {
        self.disk.read(name, max_bytes)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn StorageFile>> {
        self.steps.step();
        let file = self.disk.create(name, len)?;
        let steps = self.steps.clone();
        Ok(Box::new(DyingFile { file, steps }))
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.steps.step();
        self.disk.rename_new(from, to)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.steps.step();
        self.disk.link(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.steps.step();
        self.disk.remove(name)
    }

    fn make_folder(&self, name: &str) -> io::Result<()> {
        self.steps.step();
        self.disk.make_folder(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.steps.step();
        self.disk.sync_folder()
    }
}

#[derive(Debug)]
struct DyingFile {
    file: Box<dyn StorageFile>,
    steps: std::sync::Arc<Steps>,
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Steps({})", self.die_at)
    }
}

impl StorageFile for DyingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.steps.step();
        // Half of it, so that the next step finds a file that is half written.
        self.file.write(&bytes[..bytes.len().div_ceil(2)])
    }

    fn sync(&mut self) -> io::Result<()> {
        self.steps.step();
        self.file.sync()
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.steps.step();
        self.file.sync_data()
    }
}
