//! Many threads ask one runtime for everything at once, while every lock makes them pause at
//! places that differ from seed to seed: they end, none panics, and what is durable at the end
//! is what a restart shows.
//!
//! `TITANMEM_SHAKES=500 cargo test -p titans-runtime --test shaken_locks` tries more seeds than
//! the default of 16.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/disk.rs"]
mod disk;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use common::{CHUNK, KEY_DIM, Stream, VALUE_DIM, config};
use disk::{Fault, Injector};
use titans_runtime::{
    CommandError, Durability, Health, ObserveError, OpenError, Rows, Runtime, RuntimeConfig,
    RuntimeError, Stopped, UserMemory, WaitError,
};
use titans_store::StoreError;

const USERS: u64 = 3;
/// Memories that fit.
const ROOM: usize = 2;
/// Longer than any seed takes.
const PATIENCE: Duration = Duration::from_secs(120);
/// What each thread does for each seed.
const TURNS: u64 = 40;

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

/// One seed.
struct Case {
    runtime: Runtime,
    stream: Stream,
    injector: Injector,
    /// Whether the disk panics once.
    panics: bool,
    is_closing: AtomicBool,
}

impl Case {
    /// Whether a refusal is one of those that this case provokes.
    fn is_expected(&self, error: &RuntimeError) -> bool {
        let is_panic = |reason: &str| self.panics && reason.contains("the disk panics");
        match error {
            RuntimeError::Open(OpenError::OverBudget { .. }) => true,
            RuntimeError::Command(CommandError::Unfinished { reason }) => is_panic(reason),
            error if is_harmless(error) => true,
            error => match error.stopped() {
                Some(Stopped::Closed) => self.is_closing.load(Ordering::SeqCst),
                Some(Stopped::Failed { reason }) => is_panic(reason),
                _ => false,
            },
        }
    }

    fn check<T, E>(&self, what: &str, outcome: Result<T, E>) -> Option<T>
    where
        RuntimeError: From<E>,
    {
        match outcome.map_err(RuntimeError::from) {
            Ok(done) => Some(done),
            Err(error) if self.is_expected(&error) => None,
            Err(error) => panic!("{what}: {error:?}"),
        }
    }

    fn memory(&self, dice: &mut Dice) -> Option<UserMemory> {
        let user = format!("user {}", dice.throw(USERS));
        self.check("user", self.runtime.user(&user))
    }

    fn observe(&self, dice: &mut Dice) {
        let Some(memory) = self.memory(dice) else {
            return;
        };
        let tokens = dice.throw(2 * CHUNK as u64) as usize;
        let keys = Rows::matrix(&self.stream.keys[..tokens * KEY_DIM], KEY_DIM);
        let values = Rows::matrix(&self.stream.values[..tokens * VALUE_DIM], VALUE_DIM);
        let observed = match dice.throw(3) {
            0 => memory.observe_item(dice.throw(3), keys, values),
            _ => memory.observe(keys, values),
        };
        let Some(ticket) = self.check("observe", observed) else {
            return;
        };
        let durable = match dice.throw(3) {
            0 => self.check("wait", ticket.wait()).is_some(),
            1 => self.check("wait", ticket.wait_visible()).is_none(),
            _ => false,
        };
        // A rollback in between takes the meaning of the ticket away.
        assert!(!durable || ticket.position() > 0 || tokens == 0);
    }

    fn change(&self, dice: &mut Dice) {
        let Some(memory) = self.memory(dice) else {
            return;
        };
        match dice.throw(7) {
            0 => drop(self.check("pin", memory.pin())),
            1 => drop(self.check("roll back", memory.roll_back())),
            2 => drop(self.check("rebuild", memory.rebuild())),
            3 => drop(self.check("resume", memory.resume())),
            4 | 5 => drop(self.check("forget", memory.forget(dice.throw(3)))),
            _ => drop(self.check("flush", self.runtime.flush())),
        }
    }

    fn read(&self, dice: &mut Dice) {
        let Some(memory) = self.memory(dice) else {
            return;
        };
        let recalled = self.stream.recall(&memory);
        assert!(recalled.iter().all(|x| x.is_finite()));
        let progress = memory.progress();
        assert!(progress.durable <= progress.accepted);
        let _ = (memory.health(), self.runtime.stats());
        assert!(self.runtime.resident_users() <= ROOM);
    }
}

/// What whoever works beside others on one memory is told when they were faster.
fn is_harmless(error: &RuntimeError) -> bool {
    match error {
        RuntimeError::Observe(ObserveError::RolledBack)
        | RuntimeError::Wait(WaitError::RolledBack) => true,
        RuntimeError::Command(error) => match error {
            CommandError::RolledBack
            | CommandError::RebuiltSince
            | CommandError::NoReplay { .. } => true,
            CommandError::Store(error) => is_nothing_to_pin(error),
            _ => false,
        },
        _ => false,
    }
}

/// A memory that was never saved has nothing to pin, and one that was never pinned nothing to go
/// back to.
fn is_nothing_to_pin(error: &StoreError) -> bool {
    matches!(
        error.cause(),
        StoreError::NothingPinned { .. } | StoreError::NoSuchGeneration { .. }
    )
}

fn settings(seed: u64, injector: &Injector) -> RuntimeConfig {
    let mut config = config();
    config.durability = match seed % 3 {
        0 => Durability::EveryChunk,
        1 => Durability::Async { max_lag: 3 },
        _ => Durability::Interval(Duration::from_millis(2)),
    };
    config.learners = 2;
    config.savers = 2;
    config.ledger.replay_bytes = 1 << 20;
    config.resident_bytes = ROOM * config.bytes_per_user();
    config.storage = Some(injector.hook());
    config
}

