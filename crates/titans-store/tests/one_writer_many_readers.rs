//! One writer at a time wins the lock, and readers beside it see only whole memories that
//! never go back.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{SHARD, image_at};
use titans_store::{
    BackupRequest, Limits, MemoryReader, MemoryStore, SaveMode, StoreConfig, StoreError,
    create_backup,
};

#[test]
fn of_two_writers_exactly_one_wins_a_thousand_times() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("shard");
    MemoryStore::open(&dir, SHARD, StoreConfig::default()).unwrap();
    // A lock belongs to an open file, so two threads contend as two processes do.
    let barrier = Barrier::new(2);
    let wins = AtomicU64::new(0);
    let contend = || {
        for round in 1..=1000 {
            barrier.wait();
            let opened = MemoryStore::open(&dir, SHARD, StoreConfig::default());
            match &opened {
                Ok(_) => drop(wins.fetch_add(1, Ordering::SeqCst)),
                Err(error) => assert!(matches!(error, StoreError::Locked { .. }), "{error}"),
            }
            barrier.wait();
            assert_eq!(wins.load(Ordering::SeqCst), round);
            drop(opened);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(contend);
        scope.spawn(contend);
    });
}

#[test]
fn readers_see_whole_memories_that_never_go_back() {
    for mode in [SaveMode::Snapshot, SaveMode::Journal] {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("shard");
        let config = StoreConfig::default().with_mode(mode);
        let (mut store, _) = MemoryStore::open(&dir, SHARD, config).unwrap();
        store.save(&image_at(1)).unwrap();
        let acknowledged = AtomicU64::new(1);
        let done = AtomicBool::new(false);
        let read = || {
            let mut reader = MemoryReader::new(&dir, SHARD, Limits::default());
            let mut reads = 0;
            while !done.load(Ordering::SeqCst) || reads == 0 {
                let before = acknowledged.load(Ordering::SeqCst);
                let (image, generation) = reader.newest().unwrap().expect("one was saved");
                // A rebase may pass between the listing and a read, but never back in time.
                assert!(image.last_chunk_id >= before, "{generation} after {before}");
                assert_eq!(image, image_at(image.last_chunk_id));
                reads += 1;
            }
            reads
        };
        std::thread::scope(|scope| {
            let readers = [scope.spawn(read), scope.spawn(read)];
            for chunk in 2..=200 {
                store.save(&image_at(chunk)).unwrap();
                acknowledged.store(chunk, Ordering::SeqCst);
            }
            // Another epoch of the same folder, beside the same readers.
            drop(store);
            let (mut store, _) = MemoryStore::open(&dir, SHARD, config).unwrap();
            for chunk in 201..=220 {
                store.save(&image_at(chunk)).unwrap();
                acknowledged.store(chunk, Ordering::SeqCst);
            }
            done.store(true, Ordering::SeqCst);
            for reader in readers {
                assert!(reader.join().unwrap() > 0);
            }
        });
    }
}

/// `TITANMEM_BACKUPS=6000` finds what one in thousands meets.
#[test]
fn a_backup_beside_a_writer_takes_a_whole_memory_and_never_fails() {
    let backups = std::env::var("TITANMEM_BACKUPS");
    let backups: u64 = backups.map_or(500, |backups| backups.parse().unwrap());
    for mode in [SaveMode::Snapshot, SaveMode::Journal] {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("shard");
        // The file of a backup may leave as soon as the next one is there.
        let config = StoreConfig::default().with_keep_old(0).with_mode(mode);
        let (mut store, _) = MemoryStore::open(&dir, SHARD, config).unwrap();
        store.save(&image_at(1)).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut chunk = 2;
                while !done.load(Ordering::SeqCst) {
                    store.save(&image_at(chunk)).unwrap();
                    chunk += 1;
                }
            });
            let failures: Vec<String> = (0..backups)
                .filter_map(|number| {
                    let target = root.path().join(format!("{number}.tar"));
                    let taken = create_backup(&dir, SHARD, &target, &BackupRequest::default());
                    taken.err().map(|error| error.to_string())
                })
                .collect();
            done.store(true, Ordering::SeqCst);
            assert!(failures.is_empty(), "{mode:?}: {failures:?}");
        });
    }
}
