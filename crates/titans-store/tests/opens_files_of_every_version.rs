//! Files that version 1 wrote open in every later version: exact, compact, sealed, and a folder
//! with a journal. `TITANMEM_WRITE_FIXTURE=1` writes those that are missing; none ever changes.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::PathBuf;

use common::{SHARD, small_image, small_stamp};
use titans_store::{
    Limits, MemoryImage, MemoryStore, Precision, SaveMode, StoreConfig, decode, encode_as,
};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn writes() -> bool {
    std::env::var_os("TITANMEM_WRITE_FIXTURE").is_some()
}

fn compact_image() -> MemoryImage {
    let mut image = small_image();
    image.tensors.remove(0);
    image
}

#[test]
fn a_compact_file() {
    let path = fixture("v1-compact.titanmem");
    if writes() && !path.exists() {
        let file = encode_as(&compact_image(), &small_stamp(), Precision::Compact).unwrap();
        fs::write(&path, file).unwrap();
    }
    let (image, stamp) = decode(&fs::read(path).unwrap(), &Limits::default()).unwrap();
    assert_eq!(image, *Precision::Compact.round(&compact_image()).unwrap());
    assert_eq!(stamp, small_stamp());
}

fn image_at(chunk: u64) -> MemoryImage {
    let mut image = small_image();
    image.last_chunk_id = chunk;
    for past in 1..=chunk as usize {
        image.tensors[2].values[past * 31] = past as f32 / 8.0;
        image.tensors[3].values[past * 7] = -1.0;
    }
    image
}

#[test]
fn a_folder_with_a_journal() {
    let folder = fixture("v1-folder");
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("shard");
    let config = StoreConfig::default().with_mode(SaveMode::Journal);
    if writes() && !folder.exists() {
        let (mut store, _) = MemoryStore::open(&dir, SHARD, config).unwrap();
        (1..=3).for_each(|chunk| drop(store.save(&image_at(chunk)).unwrap()));
        drop(store);
        fs::create_dir(&folder).unwrap();
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != "LOCK" {
                fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
            }
        }
        fs::remove_dir_all(&dir).unwrap();
    }
    MemoryStore::open(&dir, SHARD, config).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    let (store, recovery) = MemoryStore::open(&dir, SHARD, config).unwrap();
    assert_eq!(recovery.image, Some(image_at(3)));
    assert!(recovery.skipped.is_empty() && recovery.torn.is_empty());
    for generation in store.generations().unwrap() {
        assert_eq!(
            store.load(generation).unwrap(),
            image_at(generation.number())
        );
    }
    let names: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        names
            .iter()
            .any(|name| name.to_str().unwrap().ends_with(".titanlog"))
    );
}

#[cfg(feature = "encryption")]
#[test]
fn a_sealed_file() {
    use titans_store::{UserKey, decode_with};
    let path = fixture("v1-sealed.titanmem");
    let key = UserKey::from_bytes([0x5e; 32]);
    if writes() && !path.exists() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("shard");
        let config = StoreConfig::default();
        let (mut store, _) = MemoryStore::open_encrypted(&dir, SHARD, config, key.clone()).unwrap();
        fs::copy(store.save(&small_image()).unwrap().path, &path).unwrap();
    }
    let file = fs::read(path).unwrap();
    let (image, _) = decode_with(&file, &Limits::default(), Some(&key)).unwrap();
    assert_eq!(image, small_image());
}
