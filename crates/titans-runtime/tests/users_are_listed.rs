//! A folder tells whose memories it holds, and one that is damaged hides no other.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use common::{CHUNK, Stream, config, open};
use titans_runtime::{Runtime, StoredUser};

fn learn(runtime: &Runtime, user: u64) -> PathBuf {
    let stream = Stream::new(CHUNK, user);
    let memory = runtime.user(user).unwrap();
    stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
    let shard = memory.shard();
    let mut users = runtime.users().unwrap().map(Result::unwrap);
    users.find(|user| user.shard == shard).unwrap().path
}

fn users(runtime: &Runtime) -> Vec<StoredUser> {
    runtime.users().unwrap().map(Result::unwrap).collect()
}

#[test]
fn whoever_has_something_is_listed_and_nobody_else() {
    let root = tempfile::tempdir().unwrap();
    let mut config = config();
    config.resident_bytes = 2 * config.bytes_per_user();
    let runtime = Runtime::open(root.path(), config.clone()).unwrap();
    assert!(users(&runtime).is_empty());
    let before = SystemTime::now() - Duration::from_secs(60);
    for user in 0..5 {
        learn(&runtime, user);
    }
    // Opened, and nothing handed over: nothing is kept.
    let guest = runtime.user("guest").unwrap();
    assert!(!runtime.contains("guest").unwrap());
    // Taken, and not saved yet.
    let stream = Stream::new(3, 9);
    stream.observe(&guest, 0..3).unwrap();
    assert!(runtime.contains("guest").unwrap());
    guest.flush().unwrap();

    let listed = users(&runtime);
    assert_eq!(listed.len(), 6);
    assert!(listed.is_sorted_by_key(|user| user.shard));
    let open = listed.iter().filter(|user| user.is_open).count();
    assert_eq!(open, runtime.resident_users());
    assert!(open <= 2 && listed.iter().any(|user| user.shard == guest.shard()));
    for user in &listed {
        assert!(user.bytes > 0 && user.damage.is_empty(), "{user:?}");
        assert!(user.last_saved.unwrap() > before, "{user:?}");
        user.verify().unwrap();
    }
    for user in 0..5 {
        assert!(runtime.contains(user).unwrap());
    }
    assert!(!runtime.contains("0").unwrap() && !runtime.contains(5).unwrap());
    assert!(runtime.contains("").is_err());

    runtime.forget_user(0).unwrap().unwrap();
    assert!(!runtime.contains(0).unwrap());
    assert_eq!(users(&runtime).len(), 5);
    drop((guest, runtime));

    // Another process sees the same, and has opened nobody.
    let runtime = Runtime::open(root.path(), config).unwrap();
    let listed = users(&runtime);
    assert_eq!(listed.len(), 5);
    assert!(listed.iter().all(|user| !user.is_open));
}

#[test]
fn a_damaged_folder_is_told_and_the_others_are_listed() {
    let root = tempfile::tempdir().unwrap();
    let runtime = open(root.path());
    let [lost, cut, stray] = [0, 1, 2].map(|user| learn(&runtime, user));
    (3..6).for_each(|user| drop(learn(&runtime, user)));
    drop(runtime);
    // A repair of the file system leaves a file in place of a folder.
    fs::remove_dir_all(&lost).unwrap();
    fs::write(&lost, "no folder").unwrap();
    let generation = cut.join("g-00000000000000000001.titanmem");
    let bytes = fs::read(&generation).unwrap();
    fs::write(&generation, &bytes[..bytes.len() / 2]).unwrap();
    // What is not of a runtime is passed over.
    fs::write(root.path().join("users/lost+found"), "").unwrap();
    fs::create_dir(stray.parent().unwrap().join("not a user")).unwrap();

    let runtime = open(root.path());
    let listed = users(&runtime);
    assert_eq!(listed.len(), 6);
    let of = |path: &PathBuf| {
        let user = listed.iter().find(|user| user.path == *path);
        user.unwrap()
    };
    assert!(of(&lost).damage[0].contains("open"), "{:?}", of(&lost));
    assert!(runtime.contains(0).unwrap(), "something is there");
    // Names tell nothing about what is in a file.
    assert!(of(&cut).damage.is_empty());
    of(&cut).verify().unwrap_err();
    let whole = listed.iter().filter(|user| user.verify().is_ok());
    assert_eq!(whole.count(), 4);

    // Opening has found it out.
    assert_eq!(runtime.user(1).unwrap().skipped().len(), 1);
    let user = users(&runtime).into_iter().find(|user| user.path == cut);
    let damage = user.unwrap().damage;
    assert!(damage[0].contains("set aside"), "{damage:?}");
}
