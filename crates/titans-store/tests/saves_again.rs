//! After a save that failed, at whichever step and for whatever reason, the same open store
//! saves again once the place has recovered, and what opens then is what was saved last.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::ErrorKind;

use common::{SHARD, image_at};
use titans_store::fs::FaultyStorage;
use titans_store::{
    MemoryImage, MemoryStore, RecordLog, SaveMode, SavedForm, StoreConfig, StoreError,
};

/// Every step that writes.
const WRITING: [&str; 5] = ["create", "write", "sync", "sync data", "rename"];
/// A place that takes nothing at all, not even a removal.
const EVERYTHING: [&str; 8] = [
    "create",
    "write",
    "sync",
    "sync data",
    "rename",
    "remove",
    "sync folder",
    "link",
];

fn open(storage: &FaultyStorage, mode: SaveMode) -> (MemoryStore, Option<MemoryImage>) {
    let config = StoreConfig::default().with_mode(mode);
    let opened = MemoryStore::open_on(Box::new(storage.clone()), SHARD, config);
    let (store, recovery) = opened.unwrap();
    assert!(recovery.skipped.is_empty(), "{:?}", recovery.skipped);
    (store, recovery.image)
}

/// A store in the middle of its work, with `saves` saves behind it.
fn working(mode: SaveMode, saves: u64) -> (FaultyStorage, MemoryStore) {
    let storage = FaultyStorage::default();
    let (mut store, _) = open(&storage, mode);
    for chunk in 1..=saves {
        store.save(&image_at(chunk)).unwrap();
    }
    (storage, store)
}

/// Lets everything fail from the `at`-th step of a save on; `None` when the save has fewer.
fn fail_from(
    mode: SaveMode,
    saves: u64,
    (steps, kind): (&[&'static str], ErrorKind),
    at: usize,
) -> Option<(FaultyStorage, MemoryStore, Result<(), StoreError>)> {
    let (storage, mut store) = working(mode, saves);
    let before = storage.steps().len();
    storage.refuse_from(at, steps, kind);
    let saved = store.save(&image_at(saves + 1)).map(drop);
    (storage.steps().len() - before > at).then_some((storage, store, saved))
}

#[test]
fn a_save_that_failed_at_any_step_is_made_good_by_the_next() {
    let mut failed = 0;
    for mode in [SaveMode::Snapshot, SaveMode::Journal] {
        for (steps, kind) in [
            (&WRITING[..], ErrorKind::StorageFull),
            (&WRITING[..], ErrorKind::QuotaExceeded),
            (&EVERYTHING[..], ErrorKind::ReadOnlyFilesystem),
            (&EVERYTHING[..], ErrorKind::StorageFull),
            (&EVERYTHING[..], ErrorKind::Other),
        ] {
            for saves in [0, 1, 2, 5] {
                for at in 0.. {
                    let failure = fail_from(mode, saves, (steps, kind), at);
                    let Some((storage, mut store, saved)) = failure else {
                        break;
                    };
                    let what = format!("{mode:?} after {saves} saves, {kind:?} from {at}");
                    if let Err(error) = saved {
                        assert!(error.may_heal(), "{what}: {error:?}");
                        failed += 1;
                    }
                    // It fails again as long as nothing has changed.
                    let _ = store.save(&image_at(saves + 2));
                    storage.heal();
                    let again = store.save(&image_at(saves + 3));
                    let again = again.unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_ne!(again.form, SavedForm::RecordAndBase, "{what}");
                    let more = store.save(&image_at(saves + 4)).unwrap();
                    drop(store);
                    let last = storage.crash_points();
                    for survivor in [last.last().unwrap().cut(0, 0), storage] {
                        let (store, found) = open(&survivor, mode);
                        assert_eq!(found, Some(image_at(saves + 4)), "{what}");
                        let before = store.load(again.generation).unwrap();
                        assert_eq!(before, image_at(saves + 3), "{what}");
                        assert!(more.generation > again.generation, "{what}");
                    }
                }
            }
        }
    }
    println!("{failed} failed saves");
    assert!(failed > 100, "{failed}");
}

#[test]
fn a_log_that_could_not_be_written_is_written_again() {
    let mut failed = 0;
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        for (appends, at) in [(0, 0..6), (1, 0..2)].into_iter().flat_map(|(n, at)| {
            let pair = move |at| (n, at);
            at.map(pair)
        }) {
            let (storage, store) = working(SaveMode::Snapshot, 1);
            let (mut log, _) = store.open_log("ledger").unwrap();
            store.rewrite_log(&mut log, [b"one"]).unwrap();
            storage.refuse_from(at, &EVERYTHING, kind);
            let write = |log: &mut RecordLog| match appends {
                0 => store.rewrite_log(log, [b"one", b"two"]),
                _ => store.append_to_log(log, [b"two"]),
            };
            failed += usize::from(write(&mut log).is_err());
            storage.heal();
            store.rewrite_log(&mut log, [b"one", b"two"]).unwrap();
            store.append_to_log(&mut log, [b"six"]).unwrap();
            drop((log, store));
            let (store, _) = open(&storage, SaveMode::Snapshot);
            let (_, contents) = store.open_log("ledger").unwrap();
            assert_eq!(contents.records, [b"one", b"two", b"six"], "{kind:?} {at}");
        }
    }
    assert!(failed >= 8, "{failed}");
}

#[test]
fn a_pin_that_failed_is_made_good_by_the_next() {
    for mode in [SaveMode::Snapshot, SaveMode::Journal] {
        for at in 0..8 {
            let (storage, mut store) = working(mode, 3);
            let newest = *store.generations().unwrap().last().unwrap();
            storage.refuse_from(at, &EVERYTHING, ErrorKind::StorageFull);
            let _ = store.pin_last_known_good(newest);
            storage.heal();
            store.pin_last_known_good(newest).unwrap();
            store.save(&image_at(9)).unwrap();
            assert_eq!(store.last_known_good().unwrap(), Some(newest));
            store.roll_back_to_last_known_good().unwrap();
            drop(store);
            let (_, found) = open(&storage, mode);
            assert_eq!(found.unwrap().last_chunk_id, 3, "{mode:?} {at}");
        }
    }
}

#[test]
fn without_hard_links_a_pin_is_a_copy() {
    for kind in [ErrorKind::Unsupported, ErrorKind::PermissionDenied] {
        let (storage, mut store) = working(SaveMode::Snapshot, 2);
        storage.refuse(&["link"], kind);
        let newest = *store.generations().unwrap().last().unwrap();
        store.pin_last_known_good(newest).unwrap();
        store.pin_last_known_good(newest).unwrap();
        for chunk in 3..9 {
            store.save(&image_at(chunk)).unwrap();
        }
        store.roll_back_to_last_known_good().unwrap();
        drop(store);
        assert_eq!(
            open(&storage, SaveMode::Snapshot).1.unwrap().last_chunk_id,
            2
        );
    }
}
