//! A log beside the generations: what was acknowledged is read back, in order, whatever the
//! disk does, and one log is never taken for another's.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::ErrorKind;

use common::{SHARD, small_image};
use titans_store::fs::{Fault, FaultyStorage, Storage as _};
use titans_store::{
    Limits, LogContents, MemoryStore, RecordLog, ShardId, StoreConfig, StoreError, UserKey, forget,
};

fn open(storage: &FaultyStorage) -> (MemoryStore, RecordLog, LogContents) {
    let config = StoreConfig::default();
    let (store, _) = MemoryStore::open_on(Box::new(storage.clone()), SHARD, config).unwrap();
    let (log, contents) = store.open_log("items").unwrap();
    (store, log, contents)
}

fn record(n: u64) -> Vec<u8> {
    (0..n % 7 * 40).map(|byte| (byte * n) as u8).collect()
}

fn records(numbers: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    numbers.map(record).collect()
}

/// What the log holds after each change: a rewrite, three appends, a rewrite to less, an
/// append.
fn history() -> Vec<Vec<Vec<u8>>> {
    vec![
        Vec::new(),
        records(0..2),
        records(0..5),
        records(0..6),
        records(0..9),
        records(4..9),
        records(4..10),
    ]
}

/// Makes the changes of [`history`] and acknowledges each.
fn life(storage: &FaultyStorage) -> Result<(), StoreError> {
    let (store, mut log, _) = open(storage);
    for (index, states) in history().windows(2).enumerate() {
        let (before, after) = (&states[0], &states[1]);
        match !before.is_empty() && after.starts_with(before) {
            true => store.append_to_log(&mut log, &after[before.len()..])?,
            false => store.rewrite_log(&mut log, after)?,
        }
        storage.acknowledge(index as u64 + 1);
    }
    Ok(())
}

#[test]
fn a_log_reads_back_and_is_rewritten_by_its_next_writer() {
    let storage = FaultyStorage::default();
    let (store, mut log, contents) = open(&storage);
    assert!(contents.records.is_empty() && contents.ends_early.is_none());
    assert!(!log.is_appendable());
    store.rewrite_log(&mut log, records(0..3)).unwrap();
    store.append_to_log(&mut log, records(3..7)).unwrap();
    drop((store, log));

    let (store, mut log, contents) = open(&storage);
    assert!(contents.records == records(0..7));
    assert!(!log.is_appendable(), "another writer's file");
    store.rewrite_log(&mut log, records(2..4)).unwrap();
    let bytes = log.file_bytes();
    let names: Vec<_> = storage
        .list("")
        .unwrap()
        .into_iter()
        .filter(|name| name.starts_with("items"))
        .collect();
    assert_eq!(names, [format!("items-{:020}.titanrec", 2)]);
    assert_eq!(storage.files()[&names[0]].len() as u64, bytes);

    store.remove_log(&mut log).unwrap();
    drop((store, log));
    assert!(open(&storage).2.records.is_empty());
}

#[test]
fn every_power_cut_leaves_what_was_acknowledged_or_what_follows_it() {
    let storage = FaultyStorage::default();
    life(&storage).unwrap();
    let history = history();
    let mut states = 0;
    for point in storage.crash_points() {
        let at = point.acknowledged.map_or(0, |index| index as usize);
        let (old, new) = (&history[at], history.get(at + 1));
        for bytes in (0..=point.unflushed_bytes()).step_by(3) {
            for names in 0..=point.unflushed_names() {
                let (_, _, contents) = open(&point.cut(bytes, names));
                let found = &contents.records;
                let is_part = new.is_some_and(|new| {
                    new.starts_with(old) && found.starts_with(old) && new.starts_with(found)
                });
                assert!(
                    found == old || Some(found) == new || is_part,
                    "{at} {bytes} {names}"
                );
                states += 1;
            }
        }
    }
    assert!(states > 300, "{states}");
}

