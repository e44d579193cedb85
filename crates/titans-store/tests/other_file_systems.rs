//! Places that lack something: hard links, flags of system calls, locks, room, file handles,
//! a right to write. Each works by another way or is a clear error.
//!
//! What needs root, mounts or strace prints `SKIPPED` where those are missing.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use common::{SHARD, image_at};
use titans_store::{
    ErrorClass, Inventory, MemoryImage, MemoryStore, Place, SaveMode, StoreConfig, StoreError,
    forget, verify_dir,
};

const DIR: &str = "TITANMEM_TEST_DIR";
const PLANTED: &str = "what the user said, byte for byte";

fn config(mode: SaveMode) -> StoreConfig {
    StoreConfig::default().with_mode(mode)
}

fn image(chunk: u64) -> MemoryImage {
    let mut image = image_at(chunk);
    image.extra.insert("note".to_owned(), PLANTED.to_owned());
    image
}

/// Saves, pins, logs and reopens in both modes: all that a store asks of a file system.
fn exercise(root: &Path) -> Result<(), StoreError> {
    for (mode, name) in [(SaveMode::Snapshot, "snap"), (SaveMode::Journal, "log")] {
        let dir = root.join(name);
        for _ in 0..2 {
            let (mut store, recovery) = MemoryStore::open(&dir, SHARD, config(mode))?;
            let start = recovery.image.map_or(0, |image| image.last_chunk_id);
            for chunk in start + 1..=start + 4 {
                let saved = store.save(&image(chunk))?;
                if chunk % 3 == 0 {
                    store.pin_last_known_good(saved.generation)?;
                }
            }
            let (mut log, _) = store.open_log("ledger")?;
            store.rewrite_log(&mut log, [PLANTED])?;
        }
        let (store, recovery) = MemoryStore::open(&dir, SHARD, config(mode))?;
        assert_eq!(recovery.image, Some(image(8)));
        assert!(store.last_known_good()?.is_some());
    }
    Ok(())
}

/// Run by the other tests in a process of its own.
#[test]
#[ignore = "run by the other tests, as a child"]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    match exercise(Path::new(&dir)) {
        Ok(()) => println!("went well"),
        Err(error) => println!(
            "refused: {error} ({:?}, {})",
            error.class(),
            error.may_heal()
        ),
    }
}

/// The child behind some words of a command line.
fn run_child(dir: &Path, before: &[&str]) -> String {
    let exe = std::env::current_exe().unwrap();
    let (first, rest) = before.split_first().unwrap();
    let Output { stdout, stderr, .. } = Command::new(first)
        .args(rest)
        .arg(exe)
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .output()
        .unwrap();
    String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr)
}

fn can(command: &str, arguments: &[&str]) -> bool {
    let reason = match Command::new(command).args(arguments).output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    println!("SKIPPED: {command} {}: {reason}", arguments.join(" "));
    false
}

#[test]
fn system_calls_that_are_missing_are_done_without() {
    if !can("strace", &["-qq", "-o", "/dev/null", "true"]) {
        return;
    }
    let missing: [&[&str]; 6] = [
        &["renameat2:error=EINVAL"],
        &["renameat2:error=ENOSYS", "linkat:error=EPERM"],
        &["renameat2:error=EPERM", "linkat:error=EOPNOTSUPP"],
        &["linkat:error=EPERM"],
        &["fallocate:error=EOPNOTSUPP"],
        &["fallocate:error=EPERM"],
    ];
    for calls in missing {
        let root = tempfile::tempdir().unwrap();
        let mut words = vec!["strace", "-f", "-qq", "-o", "/dev/null"];
        let inject: Vec<_> = calls.iter().map(|call| format!("inject={call}")).collect();
        words.extend(inject.iter().flat_map(|inject| ["-e", inject]));
        let told = run_child(root.path(), &words);
        assert!(told.contains("went well"), "{calls:?}: {told}");
        exercise_again(root.path());
    }
}

/// What was made there is whole, and usable where nothing is missing.
fn exercise_again(root: &Path) {
    for name in ["snap", "log"] {
        let verdicts = verify_dir(&root.join(name), &StoreConfig::default().limits).unwrap();
        let bad: Vec<_> = verdicts.iter().filter(|v| v.problem.is_some()).collect();
        assert!(bad.is_empty() && !verdicts.is_empty(), "{bad:?}");
    }
}

