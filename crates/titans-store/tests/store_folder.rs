//! A folder of generations on a real disk: what stays, what goes, and what is told.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::{SHARD, image_at, reseal};
use tempfile::TempDir;
use titans_store::{
    Generation, Kept, Limits, MemoryStore, Recovery, ShardId, StoreConfig, StoreError, read_newest,
    verify_dir,
};

fn folder() -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("users").join("shard");
    (root, dir)
}

fn open(dir: &Path) -> (MemoryStore, Recovery) {
    MemoryStore::open(dir, SHARD, StoreConfig::default()).unwrap()
}

fn refused(dir: &Path, shard: ShardId) -> StoreError {
    MemoryStore::open(dir, shard, StoreConfig::default()).expect_err("opening is refused")
}

/// A folder with generations 1 to `count`, closed.
fn saved(dir: &Path, count: u64) {
    let (mut store, _) = open(dir);
    for chunk in 1..=count {
        store.save(&image_at(chunk)).unwrap();
    }
}

fn numbers(store: &MemoryStore) -> Vec<u64> {
    let generations = store.generations().unwrap();
    generations.into_iter().map(Generation::number).collect()
}

fn file(dir: &Path, number: u64) -> PathBuf {
    dir.join(Generation::new(number).file_name())
}

fn pin(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("lkg-{number:020}.titanmem"))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_empty_folder_recovers_nothing_and_is_closed_to_others() {
    let (_root, dir) = folder();
    let (store, recovery) = open(&dir);
    assert!(recovery.image.is_none() && recovery.skipped.is_empty());
    assert_eq!(
        fs::metadata(&dir).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert_eq!(numbers(&store), [0; 0]);
    assert_eq!(read_newest(&dir, SHARD, &Limits::default()).unwrap(), None);
}

#[test]
fn what_was_saved_last_is_what_opens() {
    let (_root, dir) = folder();
    saved(&dir, 2);
    let (mut store, recovery) = open(&dir);
    assert_eq!(recovery.image, Some(image_at(2)));
    assert_eq!(recovery.generation, Some(Generation::new(2)));
    let third = store.save(&image_at(3)).unwrap();
    assert_eq!(third.generation.number(), 3);
    let metadata = fs::metadata(&third.path).unwrap();
    assert_eq!(metadata.len(), third.file_bytes);
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(store.load(Generation::new(1)).unwrap(), image_at(1));
    let missing = store.load(Generation::new(9)).unwrap_err();
    assert!(matches!(missing, StoreError::NoSuchGeneration { .. }));
}

#[test]
fn generations_name_their_parent_and_the_epoch_rises_with_every_writer() {
    let (_root, dir) = folder();
    saved(&dir, 1);
    saved(&dir, 1);
    let summary = |number| titans_store::inspect(&fs::read(file(&dir, number)).unwrap()).unwrap();
    let (first, second) = (summary(1), summary(2));
    assert_eq!((first.writer_epoch, second.writer_epoch), (1, 2));
    assert_eq!(first.parent_sequence, None);
    assert_eq!(second.parent_sequence, Some(1));
    assert_eq!(second.parent_digest, Some(first.digest));
}

#[test]
fn a_damaged_newest_falls_back_to_the_one_before_and_says_so() {
    let (_root, dir) = folder();
    saved(&dir, 3);
    damage(&file(&dir, 3));
    let (mut store, recovery) = open(&dir);
    assert_eq!(recovery.image, Some(image_at(2)));
    let [skipped] = recovery.skipped.as_slice() else {
        panic!("{:?}", recovery.skipped);
    };
    assert_eq!(skipped.generation, Generation::new(3));
    assert_eq!(skipped.kept, Kept::InQuarantine);
    assert!(skipped.path.is_file() && skipped.path.parent().unwrap().ends_with("quarantine"));
    let sentence = skipped.to_string();
    assert!(
        sentence.starts_with("generation 3 is damaged (digest of the file is"),
        "{sentence}"
    );
    assert!(!sentence.contains('\n'));
    // The number of the lost generation is not used again.
    assert_eq!(store.save(&image_at(9)).unwrap().generation.number(), 4);
}

#[test]
fn all_damaged_recovers_nothing_and_lists_everything() {
    let (_root, dir) = folder();
    saved(&dir, 4);
    fs::write(file(&dir, 4), b"").unwrap();
    fs::write(file(&dir, 3), [0; 4096]).unwrap();
    damage(&file(&dir, 2));
    fs::write(file(&dir, 1), b"\x89TTM").unwrap();
    let (mut store, recovery) = open(&dir);
    assert!(recovery.image.is_none() && recovery.generation.is_none());
    let skipped: Vec<_> = recovery
        .skipped
        .iter()
        .map(|s| s.generation.number())
        .collect();
    assert_eq!(skipped.len(), 4, "{skipped:?}");
    for skipped in &recovery.skipped {
        assert_eq!(skipped.path.exists(), skipped.kept == Kept::InQuarantine);
    }
    assert_eq!(names(&dir.join("quarantine")).len(), 2);
    assert_eq!(store.save(&image_at(1)).unwrap().generation.number(), 5);
}

#[test]
fn a_file_under_the_wrong_number_is_damage() {
    let (_root, dir) = folder();
    saved(&dir, 2);
    fs::rename(file(&dir, 2), file(&dir, 7)).unwrap();
    let (_store, recovery) = open(&dir);
    assert_eq!(recovery.image, Some(image_at(1)));
    let reason = recovery.skipped[0].reason.cause();
    assert!(
        matches!(reason, StoreError::WrongSequence { .. }),
        "{reason}"
    );
}

#[test]
fn a_late_writer_does_not_outrank_its_successor() {
    let (_root, dir) = folder();
    saved(&dir, 2);
    saved(&dir, 1);
    // A file with a higher number but the epoch of the first writer.
    let mut late = fs::read(file(&dir, 2)).unwrap();
    late[40] = 9;
    let trailer = late.len() - 64;
    late[trailer + 40] = 9;
    fs::write(file(&dir, 9), reseal(late)).unwrap();
    let (store, recovery) = open(&dir);
    assert_eq!(recovery.generation, Some(Generation::new(3)));
    assert_eq!(store.writer_epoch(), 3);
}

#[test]
fn a_second_writer_is_refused_until_the_first_is_gone() {
    let (_root, dir) = folder();
    let (store, _) = open(&dir);
    let error = refused(&dir, SHARD);
    assert!(matches!(error, StoreError::Locked { .. }));
    assert!(
        error
            .to_string()
            .ends_with("LOCK is held by another writer"),
        "{error}"
    );
    drop(store);
    open(&dir);
    assert!(dir.join("LOCK").exists());
}

#[test]
fn another_shard_is_refused_and_nothing_is_moved() {
    let (_root, dir) = folder();
    saved(&dir, 2);
    let before = names(&dir);
    let stranger = ShardId([1; 16]);
    let error = refused(&dir, stranger);
    assert!(
        matches!(error.cause(), StoreError::WrongShard { .. }),
        "{error}"
    );
    let error = read_newest(&dir, stranger, &Limits::default()).unwrap_err();
    assert!(
        matches!(error.cause(), StoreError::WrongShard { .. }),
        "{error}"
    );
    assert_eq!(names(&dir), before);
    let (mut store, _) = open(&dir);
    let mut image = image_at(3);
    image.shard = stranger;
    assert!(matches!(
        store.save(&image),
        Err(StoreError::WrongShard { .. })
    ));
}

#[test]
fn a_file_from_the_future_is_refused_and_not_passed_over() {
    let (_root, dir) = folder();
    saved(&dir, 2);
    let mut bytes = fs::read(file(&dir, 2)).unwrap();
    bytes[8] = 2;
    fs::write(file(&dir, 2), reseal(bytes)).unwrap();
    let error = refused(&dir, SHARD);
    assert!(
        matches!(error.cause(), StoreError::UnknownMajor { found: 2, .. }),
        "{error}"
    );
    assert!(file(&dir, 2).exists());
}

#[test]
fn a_folder_with_unknown_write_features_is_read_only() {
    let (_root, dir) = folder();
    saved(&dir, 1);
    let mut bytes = fs::read(file(&dir, 1)).unwrap();
    bytes[16] = 4;
    fs::write(file(&dir, 1), reseal(bytes)).unwrap();
    let (mut store, recovery) = open(&dir);
    assert_eq!(recovery.image, Some(image_at(1)));
    let error = store.save(&image_at(2)).unwrap_err();
    assert!(
        matches!(error, StoreError::ReadOnly { found: 4, .. }),
        "{error}"
    );
}

#[test]
fn stray_temporaries_are_swept_and_other_files_left() {
    let (_root, dir) = folder();
    saved(&dir, 1);
    fs::write(dir.join(".tmp-12-34"), b"half").unwrap();
    fs::write(dir.join("notes.txt"), b"mine").unwrap();
    // Whoever notes a backup holds no lock, and may be about to give this its name.
    fs::write(dir.join(".tmp-backups"), b"being written").unwrap();
    let (_store, recovery) = open(&dir);
    assert!(recovery.skipped.is_empty());
    let newest = Generation::new(1).file_name();
    let left = [".tmp-backups", "LOCK", newest.as_str(), "notes.txt"];
    assert_eq!(names(&dir), left);
}

#[test]
fn pruning_keeps_the_newest_three_before_it_and_the_pinned_one() {
    let (_root, dir) = folder();
    let (mut store, _) = open(&dir);
    for chunk in 1..=9 {
        let saved = store.save(&image_at(chunk)).unwrap();
        if chunk == 2 || chunk == 3 {
            store.pin_last_known_good(saved.generation).unwrap();
            assert_eq!(store.last_known_good().unwrap(), Some(saved.generation));
        }
    }
    assert_eq!(numbers(&store), [3, 6, 7, 8, 9]);
    assert!(pin(&dir, 3).exists() && !pin(&dir, 2).exists());
    assert_eq!(store.load(Generation::new(3)).unwrap(), image_at(3));
    // Pinning what is pinned already is allowed, even when only the pin is left.
    store.pin_last_known_good(Generation::new(3)).unwrap();
    let gone = store.pin_last_known_good(Generation::new(4)).unwrap_err();
    assert!(matches!(gone, StoreError::NoSuchGeneration { .. }));
}

#[test]
fn the_pinned_generation_is_tried_last() {
    let (_root, dir) = folder();
    let (mut store, _) = open(&dir);
    for chunk in 1..=6 {
        let saved = store.save(&image_at(chunk)).unwrap();
        if chunk == 1 {
            store.pin_last_known_good(saved.generation).unwrap();
        }
    }
    drop(store);
    assert_eq!(open(&dir).1.image, Some(image_at(6)));
    for number in 3..=6 {
        damage(&file(&dir, number));
    }
    let (_store, recovery) = open(&dir);
    assert_eq!(recovery.image, Some(image_at(1)));
    assert_eq!(recovery.skipped.len(), 4);
}

#[test]
fn readers_see_the_newest_beside_a_writer_and_move_nothing() {
    let (_root, dir) = folder();
    let (mut store, _) = open(&dir);
    for chunk in 1..=3 {
        store.save(&image_at(chunk)).unwrap();
        let (image, generation) = read_newest(&dir, SHARD, &Limits::default())
            .unwrap()
            .unwrap();
        assert_eq!((image, generation.number()), (image_at(chunk), chunk));
    }
    damage(&file(&dir, 3));
    let (image, _) = read_newest(&dir, SHARD, &Limits::default())
        .unwrap()
        .unwrap();
    assert_eq!(image, image_at(2));
    assert!(file(&dir, 3).exists());
    for number in 1..=2 {
        damage(&file(&dir, number));
    }
    let error = read_newest(&dir, SHARD, &Limits::default()).unwrap_err();
    assert!(
        error.is_damage() && error.to_string().contains("g-00000000000000000003"),
        "{error}"
    );
    let absent = read_newest(&dir.join("absent"), SHARD, &Limits::default()).unwrap();
    assert_eq!(absent, None);
}

#[test]
fn verdicts_name_every_damaged_file() {
    let (_root, dir) = folder();
    saved(&dir, 3);
    damage(&file(&dir, 2));
    let verdicts = verify_dir(&dir, &Limits::default()).unwrap();
    let bad: Vec<_> = verdicts.iter().filter(|v| v.problem.is_some()).collect();
    assert_eq!((verdicts.len(), bad.len()), (3, 1));
    assert_eq!(bad[0].path, file(&dir, 2));
    assert_eq!(verdicts[0].shard, Some(SHARD));
    let mut stranger = fs::read(file(&dir, 3)).unwrap();
    stranger[56] ^= 1;
    fs::write(file(&dir, 3), reseal(stranger)).unwrap();
    let verdicts = verify_dir(&dir, &Limits::default()).unwrap();
    assert!(matches!(
        verdicts[2].problem,
        Some(StoreError::WrongShard { .. })
    ));
    assert!(verify_dir(&dir.join("absent"), &Limits::default()).is_err());
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let (root, dir) = folder();
    saved(&dir, 1);
    let elsewhere = root.path().join("elsewhere");
    fs::rename(file(&dir, 1), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, file(&dir, 1)).unwrap();
    let (_store, recovery) = open(&dir);
    assert!(recovery.image.is_none());
    assert!(elsewhere.exists());
}

#[test]
fn a_file_larger_than_the_limit_is_an_error_and_not_damage() {
    let (_root, dir) = folder();
    saved(&dir, 1);
    let config = StoreConfig::default().with_limits(Limits::default().with_max_file_bytes(100));
    let error = MemoryStore::open(&dir, SHARD, config).unwrap_err();
    assert!(matches!(error.cause(), StoreError::Limit { .. }), "{error}");
    assert!(file(&dir, 1).exists());
}

#[test]
fn folders_that_cannot_or_must_not_be_written_are_errors() {
    let (root, dir) = folder();
    let plain = root.path().join("plain");
    fs::write(&plain, b"").unwrap();
    let error = refused(&plain.join("shard"), SHARD);
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    assert!(error.to_string().contains("plain/shard"), "{error}");

    open(&dir);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    let error = refused(&dir, SHARD);
    assert!(
        matches!(error, StoreError::OpenToOthers { mode: 0o777, .. }),
        "{error}"
    );

    fs::remove_file(dir.join("LOCK")).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o500)).unwrap();
    // The superuser may write anywhere, so there is nothing to see.
    if fs::write(dir.join("probe"), b"").is_err() {
        let error = refused(&dir, SHARD);
        assert!(
            matches!(error, StoreError::Io { action: "lock", .. }),
            "{error}"
        );
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
}
