//! A backup gives back what went in, byte for byte, or says which part is not what it was.
#![cfg(feature = "backup")]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use common::{SHARD, image_at};
use titans_store::{
    BackupRequest, BackupSchedule, FolderMode, Generation, Limits, MemoryImage, MemoryStore,
    ModelPart, RestoreRequest, SaveMode, ShardId, StoreConfig, StoreError, create_backup, forget,
    read_newest, restore_backup, verify_backup,
};

const MODEL: &[u8] = &[0x5a; 10_000];
const CONFIG: &[u8] = br#"{"chunk":512}"#;

struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("model.safetensors"), MODEL).unwrap();
        Self { root }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn saved(&self, mode: SaveMode, count: u64) -> MemoryStore {
        let config = StoreConfig::default().with_mode(mode);
        let (mut store, _) = MemoryStore::open(&self.at("shard"), SHARD, config).unwrap();
        for chunk in 1..=count {
            store.save(&image(chunk)).unwrap();
        }
        store
    }

    fn back_up(
        &self,
        request: &BackupRequest<'_>,
    ) -> Result<titans_store::BackupSummary, StoreError> {
        create_backup(&self.at("shard"), SHARD, &self.at("b.tar"), request)
    }
}

fn image(chunk: u64) -> MemoryImage {
    MemoryImage {
        model_digest: Some(*blake3::hash(MODEL).as_bytes()),
        ..image_at(chunk)
    }
}

fn restore<'a>() -> RestoreRequest<'a> {
    RestoreRequest {
        shard: SHARD,
        model_to: None,
        config_to: None,
        key: None,
        limits: Limits::default(),
        folders: FolderMode::OwnerOnly,
    }
}

fn entries(tar: &Path) -> Vec<(String, u64, Vec<u8>)> {
    let mut archive = tar::Archive::new(fs::File::open(tar).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        (name, entry.raw_file_position(), bytes)
    });
    entries.collect()
}

#[test]
fn what_goes_in_comes_out_beside_a_writer() {
    for mode in [SaveMode::Snapshot, SaveMode::Journal] {
        let place = Place::new();
        let store = place.saved(mode, 2);
        let model = place.at("model.safetensors");
        let request = BackupRequest {
            model: ModelPart::Embed(&model),
            config: CONFIG,
            ..BackupRequest::default()
        };
        let summary = place.back_up(&request).unwrap();
        assert_eq!((summary.generation, summary.decoded), (2, true));
        assert!(summary.model.as_ref().unwrap().embedded);
        assert_eq!(
            verify_backup(&place.at("b.tar"), &Limits::default(), None).unwrap(),
            summary
        );
        let model_entry = entries(&place.at("b.tar")).pop().unwrap();
        assert_eq!((model_entry.1 % 4096, model_entry.2.as_slice()), (0, MODEL));

        // Never into the folder of an open store, nor into one that holds a memory.
        let open = restore_backup(&place.at("b.tar"), &place.at("shard"), &restore()).unwrap_err();
        assert!(matches!(open, StoreError::Locked { .. }), "{open}");
        drop(store);
        let full = restore_backup(&place.at("b.tar"), &place.at("shard"), &restore()).unwrap_err();
        assert!(matches!(full, StoreError::NotEmpty { .. }), "{full}");

        let (model_to, config_to) = (place.at("model.back"), place.at("config.back"));
        let request = RestoreRequest {
            model_to: Some(&model_to),
            config_to: Some(&config_to),
            ..restore()
        };
        let restored = restore_backup(&place.at("b.tar"), &place.at("new"), &request).unwrap();
        assert_eq!(restored, summary);
        assert_eq!(fs::read(model_to).unwrap(), MODEL);
        assert_eq!(fs::read(config_to).unwrap(), CONFIG);
        let found = read_newest(&place.at("new"), SHARD, &Limits::default())
            .unwrap()
            .unwrap();
        assert_eq!(found, (image(2), Generation::new(2)));
        let (mut store, _) =
            MemoryStore::open(&place.at("new"), SHARD, StoreConfig::default()).unwrap();
        assert_eq!(store.save(&image(3)).unwrap().generation.number(), 3);
    }
}

#[test]
fn an_older_generation_and_the_digest_alone_can_be_backed_up() {
    let place = Place::new();
    drop(place.saved(SaveMode::Snapshot, 3));
    let model = place.at("model.safetensors");
    let request = BackupRequest {
        model: ModelPart::Reference(&model),
        generation: Some(Generation::new(2)),
        ..BackupRequest::default()
    };
    let summary = place.back_up(&request).unwrap();
    assert_eq!(summary.generation, 2);
    assert!(!summary.model.unwrap().embedded);
    assert!(summary.bytes < MODEL.len() as u64);
    restore_backup(&place.at("b.tar"), &place.at("new"), &restore()).unwrap();
    let found = read_newest(&place.at("new"), SHARD, &Limits::default())
        .unwrap()
        .unwrap();
    assert_eq!(found.0, image(2));
    let to = place.at("model.back");
    let wanted = RestoreRequest {
        model_to: Some(&to),
        ..restore()
    };
    let error = restore_backup(&place.at("b.tar"), &place.at("other"), &wanted).unwrap_err();
    assert!(matches!(error, StoreError::BackupLayout { .. }), "{error}");
    assert!(
        read_newest(&place.at("other"), SHARD, &Limits::default())
            .unwrap()
            .is_none()
    );
    let request = BackupRequest {
        generation: Some(Generation::new(77)),
        ..BackupRequest::default()
    };
    let target = place.at("c.tar");
    let error = create_backup(&place.at("shard"), SHARD, &target, &request).unwrap_err();
    assert!(
        matches!(error, StoreError::NoSuchGeneration { .. }),
        "{error}"
    );
}

