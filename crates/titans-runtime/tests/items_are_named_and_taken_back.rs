//! The ledger: recall names what was stored, and an item can be taken back, approximately at
//! once and exactly by learning again.
#![allow(clippy::unwrap_used)]

mod common;

#[path = "common/disk.rs"]
mod disk;

use std::path::Path;
use std::sync::LazyLock;

use common::Stream;
use disk::{Fault, Injector};
use titans_core::{MemoryArchitecture, Preset, SparseChannelMlp};
use titans_runtime::{
    ItemId, LedgerConfig, Rows, Runtime, RuntimeConfig, RuntimeError, UserMemory,
};

const DIM: usize = 32;

fn config(preset: Preset, ledger: LedgerConfig) -> RuntimeConfig {
    let mut config = RuntimeConfig {
        ledger,
        ..common::config()
    };
    if preset == Preset::Sparse {
        // Room enough that thirty items hardly meet.
        config.memory.miras.architecture = MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
            channels: 2048,
            active_channels: 16,
        });
    } else {
        config.memory = preset.config();
    }
    (config.memory.key_dim, config.memory.value_dim) = (DIM, DIM);
    config
}

fn keeps_tokens() -> LedgerConfig {
    LedgerConfig {
        replay_bytes: 1 << 20,
        ..LedgerConfig::default()
    }
}

/// Keys and values of some tokens, the same for the same seed.
fn pairs(seed: u64, tokens: usize) -> (Vec<f32>, Vec<f32>) {
    let stream = Stream::with_widths(tokens, seed, (DIM, DIM));
    (stream.keys, stream.values)
}

/// Pair `n` of one stream.
fn pair(n: usize) -> (Vec<f32>, Vec<f32>) {
    static STREAM: LazyLock<(Vec<f32>, Vec<f32>)> = LazyLock::new(|| pairs(1, 1300));
    let row = n * DIM..(n + 1) * DIM;
    (STREAM.0[row.clone()].to_vec(), STREAM.1[row].to_vec())
}

fn rows(numbers: &[f32]) -> Rows<'_> {
    Rows::f32(numbers, numbers.len() / DIM, DIM)
}

fn store(memory: &UserMemory, items: impl IntoIterator<Item = usize>) {
    for n in items {
        let (keys, values) = pair(n);
        let ticket = memory.observe_item(n as u64, rows(&keys), rows(&values));
        let _ = ticket.unwrap();
    }
}

fn recall(memory: &UserMemory, keys: &[f32]) -> Vec<f32> {
    let mut recalled = vec![0.0; keys.len()];
    memory.recall_into(rows(keys), &mut recalled).unwrap();
    recalled
}

fn length(row: &[f32]) -> f32 {
    row.iter().map(|x| x * x).sum::<f32>().sqrt()
}

fn items(memory: &UserMemory) -> Vec<u128> {
    let snapshot = memory.snapshot().unwrap();
    snapshot.items().map(|stored| stored.item.0).collect()
}

/// Everything that readers can tell two memories apart by.
fn what_it_knows(memory: &UserMemory) -> (Vec<u32>, u64, u64) {
    let (queries, _) = pairs(900, 40);
    let recalled = recall(memory, &queries);
    let bits = recalled.iter().map(|x| x.to_bits()).collect();
    let snapshot = memory.snapshot().unwrap();
    (bits, snapshot.tokens_seen(), snapshot.tokens_written())
}

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
    let runtime = Runtime::open(root.path(), config(Preset::Sparse, LedgerConfig::default()));
    let runtime = runtime.unwrap();
    let memory = runtime.user("alice").unwrap();
    store(&memory, 0..30);
    memory.flush().unwrap();

    let mut recalled = [0.0; DIM];
    for n in 0..30 {
        let (key, _) = pair(n);
        let info = memory.recall_into(rows(&key), &mut recalled).unwrap();
        assert_eq!(info.neighbours[0].item, ItemId(n as u128));
        assert!(info.neighbours[0].score > 0.95, "{:?}", info.neighbours[0]);
        assert!(info.neighbours.len() == 3 && info.neighbours[0].stored_unix > 1_700_000_000);
        assert!(info.surprise.unwrap() < 0.6, "{:?}", info.surprise);
    }
    // What was never stored is nobody's, and far from everything.
    let unknown: Vec<f32> = (500..530).flat_map(|n| pair(n).0).collect();
    let mut recalled = [0.0; 30 * DIM];
    let info = memory.recall_into(rows(&unknown), &mut recalled).unwrap();
    assert!(info.surprise.unwrap() > 0.8, "{:?}", info.surprise);
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
    let rows_of = |numbers| Rows::f32(numbers, 2, DIM);
    memory
        .surprise_into(rows_of(&keys), rows_of(&values), &mut surprise)
        .unwrap();
    assert!(surprise[0] < 0.6 && surprise[1] > 0.8, "{surprise:?}");
}

