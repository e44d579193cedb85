//! What was forgotten stays so, and what was lost is not named, wherever a process is cut off.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/disk.rs"]
mod disk;
#[path = "common/items.rs"]
mod items;

use disk::{Fault, Injector};
use items::{items, items_config, keeps_tokens, pairs, rows, store, what_it_knows};
use titans_core::Preset;
use titans_runtime::Runtime;

/// The ledger is written before the memory. A save that is cut off in between leaves names of
/// tokens that nobody has; later ones that stand in their place are not theirs.
#[test]
fn names_of_lost_tokens_do_not_come_back_when_others_take_their_place() {
    let mut lost = 0;
    for step in 0..16 {
        for is_erased in [false, true] {
            let root = tempfile::tempdir().unwrap();
            let injector = Injector::default();
            let mut config = items_config(Preset::Sparse, keeps_tokens());
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
            memory.observe(rows(&keys), rows(&values)).unwrap();
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
            let mut config = items_config(Preset::Sparse, keeps_tokens());
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

#[test]
fn what_is_being_forgotten_is_not_known_any_more() {
    let root = tempfile::tempdir().unwrap();
    let mut config = items_config(Preset::Sparse, keeps_tokens());
    // Nothing is learned before somebody waits for it.
    config.chunk_tokens = 1 << 12;
    config.queue_tokens = 1 << 13;
    let runtime = Runtime::open(root.path(), config).unwrap();
    let memory = runtime.user("alice").unwrap();
    store(&memory, 0..3);
    let forgotten = memory.forget(1_u64).unwrap().unwrap();
    assert!(memory.forget(1_u64).unwrap().is_none());
    // Under the same name, something new.
    store(&memory, [1]);
    let again = memory.forget(1_u64).unwrap().unwrap();
    assert_eq!((forgotten.tokens, again.tokens), (1, 1));
    memory.flush().unwrap();
    assert_eq!(items(&memory), [0, 2]);
}