#[test]
fn folders_that_cannot_be_flushed_alone_are_flushed_with_their_file_system() {
    if !can("strace", &["-qq", "-o", "/dev/null", "true"]) {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().canonicalize().unwrap();
    for name in ["snap", "log"] {
        fs::create_dir(dir.join(name)).unwrap();
        fs::set_permissions(
            dir.join(name),
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .unwrap();
    }
    let (snap, log) = (dir.join("snap"), dir.join("log"));
    let words = |inject: &'static str| {
        let paths = ["-P", snap.to_str().unwrap(), "-P", log.to_str().unwrap()];
        let mut words = vec!["strace", "-f", "-qq", "-o", "/dev/null"];
        words.extend(paths);
        words.extend(["-e", inject]);
        words
    };
    let told = run_child(&dir, &words("inject=fsync:error=EINVAL"));
    assert!(told.contains("went well"), "{told}");
    let told = run_child(&dir, &words("inject=fsync,syncfs:error=EINVAL"));
    assert!(
        told.contains("not durable") && told.contains("(Place, true)"),
        "{told}"
    );
}

#[test]
fn a_place_without_locks_is_refused_by_name() {
    if !can("strace", &["-qq", "-o", "/dev/null", "true"]) {
        return;
    }
    for error in ["ENOLCK", "EOPNOTSUPP", "ENOSYS"] {
        let root = tempfile::tempdir().unwrap();
        let inject = format!("inject=flock:error={error}");
        let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
        let told = run_child(root.path(), &strace);
        assert!(
            told.contains("without locks") && told.contains("(Place, false)"),
            "{told}"
        );
    }
}

#[test]
fn too_few_file_handles_are_an_error_that_passes() {
    let root = tempfile::tempdir().unwrap();
    let mut refused = 0;
    for handles in 3..14 {
        let limit = format!("ulimit -n {handles}; exec \"$0\" \"$@\"");
        let told = run_child(root.path(), &["sh", "-c", &limit]);
        if told.contains("refused:") {
            assert!(told.contains("(Place, true)"), "{handles}: {told}");
            refused += 1;
        }
    }
    assert!(refused > 0, "no number of handles was too small");
    let other = tempfile::tempdir().unwrap();
    exercise(other.path()).unwrap();
    // What the children have left is none the worse.
    let (_, recovery) =
        MemoryStore::open(&root.path().join("snap"), SHARD, config(SaveMode::Snapshot)).unwrap();
    assert!(recovery.skipped.is_empty());
}

/// A file system for a test, unmounted at its end.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(arguments: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().to_str().unwrap().to_owned();
        let words: Vec<_> = arguments.iter().copied().chain([at.as_str()]).collect();
        can("mount", &words).then_some(Self(dir))
    }

    fn tmpfs(options: &str) -> Option<Self> {
        let options = format!("mode=700,{options}");
        Self::new(&["-t", "tmpfs", "-o", &options, "tmpfs"])
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Again while it is busy: a process that another test is about to start holds our files for
    /// a moment, until it becomes another program.
    fn remount(&self, how: &str) {
        let options = format!("remount,{how}");
        let words = ["-o", &options, self.path().to_str().unwrap()];
        let is_done = (0..100).any(|attempt| {
            if attempt > 0 {
                thread::sleep(Duration::from_millis(50));
            }
            can("mount", &words)
        });
        assert!(is_done, "{options}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

/// An image file with a file system in it, and the mount.
fn image_of(kind: &str, make: &[&str], options: &str) -> Option<(tempfile::NamedTempFile, Mount)> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(16 << 20).unwrap();
    let path = file.path().to_str().unwrap();
    let (program, arguments) = make.split_first().unwrap();
    let words: Vec<_> = arguments.iter().copied().chain([path]).collect();
    if !can(program, &words) {
        return None;
    }
    let options = format!("loop,{options}");
    let mount = Mount::new(&["-t", kind, "-o", &options, path])?;
    Some((file, mount))
}

#[test]
fn fat_has_neither_links_nor_modes_and_works() {
    let made = image_of("vfat", &["mkfs.vfat"], "umask=077");
    let Some((_file, mount)) = made else {
        return;
    };
    exercise(mount.path()).unwrap();
    exercise_again(mount.path());
    let receipt = forget(&mount.path().join("snap"), SHARD, None).unwrap();
    assert!(receipt.is_complete(), "{receipt:?}");
}

#[test]
fn nothing_of_a_forgotten_memory_is_in_any_file_of_a_disk_with_a_foreign_folder() {
    let made = image_of("ext4", &["mkfs.ext4", "-q", "-F"], "discard");
    let Some((_file, mount)) = made else {
        return;
    };
    fs::set_permissions(
        mount.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    // The root of the disk, with its lost+found, is the folder of the memory.
    let (mut store, _) = MemoryStore::open(mount.path(), SHARD, config(SaveMode::Journal)).unwrap();
    for chunk in 1..5 {
        store.save(&image(chunk)).unwrap();
    }
    drop(store);
    fs::copy(
        mount.path().join("g-00000000000000000001.titanmem"),
        mount.path().join("lost+found").join("#77"),
    )
    .unwrap();
    let receipt = forget(mount.path(), SHARD, None).unwrap();
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_eq!(receipt.removed(&Place::Copies), 1);
    assert!(!holds(mount.path(), PLANTED.as_bytes()));
    assert!(Inventory::of(mount.path()).unwrap().items.is_empty());
}

/// Whether any file below a folder holds these bytes.
fn holds(dir: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => holds(&path, bytes),
            false => fs::read(&path)
                .unwrap()
                .windows(bytes.len())
                .any(|part| part == bytes),
        }
    })
}

