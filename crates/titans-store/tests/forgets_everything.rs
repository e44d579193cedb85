//! Forgetting leaves nothing of a memory, says what it removed, and cannot be undone by
//! accident.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::time::SystemTime;

use common::{SHARD, image_at, small_image};
use titans_store::{
    BackupSchedule, Erasure, MemoryStore, Place, SaveMode, StoreConfig, StoreError, forget,
};

#[test]
fn generations_pins_journals_quarantine_temporaries_and_backups_go() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("shard");
    let config = StoreConfig::default().with_mode(SaveMode::Journal);
    let (mut store, _) = MemoryStore::open(&dir, SHARD, config).unwrap();
    let first = store.save(&small_image()).unwrap();
    store.save(&image_at(2)).unwrap();
    let mut next = image_at(3);
    store.save(&next).unwrap();
    next.last_chunk_id = 4;
    store.save(&next).unwrap();
    store.pin_last_known_good(first.generation).unwrap();
    let error = forget(&dir, SHARD, None).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    drop(store);

    fs::create_dir(dir.join("quarantine")).unwrap();
    fs::write(dir.join("quarantine").join("g-damaged"), b"x").unwrap();
    fs::write(dir.join(".tmp-1-2-3"), b"half").unwrap();
    fs::write(dir.join("notes.txt"), b"mine").unwrap();
    let backups = ["here.tar", "gone.tar"].map(|name| root.path().join(name));
    for backup in &backups {
        BackupSchedule::record(&dir, backup, SystemTime::now()).unwrap();
    }
    fs::write(&backups[0], b"a backup").unwrap();

    let receipt = forget(&dir, SHARD, None).unwrap();
    let removed = |place| receipt.removed(&place);
    let counts = (
        removed(Place::Generations) + removed(Place::Pinned),
        removed(Place::Quarantine),
        removed(Place::Temporary),
    );
    assert_eq!(counts, (5, 1, 1), "{receipt:?}");
    assert_eq!(removed(Place::Journals), 2, "{receipt:?}");
    assert!(receipt.bytes() > 1000);
    assert_eq!(receipt.backups, [backups[0].clone()]);
    assert_eq!(receipt.backups_missing, [backups[1].clone()]);
    let left: Vec<_> = receipt.left().map(|left| left.path.clone()).collect();
    assert_eq!(left, [dir.join("notes.txt")]);
    assert_eq!(receipt.erasure, Erasure::Unlinked);
    assert_eq!(receipt.shard, SHARD.to_string());
    let mut names: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["FORGOTTEN", "LOCK", "notes.txt", "quarantine"]);
    assert!(!backups[0].exists());

    let error = MemoryStore::open(&dir, SHARD, config).unwrap_err();
    assert!(matches!(error, StoreError::Forgotten { .. }), "{error}");
    // A second call finishes what a crash may have interrupted, and finds nothing here.
    let again = forget(&dir, SHARD, None).unwrap();
    assert_eq!((again.removed(&Place::Generations), again.bytes()), (0, 0));
}

#[test]
fn a_crash_half_way_leaves_a_folder_that_cannot_be_opened() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("shard");
    let (mut store, _) = MemoryStore::open(&dir, SHARD, StoreConfig::default()).unwrap();
    store.save(&image_at(1)).unwrap();
    drop(store);
    fs::write(dir.join("FORGOTTEN"), b"").unwrap();
    let error = MemoryStore::open(&dir, SHARD, StoreConfig::default()).unwrap_err();
    assert!(matches!(error, StoreError::Forgotten { .. }), "{error}");
    // The refused open has finished what the crash interrupted.
    assert!(!dir.join("g-00000000000000000001.titanmem").exists());
    assert!(forget(&dir, SHARD, None).unwrap().is_complete());
}
