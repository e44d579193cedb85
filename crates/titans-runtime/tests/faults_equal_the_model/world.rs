//! A runtime on a disk that can be told to fail, and what is known of its users.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use titans_runtime::{Health, MemorySnapshot, Runtime, RuntimeConfig, UserMemory};

use crate::common::{CHUNK, Stream};
use crate::disk::Injector;
use crate::model::{Known, Line, Oracle};
use crate::{Step, USERS};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Tokens that all users draw from.
pub(crate) const TOKENS: usize = 60 * CHUNK;
/// Failed attempts after which the next pause is too long to be waited for here.
const FEW: u32 = 4;

/// What is known of one user.
pub(crate) struct User {
    pub(crate) folder: PathBuf,
    /// What the memory in RAM may be.
    pub(crate) lines: Vec<Line>,
    /// What the disk may hold instead: a step that changes what is durable ended nobody knows
    /// how.
    pub(crate) on_disk: Vec<Line>,
    /// Tokens that readers have seen.
    pub(crate) seen: usize,
    /// Whether the folder is there, if that is known.
    pub(crate) exists: Option<bool>,
    pub(crate) forgotten: bool,
    /// A step panicked here since the memory was last brought back.
    pub(crate) broke: bool,
    /// It may have been closed without everything being saved.
    pub(crate) was_cut_off: bool,
    /// No fault is left that has not been recovered from.
    pub(crate) settled: bool,
}

pub(crate) struct World {
    pub(crate) root: TempDir,
    pub(crate) config: RuntimeConfig,
    pub(crate) injector: Injector,
    pub(crate) runtime: Option<Runtime>,
    pub(crate) oracle: Oracle,
    pub(crate) stream: Stream,
    pub(crate) next: usize,
    pub(crate) users: Vec<User>,
    /// Panics that are accounted for.
    pub(crate) panics: usize,
    /// What some reader holds all the time, and must not change.
    pub(crate) held: Option<(MemorySnapshot, Known)>,
}

impl World {
    pub(crate) fn new(mut config: RuntimeConfig) -> Self {
        let injector = Injector::default();
        config.storage = Some(injector.hook());
        let root = tempfile::tempdir().unwrap();
        let runtime = Runtime::open(root.path(), config.clone()).unwrap();
        // So that it is known in whose folder a step panics. Then they are not there again.
        let folders = (0..USERS).map(|user| {
            let shard = runtime.user(name(user)).unwrap().shard().to_string();
            let users = root.path().join("users");
            users.join(&shard[..2]).join(&shard[2..4]).join(&shard[4..])
        });
        let folders: Vec<PathBuf> = folders.collect();
        assert!(runtime.close(PATIENCE).is_durable());
        for folder in &folders {
            std::fs::remove_dir_all(folder).unwrap();
        }
        let stream = Stream::new(TOKENS, 77);
        let mut oracle = Oracle::new();
        oracle.note(&stream.keys, &stream.values);
        let user = |folder| User {
            folder,
            lines: vec![Line::new()],
            on_disk: Vec::new(),
            seen: 0,
            exists: Some(false),
            forgotten: false,
            broke: false,
            was_cut_off: false,
            settled: true,
        };
        Self {
            runtime: Some(Runtime::open(root.path(), config.clone()).unwrap()),
            root,
            config,
            injector,
            oracle,
            stream,
            next: 0,
            users: folders.into_iter().map(user).collect(),
            panics: 0,
            held: None,
        }
    }

    pub(crate) fn apply(&mut self, step: &Step) {
        match *step {
            Step::Fail {
                after,
                count,
                fault,
            } => {
                self.users.iter_mut().for_each(|user| user.settled = false);
                self.injector.fail_steps(after, count, fault);
            }
            Step::Heal { user } => self.heal(user),
            Step::Restart => self.restart(),
            Step::ForgetUser { user } => self.forget_user(user),
            Step::Observe { user, .. }
            | Step::ObserveItem { user, .. }
            | Step::ForgetItem { user, .. }
            | Step::Flush { user }
            | Step::Pin { user }
            | Step::RollBack { user }
            | Step::Rebuild { user }
            | Step::Resume { user } => {
                self.settle(user);
                if let Some(memory) = self.open(user) {
                    self.apply_to(user, &memory, step);
                    self.check(user, &memory);
                    self.hold(user, &memory);
                }
            }
        }
    }

    pub(crate) fn apply_to(&mut self, user: usize, memory: &UserMemory, step: &Step) {
        match *step {
            Step::Observe { tokens, wait, .. } => self.observe(user, memory, None, tokens, wait),
            Step::ObserveItem { item, tokens, .. } => {
                self.observe(user, memory, Some(item), tokens, false);
            }
            Step::ForgetItem { item, wait, .. } => self.forget_item(user, memory, item, wait),
            Step::Flush { .. } => {
                let flushed = memory.flush();
                self.durable_if(user, memory, flushed);
            }
            Step::Pin { .. } => self.pin(user, memory),
            Step::RollBack { .. } => self.roll_back(user, memory),
            Step::Rebuild { .. } => self.rebuild(user, memory),
            Step::Resume { .. } => self.resume(user, memory),
            Step::ForgetUser { .. } | Step::Restart | Step::Fail { .. } | Step::Heal { .. } => {}
        }
    }

