//! The folder of a runtime when something about it is wrong or unusual: a lost key, a relative
//! path, rights of a group, names that are not flushed, foreign folders, and what forgetting
//! must find whatever is missing.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use common::{CHUNK, Stream, config, only_memory, open};
use titans_runtime::{
    BackupConfig, FolderMode, OpenError, Place, Runtime, RuntimeConfig, UserMemory,
};

const DIR: &str = "TITANMEM_TEST_DIR";

fn learn(memory: &UserMemory, seed: u64) {
    let stream = Stream::new(CHUNK, seed);
    stream.observe(memory, 0..CHUNK).unwrap().wait().unwrap();
}

/// A folder with the memory of one user, closed.
fn one_user(root: &Path) {
    let runtime = open(root);
    learn(&runtime.user("alice").unwrap(), 1);
}

fn refused(root: &Path, config: RuntimeConfig) -> OpenError {
    Runtime::open(root, config).expect_err("opening is refused")
}

#[test]
fn a_lost_key_is_told_and_no_new_one_is_made() {
    let root = tempfile::tempdir().unwrap();
    one_user(root.path());
    let key = root.path().join("root.key");
    let copy = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let error = refused(root.path(), config());
    assert!(matches!(error, OpenError::RootKeyLost { .. }), "{error}");
    let told = error.to_string();
    for part in [
        "root.key is missing",
        "users",
        "from a copy",
        "empty folder",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert!(!key.exists());
    fs::write(&key, copy).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let runtime = open(root.path());
    assert_eq!(
        runtime.user("alice").unwrap().progress().durable,
        CHUNK as u64
    );
}

#[test]
fn a_key_that_is_none_is_told_and_stays() {
    let root = tempfile::tempdir().unwrap();
    one_user(root.path());
    let key = root.path().join("root.key");
    let copy = fs::read(&key).unwrap();
    for garbage in [&b""[..], &[1; 31], &[1; 33]] {
        fs::write(&key, garbage).unwrap();
        let error = refused(root.path(), config());
        assert!(matches!(error, OpenError::RootKey { .. }), "{error}");
        assert_eq!(fs::read(&key).unwrap(), garbage);
    }
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    let error = refused(root.path(), config());
    assert!(matches!(error, OpenError::RootKey { .. }), "{error}");
    fs::remove_dir(&key).unwrap();
    fs::write(&key, copy).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = refused(root.path(), config());
    assert!(
        matches!(error, OpenError::RootKeyExposed { mode: 0o644, .. }),
        "{error}"
    );
}

#[test]
fn a_root_without_users_gets_a_key() {
    let root = tempfile::tempdir().unwrap();
    drop(open(root.path()));
    let key = fs::read(root.path().join("root.key")).unwrap();
    // A crash before the key had its name.
    fs::remove_file(root.path().join("root.key")).unwrap();
    fs::write(root.path().join(".tmp-root.key"), b"half").unwrap();
    fs::create_dir_all(root.path().join("users").join("lost+found")).unwrap();
    drop(open(root.path()));
    assert_ne!(fs::read(root.path().join("root.key")).unwrap(), key);
    // And with a key and no users, the key stays.
    fs::remove_dir_all(root.path().join("users")).unwrap();
    let key = fs::read(root.path().join("root.key")).unwrap();
    one_user(root.path());
    assert_eq!(fs::read(root.path().join("root.key")).unwrap(), key);
}

fn backed_up(dir: impl Into<PathBuf>) -> RuntimeConfig {
    config().with_backups(BackupConfig::new(dir).with_pause(Duration::ZERO))
}

/// A moment at which every memory without a backup is due.
fn noon(day: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * (20_000 + day) + 43_200)
}

