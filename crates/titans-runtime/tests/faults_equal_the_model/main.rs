//! Whatever is asked of a runtime, in whatever order, while the disk refuses and steps panic:
//! every memory is what one thread gives that learns one of the few histories that are allowed.
//!
//! An error may come after the step that it is about, so what a call has done is known only
//! from what the memory shows next. Until then the model keeps each history that there can be.
//! Once the disk is well again, one is left, and it is compared bit for bit.
//!
//! `TITANMEM_MODEL_CASES=1000` tries more than the default of 50 cases.
#![allow(clippy::unwrap_used)]

mod commands;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/disk.rs"]
mod disk;
mod items;
mod looking;
mod model;
mod world;

use std::panic::resume_unwind;
use std::sync::Once;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use common::{CHUNK, config, model_cases};
use disk::{EDQUOT, EIO, EMFILE, ENOSPC, Fault};
use proptest::prelude::*;
use titans_runtime::{Durability, RuntimeConfig, WhenFull};
use titans_store::SaveMode;
use world::World;

pub(crate) const USERS: usize = 4;
/// Much longer than a case takes; one that hangs ends with a message instead.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Observe {
        user: usize,
        tokens: usize,
        wait: bool,
    },
    ObserveItem {
        user: usize,
        item: u64,
        tokens: usize,
    },
    ForgetItem {
        user: usize,
        item: u64,
        wait: bool,
    },
    Flush {
        user: usize,
    },
    Pin {
        user: usize,
    },
    RollBack {
        user: usize,
    },
    Rebuild {
        user: usize,
    },
    Resume {
        user: usize,
    },
    ForgetUser {
        user: usize,
    },
    Restart,
    Fail {
        after: usize,
        count: usize,
        fault: Fault,
    },
    Heal {
        user: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let user = || 0..USERS;
    let item = || 0u64..4;
    let number = prop::sample::select(vec![ENOSPC, EMFILE, EIO, EDQUOT]);
    let count = prop_oneof![2 => 1usize..4, 1 => 4usize..30, 1 => Just(usize::MAX)];
    prop_oneof![
        10 => (user(), 0usize..3 * CHUNK, any::<bool>())
            .prop_map(|(user, tokens, wait)| Step::Observe { user, tokens, wait }),
        8 => (user(), item(), 1usize..5)
            .prop_map(|(user, item, tokens)| Step::ObserveItem { user, item, tokens }),
        5 => (user(), item(), any::<bool>())
            .prop_map(|(user, item, wait)| Step::ForgetItem { user, item, wait }),
        3 => user().prop_map(|user| Step::Flush { user }),
        4 => user().prop_map(|user| Step::Pin { user }),
        4 => user().prop_map(|user| Step::RollBack { user }),
        4 => user().prop_map(|user| Step::Rebuild { user }),
        3 => user().prop_map(|user| Step::Resume { user }),
        1 => user().prop_map(|user| Step::ForgetUser { user }),
        3 => Just(Step::Restart),
        7 => (0usize..40, count, number).prop_map(|(after, count, number)| Step::Fail {
            after,
            count,
            fault: Fault::Error(number),
        }),
        7 => (0usize..40).prop_map(|after| Step::Fail {
            after,
            count: 1,
            fault: Fault::Panic,
        }),
        6 => user().prop_map(|user| Step::Heal { user }),
    ]
}

fn settings(policy: usize, mode: SaveMode, keeps_tokens: bool, room: usize) -> RuntimeConfig {
    let mut config = config();
    config.durability = [
        Durability::EveryChunk,
        Durability::Async { max_lag: 3 },
        Durability::Interval(Duration::from_secs(3600)),
    ][policy];
    config.store.mode = mode;
    config.ledger.replay_bytes = if keeps_tokens { 4 << 20 } else { 0 };
    // On a disk that refuses, a caller that waits for room would wait until it is mended.
    config.when_full = WhenFull::Busy;
    config.learners = 2;
    config.savers = 2;
    config.compute_threads = Some(1);
    config.resident_bytes = room * config.bytes_per_user();
    config
}

/// Panics that are made on purpose are not printed.
fn be_quiet_about_what_is_made() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload_as_str() != Some(disk::PANIC) {
                hook(panic);
            }
        }));
    });
}

/// Runs a case on a thread of its own and fails if it does not end.
fn run(config: RuntimeConfig, steps: Vec<Step>) {
    let (done, is_done) = channel();
    let told = format!("{steps:?}");
    let case = thread::spawn(move || {
        let mut world = World::new(config);
        for step in &steps {
            world.apply(step);
        }
        world.end();
        let _ = done.send(());
    });
    if let Err(RecvTimeoutError::Timeout) = is_done.recv_timeout(PATIENCE) {
        panic!("a call does not end: {told}");
    }
    if let Err(panic) = case.join() {
        resume_unwind(panic);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: model_cases(50),
        // Threads take turns as they like: a seed does not bring a failure back for sure.
        failure_persistence: None,
        max_shrink_time: 120_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_steps_on_any_disk_under_any_policy(
        steps in prop::collection::vec(step(), 1..40),
        policy in 0usize..3,
        journal in any::<bool>(),
        keeps_tokens in any::<bool>(),
        room in 2usize..4,
    ) {
        be_quiet_about_what_is_made();
        let mode = if journal { SaveMode::Journal } else { SaveMode::Snapshot };
        run(settings(policy, mode, keeps_tokens, room), steps);
    }
}