#[test]
fn a_full_disk_is_saved_to_again_and_forgets() {
    let Some(mount) = Mount::tmpfs("size=256k") else {
        return;
    };
    let dir = mount.path().join("shard");
    let (mut store, _) = MemoryStore::open(&dir, SHARD, config(SaveMode::Journal)).unwrap();
    store.save(&image(1)).unwrap();
    let ballast = mount.path().join("ballast");
    fill(&ballast);
    let error = (2..99)
        .find_map(|chunk| store.save(&image(chunk)).err())
        .unwrap();
    assert_eq!(
        (error.class(), error.may_heal()),
        (ErrorClass::Place, true),
        "{error}"
    );
    fs::remove_file(&ballast).unwrap();
    let last = store.save(&image(200)).unwrap();
    fill(&ballast);
    drop(store);
    let (store, recovery) = MemoryStore::open(&dir, SHARD, config(SaveMode::Journal)).unwrap();
    assert_eq!(recovery.generation, Some(last.generation));
    assert_eq!(recovery.image, Some(image(200)));
    drop(store);
    let receipt = forget(&dir, SHARD, None).unwrap();
    assert!(receipt.is_complete(), "{receipt:?}");
    assert!(!holds(&dir, PLANTED.as_bytes()));
    let error = MemoryStore::open(&dir, SHARD, StoreConfig::default()).unwrap_err();
    assert!(matches!(error, StoreError::Forgotten { .. }), "{error}");
}

/// Takes all room that there is.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    while std::io::Write::write(&mut file, &[7; 4096]).is_ok() {}
}

#[test]
fn no_room_for_a_name_keeps_nothing_either() {
    let Some(mount) = Mount::tmpfs("nr_inodes=24") else {
        return;
    };
    let dir = mount.path().join("shard");
    let (mut store, _) = MemoryStore::open(&dir, SHARD, config(SaveMode::Snapshot)).unwrap();
    for chunk in 1..4 {
        store.save(&image(chunk)).unwrap();
    }
    for n in 0.. {
        if fs::write(mount.path().join(format!("ballast{n}")), b"").is_err() {
            break;
        }
    }
    let error = store.save(&image(4)).unwrap_err();
    assert!(error.may_heal(), "{error}");
    drop(store);
    let receipt = forget(&dir, SHARD, None).unwrap();
    assert!(receipt.is_complete(), "{receipt:?}");
    assert!(!holds(&dir, PLANTED.as_bytes()) && dir.join("FORGOTTEN").exists());
    assert!(!dir.join("FORGETTING").exists());
}

#[test]
fn a_disk_that_became_read_only_is_told_and_finished_later() {
    let Some(mount) = Mount::tmpfs("size=1m") else {
        return;
    };
    let dir = mount.path().join("shard");
    let (mut store, _) = MemoryStore::open(&dir, SHARD, config(SaveMode::Snapshot)).unwrap();
    store.save(&image(1)).unwrap();
    drop(store);
    mount.remount("ro");
    // It can be read, and a save says why it fails.
    let (mut store, recovery) = MemoryStore::open(&dir, SHARD, config(SaveMode::Snapshot)).unwrap();
    assert_eq!(recovery.image, Some(image(1)));
    let error = store.save(&image(2)).unwrap_err();
    assert!(error.may_heal(), "{error}");
    mount.remount("rw");
    store.save(&image(2)).unwrap();
    drop(store);
    mount.remount("ro");
    let receipt = forget(&dir, SHARD, None).unwrap();
    assert!(!receipt.is_complete() && receipt.bytes() == 0);
    assert!(
        receipt.left().any(|left| left.reason.contains("Read-only")),
        "{receipt:?}"
    );
    mount.remount("rw");
    assert!(forget(&dir, SHARD, None).unwrap().is_complete());
    assert!(!holds(&dir, PLANTED.as_bytes()));
}
