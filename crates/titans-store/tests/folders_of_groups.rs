//! Folders that a group may write: refused by default, accepted and passed on where that is
//! asked for.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use common::{SHARD, image_at};
use titans_store::{
    BackupRequest, BackupSchedule, FolderMode, Limits, MemoryStore, RestoreRequest, StoreConfig,
    StoreError, create_backup, forget, restore_backup,
};

const GROUP: StoreConfig = config(FolderMode::Group);
const OWNER: StoreConfig = config(FolderMode::OwnerOnly);

const fn config(folders: FolderMode) -> StoreConfig {
    StoreConfig::standard()
        .with_mode(titans_store::SaveMode::Journal)
        .with_folders(folders)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Everything below a folder.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found
}

/// What Kubernetes does for `fsGroup`: `chmod -R g+rwX`, and `g+s` for folders.
fn give_to_group(dir: &Path) {
    for path in below(dir).into_iter().chain([dir.to_owned()]) {
        let bits = mode(&path);
        match path.is_dir() {
            true => set(&path, bits | 0o2070),
            false => set(&path, bits | 0o060),
        }
    }
}

fn save(dir: &Path, config: StoreConfig) {
    let (mut store, recovery) = MemoryStore::open(dir, SHARD, config).unwrap();
    let start = recovery.image.map_or(0, |image| image.last_chunk_id);
    for chunk in start + 1..=start + 3 {
        store.save(&image_at(chunk)).unwrap();
    }
    let (mut log, _) = store.open_log("ledger").unwrap();
    store.rewrite_log(&mut log, [b"item"]).unwrap();
}

#[test]
fn a_folder_of_a_group_is_refused_unless_that_is_accepted() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("shard");
    save(&dir, OWNER);
    give_to_group(root.path());
    let error = MemoryStore::open(&dir, SHARD, OWNER).unwrap_err();
    assert!(
        matches!(error, StoreError::OpenToOthers { mode: 0o2770, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("FolderMode::Group"), "{error}");
    save(&dir, GROUP);
    set(&dir, 0o2772);
    let error = MemoryStore::open(&dir, SHARD, GROUP).unwrap_err();
    assert!(matches!(error, StoreError::OpenToOthers { .. }), "{error}");
}

#[test]
fn what_is_created_in_a_folder_of_a_group_is_the_groups() {
    let root = tempfile::tempdir().unwrap();
    set(root.path(), 0o2770);
    let dir = root.path().join("users").join("ab").join("shard");
    save(&dir, GROUP);
    // A damaged file makes the quarantine.
    let damaged = dir.join("g-00000000000000000001.titanmem");
    fs::write(&damaged, b"damaged").unwrap();
    save(&dir, GROUP);
    let backups = root.path().join("backups");
    fs::create_dir(&backups).unwrap();
    set(&backups, 0o2770);
    let target = backups.join("a.tar");
    let request = BackupRequest {
        folders: FolderMode::Group,
        ..BackupRequest::default()
    };
    create_backup(&dir, SHARD, &target, &request).unwrap();
    BackupSchedule::record(&dir, &target, SystemTime::now()).unwrap();
    let restored = root.path().join("restored");
    let request = RestoreRequest {
        shard: SHARD,
        model_to: None,
        config_to: None,
        key: None,
        limits: Limits::default(),
        folders: FolderMode::Group,
    };
    restore_backup(&target, &restored, &request).unwrap();
    let all = below(root.path());
    assert!(
        all.iter().any(|path| path.ends_with("quarantine")),
        "{all:?}"
    );
    for path in all {
        let expected = if path.is_dir() { 0o2770 } else { 0o660 };
        assert_eq!(mode(&path), expected, "{path:?} {:o}", mode(&path));
    }
    // Forgetting asks nobody for rights that it does not need.
    assert!(forget(&dir, SHARD, None).unwrap().is_complete());
}

#[test]
fn the_default_gives_nothing_to_a_group() {
    let root = tempfile::tempdir().unwrap();
    set(root.path(), 0o2775);
    let dir = root.path().join("users").join("shard");
    save(&dir, OWNER);
    let target = root.path().join("a.tar");
    create_backup(&dir, SHARD, &target, &BackupRequest::default()).unwrap();
    for path in below(root.path()) {
        assert_eq!(mode(&path) & 0o077, 0, "{path:?} {:o}", mode(&path));
    }
}
