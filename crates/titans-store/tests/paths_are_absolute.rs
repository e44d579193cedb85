//! A path that was given before the program went to another folder still means the same. Alone
//! in its file: the current folder belongs to the whole process.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::{SHARD, image_at};
use titans_store::{
    BackupRequest, BackupSchedule, Limits, MemoryReader, MemoryStore, StoreConfig, create_backup,
    forget, verify_backup,
};

#[test]
fn a_relative_path_is_resolved_once() {
    let root = tempfile::tempdir().unwrap();
    let (here, there) = (root.path().join("here"), root.path().join("there"));
    std::fs::create_dir(&here).unwrap();
    std::fs::create_dir(&there).unwrap();
    std::env::set_current_dir(&here).unwrap();
    let dir = Path::new("new/deep/shard");
    let (mut store, _) = MemoryStore::open(dir, SHARD, StoreConfig::default()).unwrap();
    let mut reader = MemoryReader::new(dir, SHARD, Limits::default());
    store.save(&image_at(1)).unwrap();
    let backup = create_backup(dir, SHARD, Path::new("b.tar"), &BackupRequest::default()).unwrap();
    let verified = verify_backup(Path::new("b.tar"), &Limits::default(), None).unwrap();

    std::env::set_current_dir(&there).unwrap();
    let saved = store.save(&image_at(2)).unwrap();
    assert!(saved.path.is_file() && saved.path.is_absolute());
    assert_eq!(reader.newest().unwrap().unwrap().0, image_at(2));
    assert!(backup.path.is_file() && verified.path == backup.path);
    let known = BackupSchedule::load(store.path()).unwrap().backups;
    assert_eq!(known, std::slice::from_ref(&backup.path));
    let dir: PathBuf = store.path().to_owned();
    drop(store);
    assert!(forget(&dir, SHARD, None).unwrap().is_complete());
    assert!(!backup.path.exists());
    assert_eq!(std::fs::read_dir(&there).unwrap().count(), 0);

    let error = MemoryStore::open(Path::new(""), SHARD, StoreConfig::default()).unwrap_err();
    assert!(error.to_string().contains("cannot open"), "{error}");
}
