//! For every step a save asks of the disk: let it fail, or lose power after it. What opens
//! afterwards is the old generation or the new one, and an acknowledged one is never lost.
//!
//! `TITANMEM_CRASH_SEEDS=n` multiplies the random part of every scenario, for long runs;
//! `TITANMEM_CRASH_THIN=n` looks at every n-th state only, for the mutation check.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

use common::{SHARD, image_at, small_image, tensor};
use titans_store::fs::{Fault, FaultyStorage, Storage};
use titans_store::{
    Changed, ImageDelta, MemoryImage, MemoryStore, Recovery, SaveMode, Saved, StoreConfig,
    StoreError, TensorDelta, TensorRole,
};

const SNAPSHOTS: StoreConfig = config(SaveMode::Snapshot);
const JOURNAL: StoreConfig = config(SaveMode::Journal);

const fn config(mode: SaveMode) -> StoreConfig {
    StoreConfig::standard()
        .with_limits(LIMITS)
        .with_mode(mode)
        .with_delta_check(titans_store::DeltaCheck::Compare)
}

const LIMITS: titans_store::Limits = titans_store::Limits::standard();

fn open_as(storage: &FaultyStorage, config: StoreConfig) -> (MemoryStore, Recovery) {
    MemoryStore::open_on(Box::new(storage.clone()), SHARD, config).unwrap()
}

fn open(storage: &FaultyStorage) -> (MemoryStore, Recovery) {
    open_as(storage, SNAPSHOTS)
}

fn chunk_of(recovery: &Recovery) -> u64 {
    recovery
        .image
        .as_ref()
        .expect("something opens")
        .last_chunk_id
}

/// Random numbers from a fixed seed.
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// A memory of some kilobytes after `chunk` chunks, each of which changes a few weights.
fn memory_at(chunk: u64) -> MemoryImage {
    let mut values: Vec<f32> = (0..1500).map(|n| (n as f32 * 0.37).sin()).collect();
    for past in 1..=chunk {
        for coordinate in changed_by(past) {
            values[coordinate as usize] = past as f32 + coordinate as f32 / 1500.0;
        }
    }
    MemoryImage {
        last_chunk_id: chunk,
        tensors: vec![tensor("w", TensorRole::Weights, &[30, 50], values)],
        recall: None,
        ..small_image()
    }
}

fn changed_by(chunk: u64) -> Vec<u32> {
    (0..12)
        .map(|n| (n * 120 + chunk * 7 % 113) as u32)
        .collect()
}

fn save_next(store: &mut MemoryStore, chunk: u64) -> Result<Saved, StoreError> {
    let delta = ImageDelta {
        tensors: vec![TensorDelta {
            name: "w".to_owned(),
            role: TensorRole::Weights,
            changed: Changed::Coordinates(changed_by(chunk)),
        }],
    };
    store.save_delta(&memory_at(chunk), &delta)
}

/// A folder with five durable saves, so that the next one prunes too.
fn settled() -> (FaultyStorage, MemoryStore) {
    let storage = FaultyStorage::default();
    let (mut store, _) = open(&storage);
    for chunk in 1..=5 {
        store.save(&image_at(chunk)).unwrap();
    }
    (storage, store)
}

/// The steps that `work` takes.
fn steps_of(storage: &FaultyStorage, work: impl FnOnce()) -> Vec<&'static str> {
    let before = storage.steps().len();
    work();
    storage.steps().split_off(before)
}

/// The steps of one undisturbed save.
fn steps_of_a_save() -> Vec<&'static str> {
    let (storage, mut store) = settled();
    steps_of(&storage, || drop(store.save(&image_at(6)).unwrap()))
}

#[test]
fn a_save_flushes_contents_before_the_name_and_the_name_before_the_acknowledgement() {
    let steps = ["create", "write", "sync", "rename", "sync folder", "remove"];
    assert_eq!(steps_of_a_save(), steps);
}

#[test]
fn a_record_is_one_write_and_one_flush_and_the_first_also_flushes_the_name() {
    let storage = FaultyStorage::default();
    let (mut store, _) = open_as(&storage, JOURNAL);
    save_next(&mut store, 1).unwrap();
    let first = steps_of(&storage, || drop(save_next(&mut store, 2).unwrap()));
    assert_eq!(
        first,
        ["create", "write", "write", "sync data", "sync folder"]
    );
    let second = steps_of(&storage, || drop(save_next(&mut store, 3).unwrap()));
    assert_eq!(second, ["write", "sync data"]);
}

