//! With a key nothing readable reaches the disk, and without it nothing can be read back.
#![cfg(feature = "encryption")]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{Parts, SHARD, image_at, small_image, tensor};
use titans_store::{
    Erasure, Limits, MemoryImage, MemoryReader, MemoryStore, SaveMode, StoreConfig, StoreError,
    TensorRole, UserKey, forget, read_newest, verify_dir_with,
};

const CONFIG: fn(SaveMode) -> StoreConfig = |mode| StoreConfig::default().with_mode(mode);

/// Text and numbers that must not be found on the disk.
const CANARY: &str = "canary-3141592653589793";

fn secret_at(chunk: u64) -> MemoryImage {
    let mut image = image_at(chunk);
    image.extra = [("note".to_owned(), CANARY.to_owned())].into();
    image
        .tensors
        .push(tensor("s", TensorRole::Weights, &[64], vec![1.0e30; 64]));
    image
}

fn open(dir: &Path, mode: SaveMode, key: &UserKey) -> Result<MemoryStore, StoreError> {
    MemoryStore::open_encrypted(dir, SHARD, CONFIG(mode), key.clone()).map(|(store, _)| store)
}

#[test]
fn what_is_saved_with_a_key_opens_with_it_and_only_with_it() {
    for mode in [SaveMode::Snapshot, SaveMode::Journal] {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("shard");
        let (key, other) = (UserKey::generate().unwrap(), UserKey::generate().unwrap());
        let mut store = open(&dir, mode, &key).unwrap();
        for chunk in 1..=3 {
            let saved = store.save(&secret_at(chunk)).unwrap();
            store.pin_last_known_good(saved.generation).unwrap();
        }
        drop(store);
        for entry in fs::read_dir(&dir).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            let found = bytes
                .windows(8)
                .any(|window| window == &CANARY.as_bytes()[..8]);
            assert!(!found, "readable text on the disk");
        }
        let error = open(&dir, mode, &other).unwrap_err();
        assert!(
            matches!(error.cause(), StoreError::WrongKey { .. }),
            "{error}"
        );
        let error = MemoryStore::open(&dir, SHARD, CONFIG(mode)).unwrap_err();
        assert!(matches!(error.cause(), StoreError::KeyNeeded), "{error}");
        assert!(!error.is_damage());
        let error = read_newest(&dir, SHARD, &Limits::default()).unwrap_err();
        assert!(matches!(error.cause(), StoreError::KeyNeeded), "{error}");
        // None of these has moved or removed anything.
        let limits = Limits::default();
        let verdicts = verify_dir_with(&dir, &limits, Some(&key)).unwrap();
        assert!(verdicts.iter().all(|verdict| verdict.problem.is_none()));
        let mut reader = MemoryReader::new(&dir, SHARD, limits).with_key(key.clone());
        assert_eq!(reader.newest().unwrap().unwrap().0, secret_at(3));
        let (store, recovery) =
            MemoryStore::open_encrypted(&dir, SHARD, CONFIG(mode), key.clone()).unwrap();
        assert_eq!(recovery.image, Some(secret_at(3)));
        assert_eq!(
            store.load(recovery.generation.unwrap()).unwrap(),
            secret_at(3)
        );
    }
}

#[test]
fn a_plain_file_is_not_believed_where_a_key_is_given() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("shard");
    let (mut store, _) = MemoryStore::open(&dir, SHARD, StoreConfig::default()).unwrap();
    store.save(&small_image()).unwrap();
    drop(store);
    let key = UserKey::generate().unwrap();
    let error = open(&dir, SaveMode::Snapshot, &key).unwrap_err();
    assert!(matches!(error.cause(), StoreError::NotEncrypted), "{error}");
}

#[test]
fn sections_cannot_change_places_or_owners() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("shard");
    let key = UserKey::from_bytes([9; 32]);
    let mut image = secret_at(1);
    image.tensors = vec![
        tensor("a", TensorRole::Weights, &[64], vec![1.5; 64]),
        tensor("b", TensorRole::Weights, &[64], vec![2.5; 64]),
    ];
    let saved = open(&dir, SaveMode::Snapshot, &key)
        .unwrap()
        .save(&image)
        .unwrap();
    let good = fs::read(&saved.path).unwrap();
    let tampered = |change: fn(&mut Parts)| {
        let mut parts = Parts::of(&good);
        change(&mut parts);
        fs::write(&saved.path, parts.assemble()).unwrap();
        let verdicts = verify_dir_with(&dir, &Limits::default(), Some(&key)).unwrap();
        verdicts[0].problem.as_ref().unwrap().to_string()
    };
    let moved = tampered(|parts| parts.sections.swap(1, 2));
    assert!(moved.contains("does not open with this key"), "{moved}");
    let epoch = tampered(|parts| parts.preamble[48] ^= 1);
    assert!(epoch.contains("does not open with this key"), "{epoch}");
    let sum = tampered(|parts| parts.sections[1].row[36] = 1);
    assert!(sum.contains("raw checksum of a sealed section"), "{sum}");
    fs::write(&saved.path, good).unwrap();
    open(&dir, SaveMode::Snapshot, &key).unwrap();
}

#[test]
fn a_key_file_is_private_and_can_be_destroyed() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("user.key");
    let key = UserKey::generate().unwrap();
    key.write_new(&path).unwrap();
    assert!(
        matches!(key.write_new(&path), Err(StoreError::Io { .. })),
        "never overwritten"
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(format!("{key:?}"), "UserKey(..)");

    let dir = root.path().join("shard");
    open(&dir, SaveMode::Snapshot, &key)
        .unwrap()
        .save(&secret_at(1))
        .unwrap();
    let stolen = fs::read(dir.join("g-00000000000000000001.titanmem")).unwrap();
    open(&dir, SaveMode::Snapshot, &UserKey::read(&path).unwrap()).unwrap();
    let receipt = forget(&dir, SHARD, Some(&path)).unwrap();
    assert_eq!(receipt.erasure, Erasure::KeyDestroyed);
    assert!(matches!(UserKey::read(&path), Err(StoreError::Io { .. })));
    UserKey::destroy(&path).unwrap();
    // A copy that got away is noise without the key.
    let error = titans_store::decode(&stolen, &Limits::default()).unwrap_err();
    assert!(matches!(error, StoreError::KeyNeeded));

    fs::write(&path, [0; 31]).unwrap();
    assert!(matches!(
        UserKey::read(&path),
        Err(StoreError::NotAKey { .. })
    ));
    fs::write(&path, [0; 33]).unwrap();
    assert!(matches!(
        UserKey::read(&path),
        Err(StoreError::NotAKey { .. })
    ));
}