fn run(seed: u64) {
    #[cfg(debug_assertions)]
    titans_runtime::shake_locks(seed);
    let root = tempfile::tempdir().unwrap();
    let injector = Injector::default();
    let config = settings(seed, &injector);
    let case = Case {
        runtime: Runtime::open(root.path(), config.clone()).unwrap(),
        stream: Stream::new(2 * CHUNK, seed),
        injector,
        panics: seed % 4 == 1,
        is_closing: AtomicBool::new(false),
    };
    if case.panics {
        let after = Dice(seed).throw(400) as usize;
        case.injector.fail_steps(after, 1, Fault::Panic);
    }
    let work = |thread: u64, turn: fn(&Case, &mut Dice)| {
        let mut dice = Dice(seed << 8 | thread);
        let case = &case;
        move || (0..TURNS).for_each(|_| turn(case, &mut dice))
    };
    thread::scope(|scope| {
        scope.spawn(work(1, Case::observe));
        scope.spawn(work(2, Case::observe));
        scope.spawn(work(3, Case::change));
        scope.spawn(work(4, Case::change));
        scope.spawn(work(5, Case::read));
    });
    case.injector.heal();
    let mut recalled = BTreeMap::new();
    for user in 0..USERS {
        let memory = case.runtime.user(format!("user {user}")).unwrap();
        if matches!(memory.health(), Health::Failed { .. }) {
            memory.resume().unwrap();
        }
        memory.flush().unwrap();
        let progress = memory.progress();
        assert_eq!(progress.durable, progress.accepted);
        recalled.insert(user, (progress, case.stream.recall(&memory)));
    }
    let Case {
        runtime, stream, ..
    } = case;
    assert!(runtime.close(PATIENCE).is_durable());
    let runtime = Runtime::open(root.path(), config).unwrap();
    for (user, (progress, recalled)) in recalled {
        let memory = runtime.user(format!("user {user}")).unwrap();
        assert!(memory.skipped().is_empty(), "{:?}", memory.skipped());
        assert_eq!(memory.progress(), progress, "user {user}");
        assert!(stream.recall(&memory) == recalled, "user {user}");
    }
}

/// An outcome of any call.
fn told<T, E>(outcome: Result<T, E>) -> Result<(), RuntimeError>
where
    RuntimeError: From<E>,
{
    outcome.map(drop).map_err(RuntimeError::from)
}

/// A runtime that is closed while handles of it are in use.
fn run_and_close(seed: u64) {
    #[cfg(debug_assertions)]
    titans_runtime::shake_locks(seed);
    let root = tempfile::tempdir().unwrap();
    let injector = Injector::default();
    let mut config = settings(seed, &injector);
    config.resident_bytes = USERS as usize * config.bytes_per_user();
    let runtime = Runtime::open(root.path(), config.clone()).unwrap();
    let stream = Stream::new(2 * CHUNK, seed);
    let open = |user: u64| runtime.user(format!("user {user}")).unwrap();
    let memories: Vec<UserMemory> = (0..USERS).map(open).collect();
    let report = thread::scope(|scope| {
        for (thread, memory) in memories.iter().enumerate() {
            let mut dice = Dice(seed << 8 | thread as u64);
            let stream = &stream;
            scope.spawn(move || {
                loop {
                    let outcome = match dice.throw(8) {
                        0 => told(memory.pin()),
                        1 => told(memory.roll_back()),
                        2 => told(memory.rebuild()),
                        3 => told(memory.forget(1_u64)),
                        4 => told(memory.flush()),
                        5 => {
                            let keys = Rows::matrix(&stream.keys, KEY_DIM);
                            let values = Rows::matrix(&stream.values, VALUE_DIM);
                            told(memory.observe_item(1_u64, keys, values))
                        }
                        _ => told(stream.observe(memory, 0..CHUNK + 1)),
                    };
                    match outcome {
                        Ok(()) => {}
                        Err(error) if error.stopped() == Some(&Stopped::Closed) => return,
                        Err(error) => assert!(is_harmless(&error), "{error:?}"),
                    }
                }
            });
        }
        thread::sleep(Duration::from_millis(seed * 7 % 60));
        runtime.close(PATIENCE)
    });
    assert!(report.is_durable(), "{report:?}");
    let runtime = Runtime::open(root.path(), config).unwrap();
    for (user, before) in memories.iter().enumerate() {
        let told = report
            .users
            .iter()
            .find(|told| told.shard == before.shard());
        let memory = runtime.user(format!("user {user}")).unwrap();
        assert!(memory.skipped().is_empty(), "{:?}", memory.skipped());
        assert_eq!(memory.progress(), told.unwrap().progress);
        // Handles of a closed runtime still read.
        assert!(
            stream.recall(&memory) == stream.recall(before),
            "user {user}"
        );
    }
}

fn each_seed_ends(run: fn(u64)) {
    let seeds = std::env::var("TITANMEM_SHAKES").map_or(16, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let (done, is_done) = channel();
        let case = thread::spawn(move || {
            run(seed);
            let _ = done.send(());
        });
        if let Err(RecvTimeoutError::Timeout) = is_done.recv_timeout(2 * PATIENCE) {
            panic!("seed {seed} does not end: threads wait for each other");
        }
        if case.join().is_err() {
            panic!("seed {seed} failed");
        }
    }
}

#[test]
fn everything_at_once_ends_and_loses_nothing() {
    each_seed_ends(run);
}

#[test]
fn closing_amid_everything_ends_and_loses_nothing() {
    each_seed_ends(run_and_close);
}