/// What was handed to the store under each number, acknowledged or not.
type Attempts = BTreeMap<u64, u64>;

/// Everything that one history may leave: checks each state and counts them.
struct Checker {
    config: StoreConfig,
    attempts: Attempts,
    image: fn(u64) -> MemoryImage,
    states: usize,
    /// One state in so many is also written to and opened again.
    write_every: usize,
}

impl Checker {
    fn check(&mut self, survivor: &FaultyStorage, acknowledged: Option<u64>, what: &str) {
        self.states += 1;
        let (mut store, recovery) = open_as(survivor, self.config);
        let skipped = &recovery.skipped;
        assert!(
            skipped.is_empty(),
            "{what}: torn or damaged files are visible: {skipped:?}"
        );
        let Some(generation) = recovery.generation else {
            assert_eq!(acknowledged, None, "{what}: everything is lost");
            return;
        };
        let number = generation.number();
        let floor = acknowledged.unwrap_or(0);
        assert!(
            number >= floor,
            "{what}: {number} opens, {floor} was acknowledged"
        );
        let chunk = self.attempts.get(&number).copied();
        let chunk = chunk.unwrap_or_else(|| panic!("{what}: {number} was never saved"));
        let mut expected = (self.image)(chunk);
        let found = recovery.image.unwrap();
        expected.rolled_back_from = found.rolled_back_from;
        assert_eq!(found, expected, "{what}: generation {number} is torn");
        if self.states.is_multiple_of(self.write_every) {
            let saved = store.save(&(self.image)(chunk + 1)).unwrap();
            assert!(saved.generation > generation, "{what}");
            drop(store);
            let (_, again) = open_as(survivor, self.config);
            assert_eq!(again.generation, Some(saved.generation), "{what}");
            assert_eq!(again.image, Some((self.image)(chunk + 1)), "{what}");
        }
    }

    /// All cuts at `stride` bytes and every prefix of the changes of names, then `scattered`
    /// random survivals, at every moment.
    fn check_all(&mut self, storage: &FaultyStorage, stride: usize, scattered: usize) {
        let (seeds, thin) = (setting("TITANMEM_CRASH_SEEDS"), thin());
        let mut random = random(storage.steps().len() as u64);
        for (step, point) in storage.crash_points().iter().enumerate() {
            let acknowledged = point.acknowledged;
            for names in 0..=point.unflushed_names() {
                let bytes = point.unflushed_bytes();
                for cut in (0..bytes).step_by(stride * thin).chain([bytes]) {
                    let what = format!("step {step}, {cut} bytes, {names} names");
                    self.check(&point.cut(cut, names), acknowledged, &what);
                }
            }
            if point.unflushed_bytes() + point.unflushed_names() > 0 {
                for n in 0..scattered * seeds / thin {
                    let what = format!("step {step}, scatter {n}");
                    self.check(&point.scatter(&mut random), acknowledged, &what);
                }
            }
        }
    }
}

fn setting(name: &str) -> usize {
    let setting = std::env::var(name).ok();
    setting.and_then(|n| n.parse().ok()).unwrap_or(1)
}

fn thin() -> usize {
    setting("TITANMEM_CRASH_THIN")
}

/// One history of saves with pins, a rollback and several writers.
fn history(
    config: StoreConfig,
    image: fn(u64) -> MemoryImage,
    save: fn(&mut MemoryStore, u64) -> Result<Saved, StoreError>,
    chunks: u64,
) -> (FaultyStorage, Checker) {
    let storage = FaultyStorage::default();
    let mut attempts = Attempts::new();
    let mut chunk = 0;
    for _writer in 0..3 {
        let (mut store, _) = open_as(&storage, config);
        for n in 0..chunks {
            chunk += 1;
            let saved = save(&mut store, chunk).unwrap();
            storage.acknowledge(saved.generation.number());
            attempts.insert(saved.generation.number(), chunk);
            if n == chunks / 2 {
                store.pin_last_known_good(saved.generation).unwrap();
            }
        }
        let pinned = store.last_known_good().unwrap().unwrap();
        let saved = store.roll_back_to_last_known_good().unwrap();
        storage.acknowledge(saved.generation.number());
        chunk = attempts[&pinned.number()];
        attempts.insert(saved.generation.number(), chunk);
    }
    let checker = Checker {
        config,
        attempts,
        image,
        states: 0,
        write_every: 17,
    };
    (storage, checker)
}

