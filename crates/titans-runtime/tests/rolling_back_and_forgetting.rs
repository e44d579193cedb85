//! A rollback restores what was pinned, bit for bit, and goes on from there; forgetting
//! leaves nothing in memory or on disk.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/disk.rs"]
mod disk;

use std::fs;
use std::path::Path;

use common::{CHUNK, KEY_DIM, Stream, VALUE_DIM, config, newest_image, only_memory, open};
use disk::{Fault, Injector};
use titans_runtime::{CommandError, Erasure, Place, Rows, Runtime, Stopped, WaitError};

#[test]
fn a_rollback_restores_what_was_pinned_and_learning_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let runtime = open(root.path());
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::new(6 * CHUNK, 1);
    stream.observe(&memory, 0..2 * CHUNK + 3).unwrap();
    memory.pin().unwrap();
    let pinned = newest_image(&only_memory(root.path()), memory.shard());
    let known = stream.recall(&memory);

    let ticket = stream.observe(&memory, 2 * CHUNK + 3..6 * CHUNK).unwrap();
    ticket.wait().unwrap();
    assert!(stream.recall(&memory) != known);
    let rolled_back = memory.roll_back().unwrap();
    assert_eq!(rolled_back.tokens, 2 * CHUNK as u64 + 3);
    assert_eq!(rolled_back.tokens_dropped, 4 * CHUNK as u64 - 3);
    assert!(stream.recall(&memory) == known);
    assert!(matches!(ticket.wait(), Err(WaitError::RolledBack)));
    assert!(!ticket.is_visible());

    let mut restored = newest_image(&only_memory(root.path()), memory.shard());
    assert!(restored.rolled_back_from.take().is_some());
    assert!(restored == pinned);

    // The same tokens again give what never rolling back gives.
    stream.observe(&memory, 2 * CHUNK + 3..6 * CHUNK).unwrap();
    memory.flush().unwrap();
    let alone = tempfile::tempdir().unwrap();
    let other = open(alone.path());
    let never = other.user("alice").unwrap();
    stream.observe(&never, 0..2 * CHUNK + 3).unwrap();
    never.flush().unwrap();
    stream.observe(&never, 2 * CHUNK + 3..6 * CHUNK).unwrap();
    never.flush().unwrap();
    assert!(stream.recall(&memory) == stream.recall(&never));
}

#[test]
fn a_rollback_while_learning_drops_what_waits_and_readers_never_go_back() {
    let root = tempfile::tempdir().unwrap();
    let runtime = open(root.path());
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::new(4 * CHUNK, 2);
    stream.observe(&memory, 0..CHUNK).unwrap();
    memory.pin().unwrap();
    let mut newest = 0;
    for _ in 0..20 {
        stream.observe(&memory, CHUNK..4 * CHUNK).unwrap();
        let rolled_back = memory.roll_back().unwrap();
        assert_eq!(rolled_back.tokens, CHUNK as u64);
        let mut recalled = vec![0.0; VALUE_DIM];
        let query = Rows::row(&stream.keys[..KEY_DIM]);
        let info = memory.recall_into(query, &mut recalled).unwrap();
        assert!(info.version > newest);
        assert_eq!(info.lag, 0);
        newest = info.version;
    }
}

#[test]
fn a_memory_that_failed_learns_again_after_a_rollback() {
    let root = tempfile::tempdir().unwrap();
    let injector = Injector::default();
    let mut config = config();
    config.storage = Some(injector.hook());
    let runtime = Runtime::open(root.path(), config).unwrap();
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::new(CHUNK, 3);
    stream.observe(&memory, 0..CHUNK).unwrap();
    memory.pin().unwrap();
    injector.fail(Fault::Panic);
    let ticket = stream.observe(&memory, 0..CHUNK).unwrap();
    assert!(matches!(
        ticket.wait(),
        Err(WaitError::Stopped(Stopped::Failed { .. }))
    ));
    injector.heal();
    memory.roll_back().unwrap();
    stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
    assert_eq!(memory.progress().durable, 2 * CHUNK as u64);
}

#[test]
fn without_a_pin_a_rollback_is_refused_and_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let runtime = open(root.path());
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::new(CHUNK, 4);
    stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
    let before = stream.recall(&memory);
    assert!(memory.roll_back().is_err());
    assert!(stream.recall(&memory) == before);
    stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
}

/// Every file below `dir`.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn a_forgotten_user_is_gone_from_memory_and_disk() {
    let root = tempfile::tempdir().unwrap();
    let runtime = open(root.path());
    let memory = runtime.user("alice").unwrap();
    let bob = runtime.user("bob").unwrap();
    let stream = Stream::new(3 * CHUNK, 5);
    stream.observe(&memory, 0..2 * CHUNK).unwrap();
    memory.pin().unwrap();
    stream.observe(&bob, 0..CHUNK).unwrap().wait().unwrap();
    let ticket = stream.observe(&memory, 2 * CHUNK..3 * CHUNK).unwrap();

    let receipt = runtime.forget_user("alice").unwrap().unwrap();
    assert_eq!(receipt.erasure, Erasure::Unlinked);
    assert!(receipt.removed(&Place::Generations) >= 2, "{receipt:?}");
    assert!(receipt.is_complete(), "{receipt:?}");
    assert!(ticket.wait().is_err() || ticket.is_durable());
    assert!(stream.recall(&memory).iter().all(|x| *x == 0.0));
    assert!(stream.observe(&memory, 0..1).is_err());
    assert!(runtime.user("alice").is_err());
    let left: Vec<_> = files(&root.path().join("users"))
        .into_iter()
        .filter(|path| {
            path.extension()
                .is_some_and(|e| e == "titanmem" || e == "titanlog")
        })
        .collect();
    assert_eq!(left.len(), 1, "bob's only: {left:?}");

    assert!(stream.recall(&bob).iter().any(|x| *x != 0.0));
    assert!(runtime.forget_user("nobody").unwrap().is_none());
    drop((memory, bob, ticket));
    drop(runtime);
    assert!(open(root.path()).user("alice").is_err());
}

#[test]
fn a_receipt_tells_of_snapshots_that_a_reader_still_holds() {
    let root = tempfile::tempdir().unwrap();
    let runtime = open(root.path());
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::new(CHUNK, 6);
    stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
    let held = memory.snapshot().unwrap();
    let receipt = runtime.forget_user("alice").unwrap().unwrap();
    let left: Vec<_> = receipt.left().collect();
    assert!(!receipt.is_complete() && left.len() == 1, "{receipt:?}");
    assert!(left[0].reason.contains("held by readers"), "{receipt:?}");
    drop(held);
    // Called again, there is nothing left to tell of.
    let again = runtime.forget_user("alice").unwrap();
    assert!(again.is_none_or(|receipt| receipt.is_complete()));
}

#[test]
fn a_handle_of_a_forgotten_user_is_told_also_after_the_runtime_is_closed() {
    let root = tempfile::tempdir().unwrap();
    let runtime = open(root.path());
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::new(CHUNK, 6);
    stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
    runtime.forget_user("alice").unwrap();
    let told = |refused: Result<(), CommandError>| {
        assert!(
            matches!(refused, Err(CommandError::Stopped(Stopped::Forgotten))),
            "{refused:?}"
        );
    };
    told(memory.roll_back().map(drop));
    drop(runtime);
    told(memory.resume().map(drop));
    told(memory.roll_back().map(drop));
}