#[test]
fn a_model_that_the_memory_does_not_name_is_refused() {
    let place = Place::new();
    drop(place.saved(SaveMode::Snapshot, 1));
    let other = place.at("other.safetensors");
    fs::write(&other, b"another model").unwrap();
    let request = BackupRequest {
        model: ModelPart::Embed(&other),
        ..BackupRequest::default()
    };
    let error = place.back_up(&request).unwrap_err();
    assert!(matches!(error, StoreError::WrongModel { .. }), "{error}");
    assert!(!place.at("b.tar").exists());
}

#[test]
fn another_owner_and_an_existing_target_are_refused() {
    let place = Place::new();
    drop(place.saved(SaveMode::Snapshot, 1));
    place.back_up(&BackupRequest::default()).unwrap();
    let error = place.back_up(&BackupRequest::default()).unwrap_err();
    assert!(
        matches!(error, StoreError::Io { action: "name", .. }),
        "{error}"
    );
    let request = RestoreRequest {
        shard: ShardId([9; 16]),
        ..restore()
    };
    let error = restore_backup(&place.at("b.tar"), &place.at("new"), &request).unwrap_err();
    assert!(matches!(error, StoreError::WrongShard { .. }), "{error}");
    assert!(!place.at("new").exists());
    let left = fs::read_dir(place.root.path()).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(left.into_iter().all(|name| !name.starts_with(".tmp")));
}

/// Flips one byte in each region of the file: every one is noticed, none is restored.
#[test]
fn no_flipped_byte_of_a_backup_is_restored() {
    let place = Place::new();
    drop(place.saved(SaveMode::Snapshot, 1));
    let model = place.at("model.safetensors");
    let request = BackupRequest {
        model: ModelPart::Embed(&model),
        config: CONFIG,
        ..BackupRequest::default()
    };
    place.back_up(&request).unwrap();
    let good = fs::read(place.at("b.tar")).unwrap();
    let bad = place.at("bad.tar");
    for (name, start, bytes) in entries(&place.at("b.tar")) {
        if name == "pad" || name == "oci-layout" {
            continue;
        }
        for at in (start as usize..start as usize + bytes.len()).step_by(97) {
            let mut file = good.clone();
            file[at] ^= 0x04;
            fs::write(&bad, file).unwrap();
            let error = verify_backup(&bad, &Limits::default(), None).unwrap_err();
            let is_named = matches!(
                error,
                StoreError::BackupDigest { .. } | StoreError::BackupLayout { .. }
            );
            assert!(is_named, "{name} byte {at}: {error}");
            assert!(restore_backup(&bad, &place.at("new"), &restore()).is_err());
        }
    }
    for len in [0, 100, 512, 5000, good.len() - 9000] {
        fs::write(&bad, &good[..len]).unwrap();
        assert!(
            verify_backup(&bad, &Limits::default(), None).is_err(),
            "{len} bytes"
        );
    }
    assert!(!place.at("new").exists());
}

#[test]
fn links_and_strange_paths_in_a_backup_touch_nothing() {
    let place = Place::new();
    drop(place.saved(SaveMode::Snapshot, 1));
    place.back_up(&BackupRequest::default()).unwrap();
    let mut builder = tar::Builder::new(fs::File::create(place.at("bad.tar")).unwrap());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder
        .append_link(&mut header, "blobs/sha256/x", "/etc/passwd")
        .unwrap();
    builder.finish().unwrap();
    let error = verify_backup(&place.at("bad.tar"), &Limits::default(), None).unwrap_err();
    assert!(error.to_string().contains("no regular file"), "{error}");
}

#[test]
fn the_schedule_knows_the_backup_and_forgetting_removes_it() {
    let place = Place::new();
    drop(place.saved(SaveMode::Snapshot, 1));
    place.back_up(&BackupRequest::default()).unwrap();
    let schedule = BackupSchedule::load(&place.at("shard")).unwrap();
    assert_eq!(schedule.backups, [place.at("b.tar")]);
    assert!(schedule.last_unix.unwrap() > 1_600_000_000);
    let receipt = forget(&place.at("shard"), SHARD, None).unwrap();
    assert_eq!(receipt.backups, [place.at("b.tar")]);
    assert!(!place.at("b.tar").exists());
    let error = restore_backup(&place.at("b.tar"), &place.at("shard"), &restore()).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
}

#[cfg(feature = "encryption")]
#[test]
fn an_encrypted_memory_stays_encrypted_in_its_backup() {
    use titans_store::UserKey;
    let place = Place::new();
    let key = UserKey::generate().unwrap();
    let dir = place.at("shard");
    let config = StoreConfig::default();
    let (mut store, _) = MemoryStore::open_encrypted(&dir, SHARD, config, key.clone()).unwrap();
    store.save(&image(1)).unwrap();
    assert!(
        place.back_up(&BackupRequest::default()).is_err(),
        "no key, no generation"
    );
    let request = BackupRequest {
        key: Some(&key),
        ..BackupRequest::default()
    };
    place.back_up(&request).unwrap();
    let without = verify_backup(&place.at("b.tar"), &Limits::default(), None).unwrap();
    assert!(!without.decoded);
    restore_backup(&place.at("b.tar"), &place.at("new"), &restore()).unwrap();
    let (_, recovery) = MemoryStore::open_encrypted(&place.at("new"), SHARD, config, key).unwrap();
    assert_eq!(recovery.image, Some(image(1)));
}