#[test]
fn no_crash_loses_or_tears_a_snapshot() {
    let save = |store: &mut MemoryStore, chunk| store.save(&image_at(chunk));
    let (storage, mut checker) = history(SNAPSHOTS, image_at, save, 12);
    checker.check_all(&storage, 8, 60);
    println!("{} crash states of snapshots", checker.states);
    assert!(checker.states * thin() >= 20_000, "{}", checker.states);
}

#[test]
fn no_crash_loses_or_tears_a_record_cut_at_every_byte() {
    let (storage, mut checker) = history(JOURNAL, memory_at, save_next, 4);
    checker.check_all(&storage, 1, 30);
    println!("{} crash states of journals", checker.states);
    assert!(checker.states * thin() >= 60_000, "{}", checker.states);
}

#[test]
fn one_failed_step_loses_nothing_even_if_the_power_goes_later() {
    let mut states = 0;
    for (config, name) in [(SNAPSHOTS, "snapshot"), (JOURNAL, "journal")] {
        for kind in [
            ErrorKind::Other,
            ErrorKind::StorageFull,
            ErrorKind::Interrupted,
            ErrorKind::WriteZero,
        ] {
            for at in (0..).step_by(thin()) {
                let storage = FaultyStorage::default();
                let fault = match kind {
                    // Stands for a write that accepts less than it was given.
                    ErrorKind::WriteZero => Fault::ShortWrite,
                    kind => Fault::Error(kind),
                };
                storage.fail_at(at, fault);
                let (mut store, _) = open_as(&storage, config);
                let mut attempts = Attempts::new();
                let mut failures = 0;
                for chunk in 1..=9 {
                    match save_next(&mut store, chunk) {
                        Ok(saved) => {
                            storage.acknowledge(saved.generation.number());
                            attempts.insert(saved.generation.number(), chunk);
                        }
                        Err(error) => {
                            failures += 1;
                            let is_told = matches!(
                                error,
                                StoreError::Io { .. } | StoreError::NotDurable { .. }
                            );
                            assert!(is_told, "{name} {kind:?} at {at}: {error}");
                            attempts.insert(attempts.len() as u64 + 1, chunk);
                        }
                    }
                    // A failed attempt may be there all the same, under the number it took.
                    let spent = attempts.keys().max().copied().unwrap_or(0);
                    attempts.entry(spent + 1).or_insert(chunk + 1);
                }
                assert!(failures <= 1, "{name} {kind:?} at {at}");
                let is_past_the_end = storage.steps().len() <= at;
                states += check_attempts(&storage, config, at as u64);
                if is_past_the_end {
                    break;
                }
            }
        }
    }
    println!("{states} crash states after a failed step");
    assert!(states * thin() >= 5_000, "{states}");
}

/// Any acknowledged or later memory may open, but none that was never one.
fn check_attempts(storage: &FaultyStorage, config: StoreConfig, seed: u64) -> usize {
    let mut random = random(seed + 1);
    let mut states = 0;
    for point in storage.crash_points() {
        if point.unflushed_bytes() + point.unflushed_names() == 0 {
            continue;
        }
        let survivors = [
            point.cut(0, 0),
            point.cut(usize::MAX / 2, point.unflushed_names()),
            point.scatter(&mut random),
        ];
        for survivor in survivors {
            states += 1;
            let (_, recovery) = open_as(&survivor, config);
            assert!(recovery.skipped.is_empty(), "{:?}", recovery.skipped);
            let number = recovery.generation.map(|generation| generation.number());
            assert!(
                number >= point.acknowledged,
                "{number:?} < {:?}",
                point.acknowledged
            );
            if let Some(image) = recovery.image {
                assert_eq!(image, memory_at(image.last_chunk_id));
            }
        }
    }
    states
}

#[test]
fn one_failed_step_costs_one_save_at_most() {
    for (at, name) in steps_of_a_save().into_iter().enumerate() {
        let (storage, mut store) = settled();
        storage.fail_at(at, Fault::Error(ErrorKind::Other));
        let outcome = store.save(&image_at(6));
        match name {
            // Retried with a new file, or not worth failing for.
            "create" | "write" | "sync" | "remove" => assert!(outcome.is_ok(), "{name}"),
            "sync folder" => assert!(matches!(outcome, Err(StoreError::NotDurable { .. }))),
            _ => assert!(matches!(
                outcome,
                Err(StoreError::Io { action: "name", .. })
            )),
        }
        store.save(&image_at(7)).unwrap();
        let left = storage.list("").unwrap();
        assert!(
            left.iter().all(|name| !name.starts_with(".tmp-")),
            "{name}: {left:?}"
        );
        let points = storage.crash_points();
        let survivor = points.last().unwrap().cut(0, 0);
        assert_eq!(chunk_of(&open(&survivor).1), 7, "{name}");
    }
}

