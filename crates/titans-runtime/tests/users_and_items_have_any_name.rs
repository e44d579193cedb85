//! Users and items are named by texts, numbers and UUIDs, and no two kinds meet.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use common::{CHUNK, KEY_DIM, Stream, VALUE_DIM, config, open};
use titans_runtime::{ItemId, Rows, Runtime, UserId};

#[test]
fn a_user_is_found_again_by_the_same_name_and_by_no_other() {
    let root = tempfile::tempdir().unwrap();
    let uuid = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 9, 8, 7, 6, 5, 4];
    let names = || -> [UserId; 6] {
        [
            "alice".into(),
            "42".into(),
            42_u64.into(),
            (-42).into(),
            uuid.into(),
            "09080706-0504-0302-0100-090807060504".into(),
        ]
    };
    let stream = Stream::new(CHUNK, 1);
    let runtime = open(root.path());
    let mut shards = BTreeSet::new();
    for (tokens, name) in (1..).zip(names()) {
        let memory = runtime.user(name).unwrap();
        stream.observe(&memory, 0..tokens).unwrap().wait().unwrap();
        shards.insert(memory.shard());
    }
    assert_eq!(shards.len(), names().len());
    drop(runtime);

    let runtime = open(root.path());
    for (tokens, name) in (1_u64..).zip(names()) {
        let memory = runtime.user(name).unwrap();
        assert_eq!(memory.progress().durable, tokens);
    }
    // The same numbers in other types.
    for same in [UserId::from(42_i32), 42_u128.into(), 42_usize.into()] {
        assert_eq!(runtime.user(same).unwrap().progress().durable, 3);
    }
    let number = u128::from_be_bytes(uuid);
    assert_eq!(runtime.user(number).unwrap().progress().durable, 5);
    // Forgetting one leaves its namesake alone.
    assert!(runtime.forget_user(42).unwrap().is_some());
    assert!(runtime.user(42).is_err());
    assert_eq!(runtime.user("42").unwrap().progress().durable, 2);
}

#[test]
fn an_item_is_named_by_what_its_caller_has() {
    let root = tempfile::tempdir().unwrap();
    let runtime = Runtime::open(root.path(), config()).unwrap();
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::new(4, 2);
    let long = "x".repeat(5000);
    let names: [ItemId; 4] = [7.into(), "7".into(), (&long).into(), [7; 16].into()];
    assert_eq!(BTreeSet::from(names).len(), names.len());
    for (row, name) in names.into_iter().enumerate() {
        let keys = Rows::row(&stream.keys[row * KEY_DIM..][..KEY_DIM]);
        let values = Rows::row(&stream.values[row * VALUE_DIM..][..VALUE_DIM]);
        memory.observe_item(name, keys, values).unwrap();
    }
    memory.flush().unwrap();
    let known = || -> BTreeSet<_> {
        let snapshot = memory.snapshot().unwrap();
        snapshot.items().map(|stored| stored.item).collect()
    };
    assert_eq!(known(), names.into());
    let query = Rows::row(&stream.keys[KEY_DIM..2 * KEY_DIM]);
    let nearest = memory.recall(query).unwrap().info().neighbours[0].item;
    assert_eq!(nearest, ItemId::from("7"));

    // A receipt names the item as its caller finds it.
    let forgotten = memory.forget("7").unwrap().unwrap();
    assert_eq!(forgotten.item, ItemId::from("7"));
    forgotten.ticket.wait().unwrap();
    assert!(memory.forget("7").unwrap().is_none());
    assert!(known().contains(&7.into()) && known().contains(&ItemId::from(&long)));
}
