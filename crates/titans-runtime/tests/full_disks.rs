//! A disk that is really full: what is visible stays visible, and everything becomes durable by
//! itself once there is room.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/disk.rs"]
mod disk;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::Stream;
use disk::{EDQUOT, Fault, Injector};
use titans_runtime::{Health, Runtime, RuntimeConfig, WaitError};

const PATIENCE: Duration = Duration::from_secs(60);
/// The default widths.
const WIDTHS: (usize, usize) = (64, 64);
const TOKENS: usize = 4000;

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < patience, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A small file system in memory, unmounted when this is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Result<Self, String> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs"])
            .arg(at)
            .output()
            .map_err(|error| error.to_string())?;
        match mounted.status.success() {
            true => Ok(Self(at.to_owned())),
            false => Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Takes every byte that is left.
    fn fill(&self) {
        let mut file = File::create(self.ballast()).unwrap();
        for block in [1 << 20, 4096, 1] {
            let block = vec![0; block];
            while file.write_all(&block).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn what_a_full_disk_cannot_take_is_kept_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let disk = match SmallDisk::mount(dir.path()) {
        Ok(disk) => disk,
        Err(reason) => return println!("SKIPPED: no file system can be mounted: {reason}"),
    };
    let root = dir.path().join("root");
    let runtime = Runtime::open(&root, RuntimeConfig::default()).unwrap();
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::with_widths(TOKENS, 1, WIDTHS);
    let first = TOKENS / 4;
    stream.observe(&memory, 0..first).unwrap().wait().unwrap();

    disk.fill();
    let ticket = stream.observe(&memory, first..TOKENS).unwrap();
    let error = ticket.wait().unwrap_err();
    let is_told = matches!(error, WaitError::Unavailable { .. });
    assert!(
        is_told && error.to_string().contains("os error 28"),
        "{error}"
    );
    assert!(matches!(memory.health(), Health::Retrying { .. }));
    let progress = memory.progress();
    let expected = (TOKENS as u64, TOKENS as u64, first as u64);
    let found = (progress.accepted, progress.visible, progress.durable);
    assert_eq!(found, expected);
    let seen = stream.recall(&memory);

    disk.make_room();
    eventually("it is durable by itself", || {
        memory.progress().durable == TOKENS as u64
    });
    ticket.wait().unwrap();
    eventually("it is well", || memory.health().is_healthy());
    runtime.user("bob").unwrap();
    drop((memory, ticket));
    assert!(runtime.close(PATIENCE).is_durable());
    let runtime = Runtime::open(&root, RuntimeConfig::default()).unwrap();
    let memory = runtime.user("alice").unwrap();
    assert!(memory.skipped().is_empty(), "{:?}", memory.skipped());
    assert_eq!(stream.recall(&memory), seen);

    // Forgetting makes room, and so may need none.
    disk.fill();
    let receipt = runtime.forget_user("alice").unwrap().unwrap();
    assert!(
        receipt.found_something() && receipt.is_complete(),
        "{receipt:?}"
    );
    assert!(runtime.user("alice").is_err());
    assert!(matches!(memory.health(), Health::Forgotten));
}

#[test]
fn a_quota_that_is_used_up_is_waited_for_like_a_full_disk() {
    let root = tempfile::tempdir().unwrap();
    let injector = Injector::default();
    let mut config = RuntimeConfig::default();
    config.storage = Some(injector.hook());
    let runtime = Runtime::open(root.path(), config).unwrap();
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::with_widths(TOKENS, 2, WIDTHS);
    let first = TOKENS / 4;
    stream.observe(&memory, 0..first).unwrap().wait().unwrap();
    injector.fail(Fault::Error(EDQUOT));
    let ticket = stream.observe(&memory, first..TOKENS).unwrap();
    let error = ticket.wait().unwrap_err();
    assert!(matches!(error, WaitError::Unavailable { .. }), "{error}");
    let seen = stream.recall(&memory);
    injector.heal();
    eventually("it is durable by itself", || {
        memory.progress().durable == TOKENS as u64
    });
    ticket.wait().unwrap();
    assert_eq!(stream.recall(&memory), seen);
}