#[test]
fn a_file_whose_flush_failed_is_never_flushed_again() {
    let (storage, mut store) = settled();
    let before = store.spent();
    storage.fail_at(2, Fault::Error(ErrorKind::Other));
    let steps = steps_of(&storage, || drop(store.save(&image_at(6)).unwrap()));
    assert_eq!(
        steps[..7],
        [
            "create", "write", "sync", "remove", "create", "write", "sync"
        ]
    );
    // The save succeeded; that a flush failed on the way is told all the same.
    let spent = store.spent().since(before);
    assert_eq!(spent.flush_errors, 1);
    assert!(spent.encode > Duration::ZERO && spent.flush > Duration::ZERO);
    let points = storage.crash_points();
    assert_eq!(chunk_of(&open(&points.last().unwrap().cut(0, 0)).1), 6);
}

#[test]
fn a_journal_whose_flush_failed_is_left_for_a_whole_file() {
    let storage = FaultyStorage::default();
    let (mut store, _) = open_as(&storage, JOURNAL);
    for chunk in 1..=3 {
        save_next(&mut store, chunk).unwrap();
    }
    storage.fail_at(1, Fault::Error(ErrorKind::Other));
    let steps = steps_of(&storage, || drop(save_next(&mut store, 4).unwrap()));
    assert_eq!(steps[..4], ["write", "sync data", "create", "write"]);
    assert_eq!(store.spent().flush_errors, 1);
    assert!(!steps[2..].contains(&"sync data"), "{steps:?}");
    let again = steps_of(&storage, || drop(save_next(&mut store, 5).unwrap()));
    assert_eq!(again[0], "create", "the next record begins another journal");
    let points = storage.crash_points();
    let (_, recovery) = open_as(&points.last().unwrap().cut(0, 0), JOURNAL);
    assert_eq!(recovery.image, Some(memory_at(5)));
}

#[test]
fn a_full_disk_gives_up_quarantined_files_first() {
    let (storage, store) = settled();
    drop(store);
    assert!(storage.flip("g-00000000000000000005.titanmem", 100, 1));
    let (mut store, recovery) = open(&storage);
    assert_eq!((chunk_of(&recovery), recovery.skipped.len()), (4, 1));
    assert_eq!(storage.list("quarantine").unwrap().len(), 1);
    storage.fail_at(0, Fault::Error(ErrorKind::StorageFull));
    assert_eq!(store.save(&image_at(6)).unwrap().generation.number(), 6);
    assert_eq!(storage.list("quarantine").unwrap().len(), 0);
}

#[test]
fn a_writer_that_lost_its_lock_is_refused() {
    for config in [SNAPSHOTS, JOURNAL] {
        let storage = FaultyStorage::default();
        let (mut first, _) = open_as(&storage, config);
        for chunk in 1..=3 {
            save_next(&mut first, chunk).unwrap();
        }
        // This storage locks nothing, as a broken network file system would.
        let (mut second, _) = open_as(&storage, config);
        second.save(&memory_at(60)).unwrap();
        let error = save_next(&mut first, 4).unwrap_err();
        assert!(matches!(error, StoreError::Overtaken { .. }), "{error}");
        assert_eq!(chunk_of(&open_as(&storage, config).1), 60);
    }
}

#[test]
fn power_loss_while_pinning_leaves_a_pin() {
    let (storage, mut store) = settled();
    let generations = store.generations().unwrap();
    store.pin_last_known_good(generations[0]).unwrap();
    let before = storage.crash_points().len();
    store.pin_last_known_good(generations[1]).unwrap();
    let mut random = random(5);
    for point in storage.crash_points().split_off(before - 1) {
        for names in 0..=point.unflushed_names() + 4 {
            let survivor = match names <= point.unflushed_names() {
                true => point.cut(0, names),
                false => point.scatter(&mut random),
            };
            let (store, _) = open(&survivor);
            let pinned = store.last_known_good().unwrap().expect("a pin survives");
            store.load(pinned).unwrap();
        }
    }
}