    /// The disk is well, every memory is brought back, and all of it is there, also when the
    /// runtime is opened again.
    pub(crate) fn end(&mut self) {
        self.injector.heal();
        for _ in 0..2 {
            for user in 0..USERS {
                self.settle(user);
            }
            self.restart();
            for user in 0..USERS {
                if let Some(memory) = self.open(user) {
                    self.check(user, &memory);
                    let line = &self.users[user].lines[0];
                    assert_eq!(memory.progress().durable, line.len() as u64);
                    assert!(memory.skipped().is_empty(), "{:?}", memory.skipped());
                }
            }
            eventually("nobody is unhealthy", || {
                self.runtime().stats().unhealthy_users == 0
            });
        }
        if let Some((snapshot, known)) = &self.held {
            assert_eq!(&self.what_it_knows(snapshot), known, "a held snapshot");
        }
    }

    /// Once the disk is well, a memory comes back and all of it becomes durable.
    pub(crate) fn settle(&mut self, user: usize) {
        let known = &self.users[user];
        if self.injector.is_armed() || known.settled {
            return;
        }
        if known.forgotten || known.exists == Some(false) {
            self.users[user].settled = true;
            return;
        }
        let Some(memory) = self.open(user) else {
            panic!("user {user} cannot be opened on a disk that is well");
        };
        let mut attempts = 0;
        loop {
            if is_failed(&memory.health()) {
                self.resume(user, &memory);
            }
            match memory.flush() {
                Ok(()) => break,
                // One attempt may have failed before the disk was well, or a step panicked.
                Err(error) => self.explain(user, "flush", error),
            }
            attempts += 1;
            assert!(
                attempts < 4,
                "saving goes on failing: {:?}",
                memory.health()
            );
        }
        let is_well = || memory.health().is_healthy();
        eventually("it is healthy", is_well);
        self.check(user, &memory);
        let progress = memory.progress();
        assert_eq!(progress.accepted, progress.visible);
        assert_eq!(progress.accepted, progress.durable);
        self.users[user].settled = true;
    }

    pub(crate) fn heal(&mut self, user: usize) {
        self.injector.heal();
        let known = &self.users[user];
        if known.settled || known.forgotten || known.exists == Some(false) {
            return;
        }
        let memory = self.open(user).unwrap();
        let health = memory.health();
        if matches!(health, Health::Retrying { attempts, .. } if attempts <= FEW) {
            let is_over = || !matches!(memory.health(), Health::Retrying { .. });
            eventually("it comes back by itself", is_over);
        }
        drop(memory);
        self.settle(user);
    }

    pub(crate) fn restart(&mut self) {
        let is_armed = self.injector.is_armed();
        // On a disk that refuses, nothing becomes durable by waiting.
        let deadline = if is_armed {
            Duration::from_millis(200)
        } else {
            PATIENCE
        };
        let report = self.runtime.take().unwrap().close(deadline);
        self.note_panics();
        for told in &report.users {
            let shard = told.shard.to_string();
            let is_meant = |user: &&mut User| user.folder.ends_with(&shard[4..]);
            let user = self.users.iter_mut().find(is_meant).unwrap();
            if told.is_durable() {
                user.lines
                    .retain(|line| line.len() as u64 == told.progress.accepted);
            } else {
                assert!(is_armed || user.broke, "{told:?}");
            }
            for line in &mut user.lines {
                line.durable = line.durable.max(told.progress.durable as usize);
            }
        }
        let runtime = Runtime::open(self.root.path(), self.config.clone()).unwrap();
        self.runtime = Some(runtime);
        for user in &mut self.users {
            user.was_cut_off = is_armed || !user.settled;
        }
    }

    /// Keeps what a reader has now, from time to time.
    pub(crate) fn hold(&mut self, user: usize, memory: &UserMemory) {
        if self.users[user].seen.is_multiple_of(3) {
            let snapshot = memory.snapshot().unwrap();
            let known = self.what_it_knows(&snapshot);
            if let Some((snapshot, known)) = self.held.replace((snapshot, known)) {
                assert_eq!(self.what_it_knows(&snapshot), known, "a held snapshot");
            }
        }
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap()
    }

    pub(crate) fn keeps_tokens(&self) -> bool {
        self.config.ledger.replay_bytes > 0
    }
}

pub(crate) fn name(user: usize) -> String {
    format!("user {user}")
}

pub(crate) fn is_failed(health: &Health) -> bool {
    matches!(health, Health::Failed { .. })
}

pub(crate) fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < patience, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