#[test]
fn a_forgotten_item_recalls_nothing_and_the_others_stay() {
    let root = tempfile::tempdir().unwrap();
    let config = || config(Preset::Sparse, LedgerConfig::default());
    let runtime = Runtime::open(root.path(), config()).unwrap();
    let memory = runtime.user("alice").unwrap();
    store(&memory, 0..30);
    // An item in two pieces, one of which is not learned yet when it is forgotten.
    let (keys, values) = pairs(77, 3);
    let _ = memory
        .observe_item(77_u64, rows(&keys), rows(&values))
        .unwrap();
    memory.flush().unwrap();
    let (more_keys, more_values) = pairs(78, 2);
    let _ = memory
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
        Err(RuntimeError::NoReplay { .. })
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
    let config = config(Preset::Sparse, LedgerConfig::default());
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
    let ledger = LedgerConfig {
        max_bytes: 8 << 10,
        ..LedgerConfig::default()
    };
    let config = || config(Preset::Sparse, ledger);
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
        let config = || config(preset, keeps_tokens());
        let mut runtime = Runtime::open(with.path(), config()).unwrap();
        let mut memory = runtime.user("alice").unwrap();
        for start in (0..60).step_by(7) {
            store(&memory, start..(start + 7).min(60));
            if start == 21 {
                let (keys, values) = pairs(77, 9);
                let _ = memory.observe(rows(&keys), rows(&values)).unwrap();
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
        let _ = twin.observe(rows(&keys), rows(&values)).unwrap();
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
            let _ = memory.forget(64_u64).unwrap().unwrap();
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
    let ledger = LedgerConfig {
        // Room for some hundred tokens beside the two images.
        replay_bytes: 48 << 10,
        ..LedgerConfig::default()
    };
    let runtime = Runtime::open(root.path(), config(Preset::Delta, ledger)).unwrap();
    let memory = runtime.user("alice").unwrap();
    for start in (0..1200).step_by(20) {
        store(&memory, start..start + 20);
        memory.flush().unwrap();
    }
    for item in [3_u64, 1190] {
        let _ = memory.forget(item).unwrap().unwrap();
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
    let config = || config(Preset::Sparse, keeps_tokens());
    let runtime = Runtime::open(with.path(), config()).unwrap();
    let memory = runtime.user("alice").unwrap();
    store(&memory, 0..20);
    memory.pin().unwrap();
    store(&memory, 20..40);
    memory.flush().unwrap();
    memory.roll_back().unwrap();
    store(&memory, 40..50);
    let _ = memory.forget(10_u64).unwrap().unwrap();
    memory.rebuild().unwrap();

    let other = Runtime::open(without.path(), config()).unwrap();
    let twin = other.user("bob").unwrap();
    store(&twin, (0..50).filter(|n| *n != 10 && !(20..40).contains(n)));
    twin.flush().unwrap();
    assert!(what_it_knows(&memory) == what_it_knows(&twin));
}

/// The ledger is written before the memory. A save that is cut off in between leaves names of
/// tokens that nobody has; later ones that stand in their place are not theirs.
#[test]
fn names_of_lost_tokens_do_not_come_back_when_others_take_their_place() {
    let mut lost = 0;
    for step in 0..16 {
        for is_erased in [false, true] {
            let root = tempfile::tempdir().unwrap();
            let injector = Injector::default();
            let mut config = config(Preset::Sparse, keeps_tokens());
            config.storage = Some(injector.hook());
            let runtime = Runtime::open(root.path(), config.clone()).unwrap();
            let memory = runtime.user("alice").unwrap();
            store(&memory, 0..3);
            memory.flush().unwrap();
            injector.fail_steps(step, 1, Fault::Panic);
            match is_erased {
                true => drop(memory.forget(1_u64).unwrap()),
                false => store(&memory, 3..5),
            }
            let has_failed = memory.flush().is_err();
            injector.heal();
            if step % 2 == 0 {
                memory.resume().unwrap();
            }
            drop((memory, runtime));
            let runtime = Runtime::open(root.path(), config.clone()).unwrap();
            let memory = runtime.user("alice").unwrap();
            let is_lost = memory.progress().durable == 3;
            assert!(has_failed || !is_lost);
            lost += usize::from(is_lost);
            // Tokens without a name, in the place of those that were lost.
            let (keys, values) = pairs(5, 40);
            let _ = memory.observe(rows(&keys), rows(&values)).unwrap();
            memory.flush().unwrap();
            let (named, known) = (items(&memory), what_it_knows(&memory));
            if is_lost {
                assert_eq!(named, [0, 1, 2], "step {step}");
            }
            drop((memory, runtime));
            let runtime = Runtime::open(root.path(), config).unwrap();
            let memory = runtime.user("alice").unwrap();
            assert_eq!(items(&memory), named, "step {step}");
            assert!(what_it_knows(&memory) == known, "step {step}");
            // Nothing is taken out that is not of a forgotten item.
            if is_lost {
                assert_eq!(memory.rebuild().unwrap().tokens_removed, 0, "step {step}");
            }
        }
    }
    assert!(lost > 8, "{lost}");
}

/// A rollback to a memory that knows a forgotten item is cut off at every step: the item is
/// forgotten when the memory is back.
#[test]
fn what_was_forgotten_stays_so_wherever_a_rollback_is_cut_off() {
    let mut cut_off = 0;
    for step in 0..24 {
        for is_learned in [false, true] {
            let root = tempfile::tempdir().unwrap();
            let injector = Injector::default();
            let mut config = config(Preset::Sparse, keeps_tokens());
            config.storage = Some(injector.hook());
            let runtime = Runtime::open(root.path(), config.clone()).unwrap();
            let memory = runtime.user("alice").unwrap();
            store(&memory, 0..3);
            memory.pin().unwrap();
            let forgotten = memory.forget(1_u64).unwrap().unwrap();
            if is_learned {
                forgotten.ticket.wait().unwrap();
            }
            injector.fail_steps(step, 1, Fault::Panic);
            let rolled_back = memory.roll_back();
            let _ = memory.flush();
            injector.heal();
            cut_off += usize::from(rolled_back.is_err());
            if step % 2 == 0 && !memory.health().is_healthy() {
                memory.resume().unwrap();
            }
            drop((memory, runtime));
            for _ in 0..2 {
                let runtime = Runtime::open(root.path(), config.clone()).unwrap();
                let memory = runtime.user("alice").unwrap();
                memory.flush().unwrap();
                let is_there = is_learned || rolled_back.is_ok();
                if is_there {
                    assert_eq!(items(&memory), [0, 2], "step {step}");
                    assert!(memory.forget(1_u64).unwrap().is_none());
                }
                let rebuilt = memory.rebuild().unwrap();
                assert!(!is_there || memory.snapshot().unwrap().items().count() == 2);
                assert!(rebuilt.approximate.is_empty());
            }
        }
    }
    assert!(cut_off > 4, "{cut_off}");
}
