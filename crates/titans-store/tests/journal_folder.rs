//! A folder with journals on a real disk: what a record costs, what damage to any part of the
//! chain costs, and that every generation can be loaded, pinned and rolled back to.
#![allow(clippy::unwrap_used)]

mod common;

use std::borrow::Cow;
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use common::{SHARD, small_image, tensor};
use tempfile::TempDir;
use titans_store::{
    Changed, DeltaCheck, Generation, ImageDelta, Limits, MemoryImage, MemoryReader, MemoryStore,
    Precision, Recovery, SaveMode, SavedForm, StoreConfig, StoreError, TensorDelta, TensorRole,
    read_newest, verify_dir,
};

fn journal() -> StoreConfig {
    StoreConfig::default()
        .with_mode(SaveMode::Journal)
        .with_delta_check(DeltaCheck::Compare)
}

fn folder() -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("shard");
    (root, dir)
}

fn open(dir: &Path) -> (MemoryStore, Recovery) {
    MemoryStore::open(dir, SHARD, journal()).unwrap()
}

/// Weights and momenta of 60 000 values each, of which each chunk changes 300.
fn memory_at(chunk: u64) -> MemoryImage {
    let mut weights: Vec<f32> = (0..60_000)
        .map(|n| (n as f32 * 0.37).sin() * 0.03)
        .collect();
    let mut momenta = vec![0.0; 60_000];
    for past in 1..=chunk {
        for at in changed_by(past) {
            weights[at as usize] += 1e-4 * past as f32;
            momenta[at as usize] = 1e-6 * past as f32 + 1e-9 * at as f32;
        }
    }
    MemoryImage {
        last_chunk_id: chunk,
        tokens_seen: 512 * chunk,
        tensors: vec![
            tensor("w", TensorRole::Weights, &[600, 100], weights),
            tensor("w", TensorRole::Momentum, &[600, 100], momenta),
        ],
        recall: None,
        rolled_back_from: None,
        ..small_image()
    }
}

fn changed_by(chunk: u64) -> Vec<u32> {
    (0..300)
        .map(|n| (n * 200 + chunk * 37 % 200) as u32)
        .collect()
}

fn delta(changed: Changed) -> ImageDelta {
    let tensor = |role| TensorDelta {
        name: "w".to_owned(),
        role,
        changed: changed.clone(),
    };
    ImageDelta {
        tensors: vec![tensor(TensorRole::Weights), tensor(TensorRole::Momentum)],
    }
}

/// A folder with `count` generations: a base, and records after it.
fn saved(dir: &Path, count: u64) -> MemoryStore {
    let (mut store, _) = open(dir);
    for chunk in 1..=count {
        let changed = Changed::Coordinates(changed_by(chunk));
        store
            .save_delta(&memory_at(chunk), &delta(changed))
            .unwrap();
    }
    store
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name != "LOCK").collect();
    names.sort();
    names
}

fn journal_of(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("j-{base:020}-{:020}.titanlog", 1))
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn records_are_small_and_every_generation_opens() {
    let (_root, dir) = folder();
    let (mut store, _) = open(&dir);
    let base = store.save(&memory_at(1)).unwrap();
    assert_eq!(base.form, SavedForm::Snapshot);
    for chunk in 2..=9 {
        // Told by the caller, found out by the store, by rows, or whole: the same result.
        let image = memory_at(chunk);
        let saved = match chunk % 4 {
            0 => store.save_delta(&image, &delta(Changed::Coordinates(changed_by(chunk)))),
            1 => store.save(&image),
            2 => store.save_delta(&image, &delta(Changed::Rows((0..600).collect()))),
            _ => store.save_delta(&image, &delta(Changed::All)),
        };
        let saved = saved.unwrap();
        if chunk % 4 < 2 {
            assert_eq!(saved.form, SavedForm::Record, "{chunk}");
            assert!(
                saved.file_bytes < base.file_bytes / 20,
                "{}",
                saved.file_bytes
            );
        }
        assert_eq!(saved.generation.number(), chunk);
        let (image, generation) = read_newest(&dir, SHARD, &Limits::default())
            .unwrap()
            .unwrap();
        assert_eq!((image, generation.number()), (memory_at(chunk), chunk));
    }
    for generation in store.generations().unwrap() {
        assert_eq!(
            store.load(generation).unwrap(),
            memory_at(generation.number())
        );
    }
    drop(store);
    let (_, recovery) = open(&dir);
    assert_eq!(recovery.image, Some(memory_at(9)));
    assert!(recovery.skipped.is_empty() && recovery.torn.is_empty());
}