/// Goes to another folder, which belongs to the whole process, so it has one of its own.
#[test]
#[ignore = "run by the other tests, as a child"]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let (here, there) = (Path::new(&dir).join("here"), Path::new(&dir).join("there"));
    fs::create_dir_all(&here).unwrap();
    fs::create_dir_all(&there).unwrap();
    std::env::set_current_dir(&here).unwrap();
    let runtime = Runtime::open("new/deep/root", backed_up("backups")).unwrap();
    learn(&runtime.user("old").unwrap(), 1);
    std::env::set_current_dir(&there).unwrap();
    learn(&runtime.user("new").unwrap(), 2);
    assert_eq!(runtime.tick(noon(0)).unwrap().backed_up.len(), 2);
    assert_eq!(fs::read_dir(&there).unwrap().count(), 0);
    let receipt = runtime.forget_user("old").unwrap().unwrap();
    assert!(receipt.is_complete() && receipt.removed(&Place::Generations) > 0);
    assert_eq!(receipt.backups.len(), 1);
    println!("went well");
}

fn run_child(dir: &Path, before: &[&str]) -> String {
    let exe = std::env::current_exe().unwrap();
    let mut words: Vec<_> = before.iter().map(Into::into).collect();
    words.push(exe.into_os_string());
    let output = Command::new(&words[0])
        .args(&words[1..])
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_relative_path_means_the_same_wherever_the_program_goes() {
    let root = tempfile::tempdir().unwrap();
    let told = run_child(root.path(), &[]);
    assert!(told.contains("went well"), "{told}");
}

#[test]
#[cfg(target_os = "linux")]
fn the_parent_of_each_new_folder_is_flushed() {
    let traced = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .status();
    if !traced.is_ok_and(|status| status.success()) {
        println!("SKIPPED: strace is missing or may not trace");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let log = root.path().join("log");
    let words = [
        "strace",
        "-f",
        "-y",
        "-qq",
        "-e",
        "trace=mkdir,mkdirat,fsync",
        "-o",
        log.to_str().unwrap(),
    ];
    let told = run_child(root.path(), &words);
    assert!(told.contains("went well"), "{told}");
    let lines: Vec<String> = fs::read_to_string(&log)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    let mut made = 0;
    for (at, line) in lines.iter().enumerate() {
        let quoted = line.split('"').nth(1).unwrap_or_default();
        let is_ours = quoted.contains("/here/") && !quoted.ends_with("/here");
        if !line.contains("mkdir") || !line.ends_with("= 0") || !is_ours {
            continue;
        }
        made += 1;
        let parent = Path::new(quoted).parent().unwrap().display().to_string();
        let of_parent = format!("<{parent}>");
        let is_flush = |line: &String| {
            line.contains("fsync(") && line.contains(&of_parent) && !line.contains("= -1")
        };
        let flushed = lines[at..].iter().position(is_flush);
        // Before anything is made in the new folder.
        let used = lines[at + 1..]
            .iter()
            .position(|line| line.contains(&format!("\"{quoted}/")));
        assert!(flushed.is_some(), "{parent} is not flushed after {line}");
        assert!(used.is_none_or(|used| flushed <= Some(used + 1)), "{line}");
    }
    // Three down to the root, users, the folder of backups and its users, and for two memories
    // three each in both; two of them may share the first two.
    assert!(made >= 3 + 1 + 2 + 2 * 4, "{made} in {lines:#?}");
}

/// What Kubernetes does for `fsGroup`: `chmod -R g+rwX`, and `g+s` for folders.
fn give_to_group(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => give_to_group(&path),
            false => add_bits(&path, 0o060),
        }
    }
    add_bits(dir, 0o2070);
}

fn add_bits(path: &Path, bits: u32) {
    let mode = fs::metadata(path).unwrap().permissions().mode();
    fs::set_permissions(path, fs::Permissions::from_mode(mode | bits)).unwrap();
}

/// Checks that the group has the same rights everywhere.
fn check_group(dir: &Path) {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(dir), 0o2770, "{dir:?}");
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => check_group(&path),
            false => assert_eq!(mode(&path), 0o660, "{path:?} {:o}", mode(&path)),
        }
    }
}

