//! A folder of memories is opened by what its files say, without a configuration.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{CHUNK, Stream, config, only_memory};
use titans_core::{Preset, SparseChannelMlp};
use titans_runtime::{ExistingError, OpenError, Runtime, RuntimeConfig};
use titans_store::{Limits, MemoryImage, MemoryStore, StoreConfig, inspect_newest, read_newest};

/// A folder in which some users have memories.
fn remember(dir: &Path, config: RuntimeConfig, users: &[&str], stream: &Stream) -> Vec<f32> {
    let runtime = Runtime::open(dir, config).unwrap();
    let mut recalled = Vec::new();
    for user in users {
        let memory = runtime.user(*user).unwrap();
        drop(stream.observe(&memory, 0..stream.tokens()).unwrap());
        memory.flush().unwrap();
        recalled = stream.recall(&memory);
    }
    recalled
}

fn refused(dir: &Path) -> (ExistingError, String) {
    match Runtime::open_existing(dir).unwrap_err() {
        OpenError::Existing(error) => {
            let text = error.to_string();
            (error, text)
        }
        other => panic!("{other}"),
    }
}

/// Saves the only memory below `root` anew, with a header that says something else.
fn change_header(root: &Path, change: impl FnOnce(&mut MemoryImage)) {
    let dir = only_memory(root);
    let newest = inspect_newest(&dir, &Limits::default(), None)
        .unwrap()
        .unwrap();
    let number = u128::from_str_radix(&newest.shard, 16).unwrap();
    let shard = titans_runtime::ShardId(number.to_be_bytes());
    let (mut image, _) = read_newest(&dir, shard, &Limits::default())
        .unwrap()
        .unwrap();
    change(&mut image);
    let (mut store, _) = MemoryStore::open(&dir, shard, StoreConfig::default()).unwrap();
    store.save(&image).unwrap();
}

#[test]
fn a_memory_of_any_preset_goes_on_as_it_was() {
    for &preset in Preset::ALL {
        let root = tempfile::tempdir().unwrap();
        let mut given = RuntimeConfig::preset(preset).with_chunk_tokens(CHUNK);
        (given.memory.key_dim, given.memory.value_dim) = (16, 8);
        given.memory.seed = 7;
        let stream = Stream::new(2 * CHUNK, 1);
        let before = remember(root.path(), given.clone(), &["ada"], &stream);
        let runtime = Runtime::open_existing(root.path()).unwrap();
        assert_eq!(runtime.config().memory, given.memory, "{preset}");
        let after = stream.recall(&runtime.user("ada").unwrap());
        assert_eq!(after, before, "{preset}");
    }
}

#[test]
fn the_rest_of_the_configuration_is_the_callers() {
    let root = tempfile::tempdir().unwrap();
    let stream = Stream::new(CHUNK, 1);
    remember(root.path(), config(), &["ada", "tom"], &stream);
    let rest = RuntimeConfig::preset(Preset::Delta)
        .with_chunk_tokens(7)
        .with_savers(2);
    let runtime = Runtime::open_existing_with(root.path(), rest).unwrap();
    let found = runtime.config();
    assert_eq!(found.memory, config().memory);
    assert_eq!((found.chunk_tokens, found.savers), (7, 2));
}

#[test]
fn without_a_memory_nothing_says_what_one_is() {
    let root = tempfile::tempdir().unwrap();
    let absent = root.path().join("absent");
    let (error, text) = refused(&absent);
    assert!(matches!(error, ExistingError::NoFolder { .. }), "{text}");
    assert!(!absent.exists(), "looking makes no folder");
    assert!(text.contains("Runtime::open"), "{text}");

    let empty = root.path().join("empty");
    drop(Runtime::open(&empty, config()).unwrap());
    let (error, text) = refused(&empty);
    assert!(matches!(error, ExistingError::NoMemory { .. }), "{text}");
    assert!(
        text.contains("Runtime::open with a configuration"),
        "{text}"
    );
}

#[test]
fn memories_of_two_configurations_are_named_both() {
    let root = tempfile::tempdir().unwrap();
    let stream = Stream::new(CHUNK, 1);
    remember(root.path(), config(), &["ada"], &stream);
    let mut other = config();
    other.memory.miras.architecture =
        titans_core::MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
            channels: 128,
            active_channels: 8,
        });
    remember(root.path(), other, &["tom"], &stream);
    let (error, text) = refused(root.path());
    let ExistingError::Different { first, other } = error else {
        panic!("{text}");
    };
    assert!(first.starts_with(root.path()) && other.starts_with(root.path()) && first != other);
    assert!(text.contains("titanmem inspect --config"), "{text}");
}

#[test]
fn a_choice_that_this_build_does_not_have_is_named() {
    let root = tempfile::tempdir().unwrap();
    remember(root.path(), config(), &["ada"], &Stream::new(CHUNK, 1));
    change_header(root.path(), |image| {
        image.model.retention_gate.name = "bregman".to_owned()
    });
    let (error, text) = refused(root.path());
    assert!(matches!(error, ExistingError::Unknown { .. }), "{text}");
    assert!(
        text.contains("unknown retention gate \"bregman\"; this build knows none"),
        "{text}"
    );
}

#[test]
fn a_file_that_does_not_say_all_is_told_from_one_that_does() {
    for (what, change) in [
        ("seed", "not a number"),
        ("update", "update_size"),
        ("key_dim", ""),
    ] {
        let root = tempfile::tempdir().unwrap();
        remember(root.path(), config(), &["ada"], &Stream::new(CHUNK, 1));
        change_header(root.path(), |image| {
            image.extra.insert(what.to_owned(), change.to_owned());
        });
        let (error, text) = refused(root.path());
        assert!(
            matches!(error, ExistingError::Unsaid { what: said, .. } if said == what),
            "{text}"
        );
    }
}

#[test]
fn a_damaged_memory_says_nothing_while_another_is_whole() {
    let root = tempfile::tempdir().unwrap();
    let stream = Stream::new(CHUNK, 1);
    remember(root.path(), config(), &["ada"], &stream);
    let dir = only_memory(root.path());
    remember(root.path(), config(), &["tom"], &stream);
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "titanmem")
        {
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let runtime = Runtime::open_existing(root.path()).unwrap();
    assert_eq!(runtime.config().memory, config().memory);
    drop(runtime);

    let runtime = Runtime::open(root.path(), config()).unwrap();
    runtime.forget_user("tom").unwrap().unwrap();
    drop(runtime);
    assert!(matches!(
        Runtime::open_existing(root.path()).unwrap_err(),
        OpenError::Store(_)
    ));
}