#[test]
fn a_journal_gives_way_to_a_base_after_32_records_and_two_bases_stay() {
    let (_root, dir) = folder();
    let (mut store, _) = open(&dir);
    for chunk in 1..=70 {
        let changed = Changed::Coordinates(changed_by(chunk));
        let saved = store
            .save_delta(&memory_at(chunk), &delta(changed))
            .unwrap();
        let expected = match chunk {
            1 => SavedForm::Snapshot,
            33 | 65 => SavedForm::RecordAndBase,
            _ => SavedForm::Record,
        };
        assert_eq!(saved.form, expected, "{chunk}");
    }
    let bases = [33, 65].map(|number| Generation::new(number).file_name());
    let journals = [33, 65].map(|number| {
        let path = journal_of(&dir, number);
        path.file_name().unwrap().to_str().unwrap().to_owned()
    });
    assert_eq!(names(&dir), [bases, journals].concat());
    let verdicts = verify_dir(&dir, &Limits::default()).unwrap();
    assert!(verdicts.iter().all(|verdict| verdict.problem.is_none()));
    assert_eq!(verdicts[2].records.as_ref().unwrap().len(), 32);
}

#[test]
fn damage_to_the_newest_base_loses_nothing() {
    let (_root, dir) = folder();
    drop(saved(&dir, 40));
    flip(&dir.join(Generation::new(33).file_name()), 5000);
    let (store, recovery) = open(&dir);
    assert_eq!(
        recovery.image,
        Some(memory_at(40)),
        "old base, sealed journal, new journal"
    );
    assert_eq!(recovery.skipped.len(), 1);
    assert_eq!(store.load(Generation::new(33)).unwrap(), memory_at(33));
}

#[test]
fn damage_inside_a_journal_is_told_and_costs_what_follows_it() {
    let (_root, dir) = folder();
    drop(saved(&dir, 9));
    let log = journal_of(&dir, 1);
    let third = fs::metadata(&log).unwrap().len() as usize * 3 / 8;
    for at in [third, 64] {
        let copy = dir.join("..").join(format!("copy-{at}"));
        fs::create_dir(&copy).unwrap();
        for name in names(&dir) {
            fs::copy(dir.join(&name), copy.join(&name)).unwrap();
        }
        let restrict = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&copy, restrict).unwrap();
        flip(&journal_of(&copy, 1), at);
        let verdicts = verify_dir(&copy, &Limits::default()).unwrap();
        assert_eq!(verdicts.iter().filter(|v| v.problem.is_some()).count(), 1);
        let (mut store, recovery) = open(&copy);
        let last = recovery.generation.unwrap().number();
        assert!((1..9).contains(&last), "{last}");
        assert_eq!(recovery.image, Some(memory_at(last)));
        assert_eq!(recovery.skipped.len(), 1, "{:?}", recovery.skipped);
        assert_eq!(recovery.skipped[0].generation.number(), last + 1);
        // The way on is a whole file with a number beyond all that was lost.
        let saved = store.save(&memory_at(20)).unwrap();
        assert!(saved.generation.number() > last && saved.form == SavedForm::Snapshot);
        drop(store);
        assert_eq!(open(&copy).1.image, Some(memory_at(20)));
    }
}

#[test]
fn a_cut_tail_is_told_and_is_no_damage() {
    let (_root, dir) = folder();
    drop(saved(&dir, 5));
    let log = journal_of(&dir, 1);
    let len = fs::metadata(&log).unwrap().len();
    fs::OpenOptions::new()
        .write(true)
        .open(&log)
        .unwrap()
        .set_len(len - 9)
        .unwrap();
    assert!(
        verify_dir(&dir, &Limits::default())
            .unwrap()
            .iter()
            .all(|v| v.problem.is_none())
    );
    let (_, recovery) = open(&dir);
    assert_eq!(recovery.image, Some(memory_at(4)));
    assert!(recovery.skipped.is_empty());
    assert_eq!(recovery.torn.len(), 1);
    assert!(
        recovery.torn[0].reason.to_string().contains("record 3"),
        "{:?}",
        recovery.torn
    );
}