#[test]
fn a_volume_of_a_group_is_accepted_where_that_is_asked_for() {
    let place = tempfile::tempdir().unwrap();
    let (root, backups) = (place.path().join("root"), place.path().join("backups"));
    one_user(&root);
    fs::create_dir(&backups).unwrap();
    for dir in [place.path(), &backups] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    }
    give_to_group(place.path());
    let error = refused(&root, config());
    assert!(
        matches!(error, OpenError::OpenToOthers { mode: 0o2770, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("FolderMode::Group"), "{error}");

    let mut shared = backed_up(&backups);
    shared.store.folders = FolderMode::Group;
    let runtime = Runtime::open(&root, shared.clone()).unwrap();
    for user in ["alice", "bob"] {
        learn(&runtime.user(user).unwrap(), 2);
    }
    assert_eq!(runtime.tick(noon(0)).unwrap().backed_up.len(), 2);
    drop(runtime);
    check_group(place.path());

    // A new root in the same place, with a key of its own.
    let fresh = place.path().join("fresh").join("root");
    let runtime = Runtime::open(&fresh, shared).unwrap();
    learn(&runtime.user("carol").unwrap(), 3);
    drop(runtime);
    check_group(place.path());
}

#[test]
fn a_folder_that_somebody_removed_does_not_hide_its_backups() {
    let place = tempfile::tempdir().unwrap();
    let (root, backups) = (place.path().join("root"), place.path().join("backups"));
    let runtime = Runtime::open(&root, backed_up(&backups)).unwrap();
    learn(&runtime.user("alice").unwrap(), 1);
    assert_eq!(runtime.tick(noon(0)).unwrap().backed_up.len(), 1);
    drop(runtime);
    fs::remove_dir_all(only_memory(&root)).unwrap();

    let runtime = Runtime::open(&root, backed_up(&backups)).unwrap();
    let receipt = runtime.forget_user("alice").unwrap().expect("a receipt");
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_eq!(receipt.removed(&Place::BackupFolder), 1, "{receipt:?}");
    assert!(tars(&backups).is_empty());
    assert!(runtime.user("alice").is_err(), "forgotten for good");
    assert!(runtime.forget_user("nobody").unwrap().is_none());
}

fn tars(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(tars(&path)),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn a_crash_between_memory_and_backups_is_made_good_at_the_next_tick() {
    let place = tempfile::tempdir().unwrap();
    let (root, backups) = (place.path().join("root"), place.path().join("backups"));
    let runtime = Runtime::open(&root, backed_up(&backups)).unwrap();
    let memory = runtime.user("alice").unwrap();
    learn(&memory, 1);
    let shard = memory.shard();
    drop(memory);
    assert_eq!(runtime.tick(noon(0)).unwrap().backed_up.len(), 1);
    drop(runtime);
    let dir = only_memory(&root);
    let stray = tars(&backups)[0].with_file_name("stray.tar");
    fs::write(&stray, b"not noted when the process was killed").unwrap();
    titans_store::forget(&dir, shard, None).unwrap();
    assert_eq!(tars(&backups), [stray]);
    let runtime = Runtime::open(&root, backed_up(&backups)).unwrap();
    assert!(runtime.tick(noon(1)).unwrap().backed_up.is_empty());
    assert!(tars(&backups).is_empty());
}

#[test]
fn foreign_folders_are_passed_over() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    one_user(root);
    let memory = only_memory(root);
    let users = root.join("users");
    for dir in [root, &users, memory.parent().unwrap(), &memory] {
        fs::create_dir(dir.join("lost+found")).unwrap();
        fs::write(dir.join("lost+found").join("#12"), b"found by fsck").unwrap();
    }
    let runtime = Runtime::open(root, backed_up(root.join("backups"))).unwrap();
    assert_eq!(runtime.tick(noon(0)).unwrap().backed_up.len(), 1);
    let receipt = runtime.forget_user("alice").unwrap().unwrap();
    let left: Vec<_> = receipt.left().map(|left| left.path.clone()).collect();
    assert_eq!(left, [memory.join("lost+found").join("#12")]);
}
