//! Forgetting on a full disk, with steps that fail, and with the power lost after every step:
//! what opens afterwards is the memory as it was or nothing, and a second call leaves no trace.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::ErrorKind;

use common::{SHARD, image_at};
use titans_store::fs::{CrashPoint, Fault, FaultyStorage, Storage};
use titans_store::{
    ForgetReceipt, MemoryImage, MemoryStore, Place, SaveMode, StoreConfig, StoreError, forget_on,
};

/// Stands in every file of the memory.
const PLANTED: &[u8] = b"what the user said";
const NEWEST: u64 = 7;

fn config() -> StoreConfig {
    StoreConfig::default().with_mode(SaveMode::Journal)
}

fn image(chunk: u64) -> MemoryImage {
    let mut image = image_at(chunk);
    let said = String::from_utf8(PLANTED.to_vec()).unwrap();
    image.extra.insert("note".to_owned(), said);
    image
}

fn open(storage: &FaultyStorage) -> Result<Option<MemoryImage>, StoreError> {
    let opened = MemoryStore::open_on(Box::new(storage.clone()), SHARD, config());
    opened.map(|(_, recovery)| recovery.image)
}

fn forget(storage: &FaultyStorage) -> ForgetReceipt {
    forget_on(Box::new(storage.clone()), SHARD).unwrap()
}

fn put(storage: &FaultyStorage, name: &str, bytes: &[u8]) {
    let mut file = storage.create(name, 0).unwrap();
    file.write(bytes).unwrap();
    file.sync().unwrap();
}

/// A folder with something in every place, all of it durable.
fn full_folder() -> FaultyStorage {
    let storage = FaultyStorage::default();
    let opened = MemoryStore::open_on(Box::new(storage.clone()), SHARD, config());
    let (mut store, _) = opened.unwrap();
    for chunk in 1..=NEWEST {
        let saved = store.save(&image(chunk)).unwrap();
        if chunk == 2 {
            store.pin_last_known_good(saved.generation).unwrap();
        }
    }
    for name in ["ledger", "probes", "replayone", "replaytwo"] {
        let (mut log, _) = store.open_log(name).unwrap();
        store.rewrite_log(&mut log, [PLANTED]).unwrap();
    }
    drop(store);
    let mut files = storage.files().into_iter();
    let (_, copy) = files.rfind(|(name, _)| name.starts_with("g-")).unwrap();
    put(&storage, "old.bak", &copy);
    put(&storage, "lost+found/#12", &copy);
    put(&storage, "copy/g-00000000000000000001.titanmem", &copy);
    put(
        &storage,
        "quarantine/g-00000000000000000003.titanmem",
        PLANTED,
    );
    put(&storage, ".tmp-1-2-3", PLANTED);
    put(&storage, "backups.msgpack", b"\x80");
    storage.sync_folder().unwrap();
    let full = FaultyStorage::with_files(storage.files());
    let (all, holding) = (full.files(), traces(&full));
    let others = ["LOCK", "backups.msgpack"];
    let silent = |name: &&String| !holding.contains(name) && !others.contains(&name.as_str());
    let silent: Vec<_> = all.keys().filter(silent).collect();
    assert!(silent.is_empty(), "the text is not in {silent:?}");
    assert!(holding.len() >= 13, "{holding:?}");
    full
}

fn traces(storage: &FaultyStorage) -> Vec<String> {
    let is_trace = |bytes: &[u8]| bytes.windows(PLANTED.len()).any(|part| part == PLANTED);
    let files = storage.files().into_iter();
    files
        .filter(|(_, bytes)| is_trace(bytes))
        .map(|(name, _)| name)
        .collect()
}

/// Either nothing has happened yet, or the folder is closed for good; then a second call, or
/// only trying to open it, leaves nothing.
fn check(survivor: &FaultyStorage, what: &str) {
    match open(survivor) {
        Ok(found) => {
            let newest = image(NEWEST);
            assert_eq!(found, Some(newest), "{what}: an older memory came back");
        }
        Err(error) => {
            assert!(
                matches!(error, StoreError::Forgotten { .. }),
                "{what}: {error}"
            );
            assert_eq!(traces(survivor), [""; 0], "{what}: opening finishes it");
        }
    }
    let receipt = forget(survivor);
    assert!(receipt.is_complete(), "{what}: {receipt:?}");
    assert_eq!(traces(survivor), [""; 0], "{what}");
    let gone = open(survivor).unwrap_err();
    assert!(matches!(gone, StoreError::Forgotten { .. }), "{what}");
}

fn generator() -> impl FnMut() -> u64 {
    let mut word = 1_u64;
    move || {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        word >> 7
    }
}

/// The moments since the folder was full, of which there were `before` moments.
fn moments(storage: &FaultyStorage, before: usize) -> Vec<CrashPoint> {
    storage.crash_points().split_off(before - 1)
}

fn check_all(storage: &FaultyStorage, before: usize, what: &str) -> usize {
    let mut random = generator();
    let mut states = 0;
    for (step, point) in moments(storage, before).iter().enumerate() {
        for names in 0..=point.unflushed_names() {
            check(
                &point.cut(0, names),
                &format!("{what}, step {step}, {names} names"),
            );
            states += 1;
        }
        for n in 0..4 {
            check(
                &point.scatter(&mut random),
                &format!("{what}, step {step}, scatter {n}"),
            );
            states += 1;
        }
    }
    states
}