#[test]
fn no_flipped_byte_of_a_journal_is_believed() {
    let (_root, dir) = folder();
    drop(saved(&dir, 4));
    let log = journal_of(&dir, 1);
    let good = fs::read(&log).unwrap();
    for at in (0..good.len()).step_by(7).chain(0..200) {
        let mut bad = good.clone();
        bad[at] ^= 0x41;
        fs::write(&log, &bad).unwrap();
        match read_newest(&dir, SHARD, &Limits::default()) {
            Ok(found) => {
                let (image, generation) = found.unwrap();
                assert!(generation.number() < 4, "byte {at}");
                assert_eq!(image, memory_at(generation.number()), "byte {at}");
            }
            // A changed version or owner is refused rather than passed over.
            Err(error) => assert!(at < 96 && !error.is_damage(), "byte {at}: {error}"),
        }
    }
}

#[test]
fn a_generation_inside_a_journal_can_be_pinned_and_rolled_back_to() {
    let (_root, dir) = folder();
    let mut store = saved(&dir, 6);
    store.pin_last_known_good(Generation::new(4)).unwrap();
    assert!(names(&dir).contains(&format!("lkg-{:020}.titanmem", 4)));
    // Again is allowed.
    store.pin_last_known_good(Generation::new(4)).unwrap();
    let saved = store.roll_back_to_last_known_good().unwrap();
    assert_eq!(saved.generation.number(), 7);
    drop(store);
    let (mut store, recovery) = open(&dir);
    let mut expected = memory_at(4);
    expected.rolled_back_from = Some(6);
    assert_eq!(recovery.image, Some(expected));
    assert_eq!(store.load(Generation::new(6)).unwrap(), memory_at(6));
    let error = store.roll_back_to(Generation::new(99)).unwrap_err();
    assert!(matches!(error, StoreError::NoSuchGeneration { .. }));
    let (_other, dir) = folder();
    let error = open(&dir).0.roll_back_to_last_known_good().unwrap_err();
    assert!(matches!(error, StoreError::NothingPinned { .. }));
}

#[test]
fn an_account_of_changes_that_does_not_fit_is_refused() {
    let (_root, dir) = folder();
    let mut store = saved(&dir, 2);
    let mut refused = |changed: Changed| {
        let error = store
            .save_delta(&memory_at(3), &delta(changed))
            .unwrap_err();
        assert!(matches!(error, StoreError::BadDelta { .. }), "{error}");
        error.to_string()
    };
    let left_out = refused(Changed::Coordinates(changed_by(3)[1..].to_vec()));
    assert!(left_out.contains("left out"), "{left_out}");
    let mut unordered = changed_by(3);
    unordered.swap(0, 1);
    refused(Changed::Coordinates(unordered));
    refused(Changed::Coordinates([changed_by(3), vec![60_000]].concat()));
    refused(Changed::Rows([(0..600).collect(), vec![600]].concat()));
    refused(Changed::Rows(vec![u32::MAX]));
    let mut strange = delta(Changed::All);
    strange.tensors[0].name = "v".to_owned();
    let error = store.save_delta(&memory_at(3), &strange).unwrap_err();
    assert!(matches!(error, StoreError::BadDelta { .. }), "{error}");
    let mut image = memory_at(3);
    image.tensors[1].values[11_111] = f32::NAN;
    let error = store.save_delta(&image, &delta(Changed::All)).unwrap_err();
    assert!(matches!(error, StoreError::NotFinite { .. }), "{error}");
    // None of these has spoilt the journal.
    let good = Changed::Coordinates(changed_by(3));
    assert_eq!(
        store.save_delta(&memory_at(3), &delta(good)).unwrap().form,
        SavedForm::Record
    );
}