#[test]
fn a_failed_call_keeps_the_old_records_and_the_log_must_be_rewritten() {
    let steps = {
        let storage = FaultyStorage::default();
        life(&storage).unwrap();
        storage.steps().len()
    };
    let mut failed = 0;
    for step in 0..steps {
        let storage = FaultyStorage::default();
        storage.fail_at(step, Fault::Error(ErrorKind::StorageFull));
        let Err(error) = life(&storage) else {
            // A step whose failure may wait, such as removing what was replaced.
            continue;
        };
        failed += 1;
        let text = error.to_string();
        assert!(text.contains("items-") || text.contains("memory"), "{text}");
        let (store, mut log, contents) = open(&storage);
        let before = contents.records.clone();
        assert!(history().iter().any(|state| state.starts_with(&before)));
        store.rewrite_log(&mut log, &before).unwrap();
        store.append_to_log(&mut log, [b"more"]).unwrap();
        drop((store, log));
        let (_, _, contents) = open(&storage);
        assert_eq!(contents.records.len(), before.len() + 1);
    }
    assert!(failed > 10, "{failed}");
}

#[test]
fn no_flipped_byte_adds_or_changes_a_record() {
    let storage = FaultyStorage::default();
    let (store, mut log, _) = open(&storage);
    let written = records(1..6);
    store.rewrite_log(&mut log, &written).unwrap();
    let name = format!("items-{:020}.titanrec", 1);
    drop((store, log));
    let len = storage.files()[&name].len();
    for at in 0..len {
        assert!(storage.flip(&name, at, 0x10));
        let config = StoreConfig::default();
        let boxed = Box::new(storage.clone());
        let (store, _) = MemoryStore::open_on(boxed, SHARD, config).unwrap();
        if let Ok((_, contents)) = store.open_log("items") {
            assert!(written.starts_with(&contents.records), "byte {at}");
            // The zeros behind the checksum of the head are all that nothing depends on.
            assert!(
                contents.ends_early.is_some() || contents.records == written,
                "byte {at}"
            );
        }
        assert!(storage.flip(&name, at, 0x10));
    }
}

#[test]
fn a_log_of_another_shard_or_too_long_is_refused() {
    let storage = FaultyStorage::default();
    let (store, mut log, _) = open(&storage);
    store.rewrite_log(&mut log, records(0..6)).unwrap();
    drop((store, log));
    let open_as = |shard, limits| {
        let config = StoreConfig::default().with_limits(limits);
        let (store, _) = MemoryStore::open_on(Box::new(storage.clone()), shard, config).unwrap();
        store.open_log("items").unwrap_err()
    };
    let error = open_as(ShardId([9; 16]), Limits::default());
    assert!(
        matches!(error.cause(), StoreError::WrongShard { .. }),
        "{error}"
    );
    let error = open_as(SHARD, Limits::default().with_max_file_bytes(100));
    assert!(error.to_string().contains("items-"), "{error}");
    assert!(matches!(error.cause(), StoreError::Limit { .. }), "{error}");
}

#[test]
fn a_log_of_an_encrypted_memory_is_sealed_and_forgotten_with_it() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("shard");
    let key = UserKey::generate().unwrap();
    let open = |key: UserKey| {
        MemoryStore::open_encrypted(&dir, SHARD, StoreConfig::default(), key)
            .unwrap()
            .0
    };
    let secret = b"the number is 4711 and nobody else knows";
    {
        let store = open(key.clone());
        let (mut log, _) = store.open_log("items").unwrap();
        store.rewrite_log(&mut log, [secret]).unwrap();
        store.append_to_log(&mut log, [secret]).unwrap();
    }
    let path = dir.join(format!("items-{:020}.titanrec", 1));
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"number"));
    let (_, contents) = open(key).open_log("items").unwrap();
    assert_eq!(contents.records, [secret, secret]);
    let other = open(UserKey::generate().unwrap()).open_log("items");
    let error = other.unwrap_err();
    assert!(
        matches!(error.cause(), StoreError::WrongKey { .. }),
        "{error}"
    );

    let receipt = forget(&dir, SHARD, None).unwrap();
    assert_eq!((receipt.removed_logs(), receipt.left().count()), (1, 0));
    assert!(!path.exists());
}

#[test]
fn the_only_generation_leaves_no_older_one() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("shard");
    let (mut store, _) = MemoryStore::open(&dir, SHARD, StoreConfig::default()).unwrap();
    let first = store.save(&small_image()).unwrap();
    store.pin_last_known_good(first.generation).unwrap();
    store.save(&common::image_at(2)).unwrap();
    let only = store.save_as_only_generation(&common::image_at(3)).unwrap();
    assert_eq!(store.generations().unwrap(), [only.generation]);
    assert_eq!(store.last_known_good().unwrap(), None);
    drop(store);
    let (_, recovery) = MemoryStore::open(&dir, SHARD, StoreConfig::default()).unwrap();
    assert!(recovery.image == Some(common::image_at(3)));
}