/// The same files in a folder of their own.
fn fresh(folder: &FaultyStorage) -> FaultyStorage {
    FaultyStorage::with_files(folder.files())
}

#[test]
fn the_receipt_names_every_place_and_nothing_is_left() {
    let storage = full_folder();
    let receipt = forget(&storage);
    assert!(receipt.is_complete() && receipt.found_something());
    for (place, least) in [
        (Place::Generations, 1),
        (Place::Pinned, 1),
        (Place::Journals, 1),
        (Place::Log("ledger".to_owned()), 1),
        (Place::Log("probes".to_owned()), 1),
        (Place::Log("replayone".to_owned()), 1),
        (Place::Log("replaytwo".to_owned()), 1),
        (Place::Quarantine, 1),
        (Place::Temporary, 1),
        (Place::Copies, 3),
        (Place::Schedule, 1),
    ] {
        assert!(receipt.removed(&place) >= least, "{place}: {receipt:?}");
    }
    assert_eq!(storage.files().len(), 1, "{:?}", storage.files().keys());
}

#[test]
fn no_crash_brings_an_older_memory_back() {
    let folder = full_folder();
    let storage = fresh(&folder);
    let before = storage.crash_points().len();
    forget(&storage);
    let states = check_all(&storage, before, "room");
    println!("{states} crash states");
    assert!(states > 200, "{states}");
}

#[test]
fn a_full_disk_does_not_keep_anything() {
    let folder = full_folder();
    for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
        let storage = fresh(&folder);
        let before = storage.crash_points().len();
        storage.refuse(&["create", "write"], kind);
        let receipt = forget(&storage);
        assert_eq!(traces(&storage), [""; 0], "{kind:?}");
        // The disk is as full as before, so only the note is missing.
        let left: Vec<_> = receipt.left().collect();
        assert_eq!(left.len(), 1, "{receipt:?}");
        assert!(left[0].path.ends_with("FORGOTTEN"), "{receipt:?}");
        storage.heal();
        assert!(forget(&storage).is_complete());
        check_all_full(&storage, before, kind);
    }
}

/// While nothing can be written, a crash leaves all of the memory or none of it, too.
fn check_all_full(storage: &FaultyStorage, before: usize, kind: ErrorKind) {
    let mut random = generator();
    for (step, point) in moments(storage, before).iter().enumerate() {
        let cuts = (0..=point.unflushed_names()).map(|names| point.cut(0, names));
        let mut survivors: Vec<_> = cuts.collect();
        survivors.extend((0..4).map(|_| point.scatter(&mut random)));
        for (n, survivor) in survivors.iter().enumerate() {
            let what = format!("{kind:?}, step {step}, survivor {n}");
            match open(survivor) {
                Ok(Some(found)) => assert_eq!(found, image(NEWEST), "{what}"),
                // The empty folder without its note, for which there was no room.
                Ok(None) | Err(StoreError::Forgotten { .. }) => {
                    assert_eq!(traces(survivor), [""; 0], "{what}");
                }
                Err(error) => panic!("{what}: {error}"),
            }
            assert!(forget(survivor).is_complete(), "{what}");
            assert_eq!(traces(survivor), [""; 0], "{what}");
        }
    }
}

#[test]
fn a_step_that_fails_is_told_and_the_others_go_on() {
    let folder = full_folder();
    let mut told = 0;
    for kind in [
        ErrorKind::Other,
        ErrorKind::StorageFull,
        ErrorKind::ReadOnlyFilesystem,
    ] {
        for at in 0.. {
            let storage = fresh(&folder);
            let before = storage.steps().len();
            storage.fail_at(at, Fault::Error(kind));
            let receipt = forget(&storage);
            if storage.steps().len() - before <= at {
                break;
            }
            let step = storage.steps()[before + at];
            let what = format!("{kind:?} at {at} ({step})");
            assert!(
                traces(&storage).len() <= 1,
                "{what}: {:?}",
                traces(&storage)
            );
            if !traces(&storage).is_empty() {
                assert!(!receipt.is_complete(), "{what}: nothing is told");
            }
            told += usize::from(!receipt.is_complete());
            assert!(forget(&storage).is_complete(), "{what}");
            assert_eq!(traces(&storage), [""; 0], "{what}");
            assert!(open(&storage).is_err(), "{what}");
        }
    }
    assert!(told > 30, "{told}");
}

#[test]
fn a_place_that_is_read_only_is_reported_file_by_file() {
    let storage = full_folder();
    storage.refuse(
        &["create", "rename", "remove", "sync folder"],
        ErrorKind::ReadOnlyFilesystem,
    );
    let receipt = forget(&storage);
    let found: usize = receipt.places.iter().map(|place| place.found).sum();
    assert!(found > 10 && receipt.bytes() == 0);
    assert!(receipt.left().count() >= found, "{receipt:?}");
    storage.heal();
    assert_eq!(open(&storage).unwrap(), Some(image(NEWEST)));
    assert!(forget(&storage).is_complete());
}