/// The changes of a chunk with their values, and the image without any.
fn told(chunk: u64) -> (MemoryImage, ImageDelta) {
    let mut outline = memory_at(chunk);
    let coordinates = changed_by(chunk);
    let tensors = outline.tensors.iter_mut().map(|tensor| {
        let all = std::mem::take(&mut tensor.values);
        let values = coordinates.iter().map(|at| all[*at as usize]).collect();
        TensorDelta {
            name: tensor.name.clone(),
            role: tensor.role,
            changed: Changed::Values {
                coordinates: coordinates.clone(),
                values,
            },
        }
    });
    let tensors = tensors.collect();
    (outline, ImageDelta { tensors })
}

#[test]
fn changes_that_are_told_with_their_values_need_the_whole_image_for_a_base_alone() {
    let (_root, dir) = folder();
    let trusting = journal().with_delta_check(DeltaCheck::Trust);
    let (mut store, _) = MemoryStore::open(&dir, SHARD, trusting).unwrap();
    for chunk in 1..=35 {
        let (outline, delta) = told(chunk);
        let asked = Cell::new(0);
        let whole = || {
            asked.set(asked.get() + 1);
            Cow::Owned(memory_at(chunk))
        };
        let saved = store.save_changes(&outline, &delta, &whole).unwrap();
        let expected = match chunk {
            1 => SavedForm::Snapshot,
            33 => SavedForm::RecordAndBase,
            _ => SavedForm::Record,
        };
        assert_eq!(saved.form, expected, "{chunk}");
        let is_record = expected == SavedForm::Record;
        assert_eq!(asked.get(), u32::from(!is_record), "{chunk}");
        let (image, _) = read_newest(&dir, SHARD, &Limits::default())
            .unwrap()
            .unwrap();
        assert!(image == memory_at(chunk), "{chunk}");
    }
}

#[test]
fn told_values_that_cannot_be_right_are_refused() {
    let (_root, dir) = folder();
    let mut store = saved(&dir, 2);
    let mut refused = |spoil: &dyn Fn(&mut Vec<u32>, &mut Vec<f32>)| {
        let (outline, mut delta) = told(3);
        let Changed::Values {
            coordinates,
            values,
        } = &mut delta.tensors[1].changed
        else {
            panic!("told with their values");
        };
        spoil(coordinates, values);
        let whole = || Cow::Owned(memory_at(3));
        let error = store.save_changes(&outline, &delta, &whole).unwrap_err();
        error.to_string()
    };
    assert!(refused(&|_, values| values.truncate(7)).contains("7 values"));
    assert!(refused(&|_, values| values[7] += 1.0).contains("another value"));
    assert!(refused(&|at, _| at[299] = 60_000).contains("60000"));
    assert!(refused(&|at, _| at.swap(0, 1)).contains("coordinate"));
    let left_out = refused(&|at, values| {
        at.pop();
        values.pop();
    });
    assert!(left_out.contains("left out"), "{left_out}");

    let (outline, _) = told(3);
    let whole = || Cow::Owned(memory_at(3));
    let untold = delta(Changed::Coordinates(changed_by(3)));
    let error = store.save_changes(&outline, &untold, &whole).unwrap_err();
    assert!(error.to_string().contains("not told"), "{error}");
    // Without the whole image beside it, what is not finite or out of order is refused, too.
    drop(store);
    let trusting = journal().with_delta_check(DeltaCheck::Trust);
    let (mut store, _) = MemoryStore::open(&dir, SHARD, trusting).unwrap();
    store.save(&memory_at(2)).unwrap();
    let mut spoilt = |coordinates: [u32; 2], value: f32| {
        let (outline, mut delta) = told(3);
        delta.tensors[0].changed = Changed::Values {
            coordinates: coordinates.to_vec(),
            values: vec![1.0, value],
        };
        store.save_changes(&outline, &delta, &whole).unwrap_err()
    };
    let error = spoilt([5, 5], 1.0);
    assert!(matches!(error, StoreError::BadDelta { .. }), "{error}");
    let error = spoilt([5, 60_000], 1.0);
    assert!(matches!(error, StoreError::BadDelta { .. }), "{error}");
    let error = spoilt([5, 6], f32::NAN);
    assert!(matches!(error, StoreError::NotFinite { .. }), "{error}");
    let (outline, delta) = told(3);
    let saved = store.save_changes(&outline, &delta, &whole).unwrap();
    assert_eq!(saved.form, SavedForm::Record);
}

