//! Optional parts of a later version survive a rewrite by this one.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Part, Parts, SHARD, image_at, reseal, small_image};
use titans_store::{Generation, MemoryStore, SaveMode, StoreConfig};

/// An optional section of an unknown kind, with an unknown codec.
fn unknown() -> Part {
    let mut part = Part::plain(777, 1, b"of a later version".to_vec());
    part.row[2] = 9;
    part
}

fn with_unknown_parts(file: &[u8]) -> Vec<u8> {
    let mut parts = Parts::of(file);
    parts.preamble[20] = 0x40;
    parts.sections.insert(1, unknown());
    parts.assemble()
}

#[test]
fn unknown_sections_and_bits_are_carried_through_saves_journals_and_rollbacks() {
    for mode in [SaveMode::Snapshot, SaveMode::Journal] {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("shard");
        let config = StoreConfig::default().with_mode(mode);
        let open = || MemoryStore::open(&dir, SHARD, config).unwrap();
        open().0.save(&image_at(1)).unwrap();
        let first = dir.join(Generation::new(1).file_name());
        fs::write(&first, with_unknown_parts(&fs::read(&first).unwrap())).unwrap();

        let (mut store, recovery) = open();
        assert_eq!(recovery.image, Some(image_at(1)));
        store.save(&image_at(2)).unwrap();
        store.save(&image_at(3)).unwrap();
        drop(store);
        let (mut store, recovery) = open();
        assert_eq!(recovery.image, Some(image_at(3)));
        let last = store.roll_back_to(Generation::new(2)).unwrap();
        let parts = Parts::of(&fs::read(last.path).unwrap());
        assert_eq!(parts.preamble[20], 0x40, "{mode:?}");
        let kept = parts.sections.last().unwrap();
        assert_eq!(kept.stored, unknown().stored, "{mode:?}");
        assert_eq!(
            kept.row[..8],
            unknown().row[..8],
            "kind, codec, element and flags"
        );
        assert_eq!(parts.sections.len(), 1 + image_at(2).tensors.len() + 1);
    }
}

#[test]
fn unknown_parts_change_nothing_of_what_is_read() {
    let file = with_unknown_parts(&common::small_file());
    assert_eq!(reseal(file.clone()), file);
    let (image, _) = titans_store::decode(&file, &titans_store::Limits::default()).unwrap();
    assert_eq!(image, small_image());
}
