//! The ledger: recall names what was stored, and an item can be taken back, approximately at
//! once and exactly by learning again.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/items.rs"]
mod items;

use std::path::Path;

use items::{
    DIM, items, items_config, keeps_tokens, length, pair, pairs, recall, rows, store, what_it_knows,
};
use titans_core::Preset;
use titans_runtime::{CommandError, ItemId, LedgerConfig, Rows, Runtime, UserMemory};

fn generations(root: &Path) -> usize {
    let mut folders = vec![root.to_owned()];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            found += usize::from(path.extension().is_some_and(|ext| ext == "titanmem"));
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

#[test]
fn recall_names_the_stored_item_and_says_how_far_off_it_is() {
    let root = tempfile::tempdir().unwrap();
    let runtime = Runtime::open(
        root.path(),
        items_config(Preset::Sparse, LedgerConfig::default()),
    );
    let runtime = runtime.unwrap();
    let memory = runtime.user("alice").unwrap();
    store(&memory, 0..30);
    memory.flush().unwrap();

    for n in 0..30 {
        let (key, _) = pair(n);
        let recalled = memory.recall(rows(&key)).unwrap();
        let info = recalled.info();
        assert_eq!(info.neighbours[0].item, ItemId(n as u128));
        assert!(info.neighbours[0].score > 0.95, "{:?}", info.neighbours[0]);
        assert!(info.neighbours.len() == 3 && info.neighbours[0].stored_unix > 1_700_000_000);
        assert!(info.surprise.unwrap() < 0.6, "{:?}", info.surprise);
    }
    // What was never stored is nobody's, and far from everything.
    let unknown: Vec<f32> = (500..530).flat_map(|n| pair(n).0).collect();
    let recalled = memory.recall(rows(&unknown)).unwrap();
    let surprise = recalled.info().surprise;
    assert!(surprise.unwrap() > 0.8, "{surprise:?}");
    assert_eq!(items(&memory), (0..30).collect::<Vec<_>>());
    let snapshot = memory.snapshot().unwrap();
    assert!(snapshot.ledger_bytes() > 30 * DIM * 6);
    assert_eq!(
        snapshot.memory_bytes(),
        runtime.config().memory.state_bytes()
    );

    // The gate's own measure, for pairs that are known.
    let (mut keys, mut values) = pair(3);
    let (other_keys, other_values) = pair(700);
    keys.extend(other_keys);
    values.extend(other_values);
    let mut surprise = [0.0; 2];
    let rows_of = |numbers| Rows::matrix(numbers, DIM);
    memory
        .surprise_into(rows_of(&keys), rows_of(&values), &mut surprise)
        .unwrap();
    assert!(surprise[0] < 0.6 && surprise[1] > 0.8, "{surprise:?}");
}

#[test]
fn a_forgotten_item_recalls_nothing_and_the_others_stay() {
    let root = tempfile::tempdir().unwrap();
    let config = || items_config(Preset::Sparse, LedgerConfig::default());
    let runtime = Runtime::open(root.path(), config()).unwrap();
    let memory = runtime.user("alice").unwrap();
    store(&memory, 0..30);
    // An item in two pieces, one of which is not learned yet when it is forgotten.
    let (keys, values) = pairs(77, 3);
    memory
        .observe_item(77_u64, rows(&keys), rows(&values))
        .unwrap();
    memory.flush().unwrap();
    let (more_keys, more_values) = pairs(78, 2);
    memory
        .observe_item(77_u64, rows(&more_keys), rows(&more_values))
        .unwrap();

    assert!(memory.forget(1234_u64).unwrap().is_none());
    let forgotten = memory.forget(77_u64).unwrap().unwrap();
    assert_eq!((forgotten.tokens, forgotten.exact_by_rebuild), (5, false));
    assert!(forgotten.remains < 0.1, "{}", forgotten.remains);
    forgotten.ticket.wait().unwrap();
    assert!(memory.forget(77_u64).unwrap().is_none(), "only once");
    assert!(matches!(
        memory.rebuild(),
        Err(CommandError::NoReplay { .. })
    ));

    let check = |memory: &UserMemory| {
        for row in [&keys, &more_keys]
            .into_iter()
            .flat_map(|keys| keys.chunks(DIM))
        {
            let recalled = recall(memory, row);
            assert!(length(&recalled) < 0.2, "{}", length(&recalled));
        }
        assert_eq!(items(memory), (0..30).collect::<Vec<_>>());
        for n in 0..30 {
            let (key, value) = pair(n);
            let recalled = recall(memory, &key);
            let dot: f32 = recalled.iter().zip(&value).map(|(r, v)| r * v).sum();
            assert!(
                dot / length(&recalled) / length(&value) > 0.9,
                "item {n}: {dot}"
            );
        }
    };
    check(&memory);
    drop((memory, runtime));
    let runtime = Runtime::open(root.path(), config()).unwrap();
    check(&runtime.user("alice").unwrap());
}

#[test]
fn a_rollback_to_before_it_was_forgotten_forgets_it_again() {
    let root = tempfile::tempdir().unwrap();
    let config = items_config(Preset::Sparse, LedgerConfig::default());
    let runtime = Runtime::open(root.path(), config).unwrap();
    let memory = runtime.user("alice").unwrap();
    store(&memory, 0..10);
    memory.pin().unwrap();
    store(&memory, 10..20);
    let forgotten = memory.forget(4_u64).unwrap().unwrap();
    forgotten.ticket.wait().unwrap();
    let late = memory.forget(15_u64).unwrap().unwrap();
    late.ticket.wait().unwrap();

    memory.roll_back().unwrap();
    memory.flush().unwrap();
    let left: Vec<u128> = (0..10).filter(|n| *n != 4).collect();
    assert_eq!(items(&memory), left);
    assert!(length(&recall(&memory, &pair(4).0)) < 0.2);
    assert!(length(&recall(&memory, &pair(5).0)) > 0.8);
}

#[test]
fn the_ledger_is_bounded_and_comes_back_with_the_memory() {
    let root = tempfile::tempdir().unwrap();
    let ledger = LedgerConfig::default().with_max_bytes(8 << 10);
    let config = || items_config(Preset::Sparse, ledger);
    let mut known = Vec::new();
    for session in 0..4 {
        let runtime = Runtime::open(root.path(), config()).unwrap();
        let memory = runtime.user("alice").unwrap();
        assert_eq!(items(&memory), known, "session {session}");
        for start in (0..60).step_by(10) {
            store(&memory, session * 60 + start..session * 60 + start + 10);
            memory.flush().unwrap();
        }
        known = items(&memory);
        assert!(memory.snapshot().unwrap().ledger_bytes() <= 8 << 10);
        assert_eq!(known.last(), Some(&(session as u128 * 60 + 59)));
        assert!((10..60).contains(&known.len()), "{}", known.len());
    }
}

#[test]
fn a_rebuilt_memory_is_as_if_the_item_had_never_been_handed_over() {
    for preset in [Preset::Sparse, Preset::Titans, Preset::Delta] {
        let (with, without) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let config = || items_config(preset, keeps_tokens());
        let mut runtime = Runtime::open(with.path(), config()).unwrap();
        let mut memory = runtime.user("alice").unwrap();
        for start in (0..60).step_by(7) {
            store(&memory, start..(start + 7).min(60));
            if start == 21 {
                let (keys, values) = pairs(77, 9);
                memory.observe(rows(&keys), rows(&values)).unwrap();
            }
            if start % 2 == 0 {
                memory.flush().unwrap();
            }
            if start == 28 {
                drop((memory, runtime));
                runtime = Runtime::open(with.path(), config()).unwrap();
                memory = runtime.user("alice").unwrap();
            }
        }
        for item in [5_u64, 33] {
            let forgotten = memory.forget(item).unwrap().unwrap();
            assert!(forgotten.exact_by_rebuild);
            forgotten.ticket.wait().unwrap();
        }
        memory.pin().unwrap();
        let before = memory.snapshot().unwrap();
        let rebuilt = memory.rebuild().unwrap();
        assert_eq!(rebuilt.forgotten, [ItemId(5), ItemId(33)], "{preset:?}");
        assert_eq!(rebuilt.approximate, []);
        assert_eq!(rebuilt.tokens_replayed, 67);
        // The memory's only file: neither older generations nor the pin.
        assert_eq!(generations(with.path()), 1);
        // A reader that came before keeps what it has.
        assert!(
            rebuilt.tokens_removed >= 4,
            "two items and what wrote over them"
        );
        assert_eq!(before.tokens_seen(), 67 + rebuilt.tokens_removed);
        assert!(memory.snapshot().unwrap().version() > before.version());

        let other = Runtime::open(without.path(), config()).unwrap();
        let twin = other.user("bob").unwrap();
        let feed = |memory: &UserMemory, range: std::ops::Range<usize>| {
            store(memory, range.filter(|n| ![5, 33].contains(n)));
        };
        feed(&twin, 0..28);
        let (keys, values) = pairs(77, 9);
        twin.observe(rows(&keys), rows(&values)).unwrap();
        feed(&twin, 28..60);
        twin.flush().unwrap();
        assert!(what_it_knows(&memory) == what_it_knows(&twin), "{preset:?}");
        assert_eq!(items(&memory), items(&twin));

        // It goes on like its twin, also over a restart and a second rebuild.
        store(&memory, 60..70);
        store(&twin, 60..70);
        drop((memory, runtime));
        let runtime = Runtime::open(with.path(), config()).unwrap();
        let memory = runtime.user("alice").unwrap();
        twin.flush().unwrap();
        assert!(what_it_knows(&memory) == what_it_knows(&twin), "{preset:?}");
        for memory in [&memory, &twin] {
            memory.forget(64_u64).unwrap().unwrap();
            memory.rebuild().unwrap();
        }
        assert!(what_it_knows(&memory) == what_it_knows(&twin), "{preset:?}");
        assert_eq!(
            memory.rebuild().unwrap().tokens_replayed,
            0,
            "nothing to do"
        );
    }
}

#[test]
fn what_is_older_than_the_kept_tokens_stays_forgotten_approximately() {
    let root = tempfile::tempdir().unwrap();
    let ledger = LedgerConfig::default()
        // Room for some hundred tokens beside the two images.
        .with_replay_bytes(48 << 10);
    let runtime = Runtime::open(root.path(), items_config(Preset::Delta, ledger)).unwrap();
    let memory = runtime.user("alice").unwrap();
    for start in (0..1200).step_by(20) {
        store(&memory, start..start + 20);
        memory.flush().unwrap();
    }
    for item in [3_u64, 1190] {
        memory.forget(item).unwrap().unwrap();
    }
    let rebuilt = memory.rebuild().unwrap();
    assert_eq!(rebuilt.approximate, [ItemId(3)]);
    assert_eq!(rebuilt.forgotten, [ItemId(1190)]);
    assert!((1..1200).contains(&rebuilt.tokens_replayed), "{rebuilt:?}");
    let left = items(&memory);
    assert_eq!(left.len(), 1198);
}

#[test]
fn a_rollback_and_new_tokens_in_its_place_can_be_rebuilt() {
    let (with, without) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = || items_config(Preset::Sparse, keeps_tokens());
    let runtime = Runtime::open(with.path(), config()).unwrap();
    let memory = runtime.user("alice").unwrap();
    store(&memory, 0..20);
    memory.pin().unwrap();
    store(&memory, 20..40);
    memory.flush().unwrap();
    memory.roll_back().unwrap();
    store(&memory, 40..50);
    memory.forget(10_u64).unwrap().unwrap();
    memory.rebuild().unwrap();

    let other = Runtime::open(without.path(), config()).unwrap();
    let twin = other.user("bob").unwrap();
    store(&twin, (0..50).filter(|n| *n != 10 && !(20..40).contains(n)));
    twin.flush().unwrap();
    assert!(what_it_knows(&memory) == what_it_knows(&twin));
}