#[test]
fn a_memory_of_another_shape_starts_a_new_base() {
    let (_root, dir) = folder();
    let mut store = saved(&dir, 3);
    let mut image = memory_at(4);
    image.tensors.pop();
    assert_eq!(store.save(&image).unwrap().form, SavedForm::Snapshot);
    drop(store);
    assert_eq!(open(&dir).1.image, Some(image));
}

#[test]
fn size_decides_unless_the_mode_is_fixed() {
    let form_of_second = |mode| {
        let (_root, dir) = folder();
        let config = journal().with_mode(mode);
        let (mut store, _) = MemoryStore::open(&dir, SHARD, config).unwrap();
        store.save(&memory_at(1)).unwrap();
        store.save(&memory_at(2)).unwrap().form
    };
    let by_size = |journal_above| form_of_second(SaveMode::BySize { journal_above });
    assert_eq!(by_size(100_000), SavedForm::Record);
    assert_eq!(by_size(8 << 20), SavedForm::Snapshot);
    assert_eq!(form_of_second(SaveMode::Snapshot), SavedForm::Snapshot);
    assert_eq!(
        SaveMode::default(),
        SaveMode::BySize {
            journal_above: 8 << 20
        }
    );
}

#[test]
fn rounded_momenta_are_close_and_weights_exact() {
    let (_root, dir) = folder();
    let config = journal().with_precision(Precision::ExactWeights);
    let (mut store, _) = MemoryStore::open(&dir, SHARD, config).unwrap();
    for chunk in 1..=5 {
        store.save(&memory_at(chunk)).unwrap();
    }
    drop(store);
    let (_, recovery) = open(&dir);
    let (found, expected) = (recovery.image.unwrap(), memory_at(5));
    assert_eq!(found.tensors[0], expected.tensors[0]);
    let pairs = found.tensors[1]
        .values
        .iter()
        .zip(&expected.tensors[1].values);
    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst > 0.0 && worst < 1e-7, "{worst}");
}

#[test]
fn a_reader_never_goes_back() {
    let (_root, dir) = folder();
    let store = saved(&dir, 3);
    let old: Vec<_> = names(&dir)
        .into_iter()
        .map(|name| {
            let bytes = fs::read(dir.join(&name)).unwrap();
            (name, bytes)
        })
        .collect();
    drop(store);
    let mut reader = MemoryReader::new(&dir, SHARD, Limits::default());
    assert_eq!(reader.newest().unwrap().unwrap().1.number(), 3);
    let (mut store, _) = open(&dir);
    store.save(&memory_at(4)).unwrap();
    assert_eq!(reader.newest().unwrap().unwrap().1.number(), 4);
    // Somebody puts yesterday's copy of the folder in its place.
    for name in names(&dir) {
        fs::remove_file(dir.join(name)).unwrap();
    }
    for (name, bytes) in old {
        fs::write(dir.join(name), bytes).unwrap();
    }
    let error = reader.newest().unwrap_err();
    assert!(matches!(error, StoreError::Replayed { .. }), "{error}");
}

#[test]
fn a_journal_of_another_history_is_not_applied() {
    let (_first, dir) = folder();
    drop(saved(&dir, 4));
    let (_second, other) = folder();
    let (mut store, _) = open(&other);
    let mut base = memory_at(1);
    base.tensors[0].values[7] += 1.0;
    store.save(&base).unwrap();
    drop(store);
    // The numbers fit and every checksum is right; only the digest of the base is another.
    fs::copy(journal_of(&dir, 1), journal_of(&other, 1)).unwrap();
    let (_, recovery) = open(&other);
    assert_eq!(recovery.image, Some(base));
    assert_eq!(recovery.generation, Some(Generation::new(1)));
    let [skipped] = recovery.skipped.as_slice() else {
        panic!("{:?}", recovery.skipped);
    };
    assert!(
        matches!(skipped.reason, StoreError::Orphan { .. }),
        "{skipped}"
    );
}
