//! Opening a memory and looking at it: what it shows must be what one of the histories gives.

use std::thread;
use std::time::{Duration, Instant};

use titans_runtime::{
    Health, MemorySnapshot, OpenError, Rows, RuntimeError, Stopped, UserMemory, WaitError,
};
use titans_store::StoreError;

use crate::common::KEY_DIM;
use crate::model::{Known, Line};
use crate::world::{PATIENCE, World, is_failed, name};

impl World {
    /// Whether a fault may show in what is asked for a user.
    pub(crate) fn may_fail(&self, user: usize) -> bool {
        self.injector.is_armed() || !self.users[user].settled
    }

    pub(crate) fn note_panics(&mut self) {
        let panicked = self.injector.panicked();
        for folder in &panicked[self.panics..] {
            let user = self.users.iter_mut().find(|user| user.folder == *folder);
            let user = user.unwrap_or_else(|| panic!("nobody's folder: {}", folder.display()));
            user.broke = true;
        }
        self.panics = panicked.len();
    }

    /// Asserts that an error is one that a fault explains.
    pub(crate) fn explain(&mut self, user: usize, what: &str, error: impl Into<RuntimeError>) {
        let error = error.into();
        self.note_panics();
        let may_fail = self.may_fail(user);
        assert!(may_fail, "{what} of user {user} without a fault: {error}");
        let user = &mut self.users[user];
        match error.stopped() {
            Some(Stopped::Failed { .. }) => assert!(user.broke, "{what}: {error}"),
            _ => assert!(error.is_retryable(), "{what}: {error}"),
        }
    }

    /// The memory of a user, and what opening it shows.
    pub(crate) fn open(&mut self, user: usize) -> Option<UserMemory> {
        let patience = Instant::now() + PATIENCE;
        loop {
            let panics = self.injector.panicked().len();
            let error = match self.runtime().user(name(user)) {
                Ok(memory) => {
                    assert!(!self.users[user].forgotten, "user {user} is there again");
                    self.users[user].exists = Some(true);
                    self.opened(user, &memory);
                    return Some(memory);
                }
                Err(error) => error,
            };
            let was_forgotten = matches!(&error,
                OpenError::Store(error) if matches!(**error, StoreError::Forgotten { .. }));
            if was_forgotten {
                assert!(self.users[user].forgotten, "user {user}: {error}");
                return None;
            }
            // Others that cannot be saved now take the room; they are told so in time.
            let is_crowded = matches!(error, OpenError::OverBudget { .. });
            if is_crowded && !self.injector.is_armed() && Instant::now() < patience {
                thread::sleep(Duration::from_millis(2));
                continue;
            }
            if self.users[user].exists == Some(false) {
                self.users[user].exists = None;
            }
            let may_fail = self.may_fail(user);
            assert!(may_fail, "opening user {user} without a fault: {error}");
            match error {
                OpenError::Stopped(Stopped::Failed { reason }) => {
                    let told = "opening failed: panic: ";
                    assert!(reason.starts_with(told), "opening user {user}: {reason}");
                    let folder = &self.users[user].folder;
                    let panicked = &self.injector.panicked()[panics..];
                    assert!(panicked.contains(folder), "a panic of another: {reason}");
                }
                error => assert!(error.is_retryable(), "opening user {user}: {error}"),
            }
            return None;
        }
    }

    /// The memory is as it was, or was opened again.
    pub(crate) fn opened(&mut self, user: usize, memory: &UserMemory) {
        let (health, progress) = (memory.health(), memory.progress());
        self.note_panics();
        let (accepted, is_failed) = (progress.accepted as usize, is_failed(&health));
        let known = &self.users[user];
        let may_be_less = (known.broke || known.was_cut_off) && !is_failed;
        let mut lines = known.lines.clone();
        if may_be_less {
            lines.extend(known.on_disk.iter().cloned());
            for line in known.lines.clone() {
                // What a rollback has brought back is forgotten once more on opening.
                for place in line.durable..=accepted.min(line.len()) {
                    if place == accepted || !line.cut(place).1.is_empty() {
                        lines.extend(self.brought_back(&line, place));
                    }
                }
            }
        }
        lines.retain(|line| line.len() == accepted);
        let user = &mut self.users[user];
        if may_be_less {
            let durable = lines.iter().map(|line| line.durable).min();
            user.seen = user.seen.min(durable.unwrap_or(0));
        }
        assert!(
            !lines.is_empty(),
            "{progress:?}, {health:?}, broke: {}, cut off: {}, expected {:?}, on disk {:?}",
            user.broke,
            user.was_cut_off,
            user.lines,
            user.on_disk
        );
        user.lines = lines;
        user.was_cut_off = false;
    }

    pub(crate) fn what_it_knows(&self, snapshot: &MemorySnapshot) -> Known {
        let queries = Rows::matrix(self.oracle.queries(), KEY_DIM);
        let recalled = snapshot.recall(queries).unwrap();
        let items = snapshot.items().map(|piece| (piece.item.0, piece.tokens));
        Known {
            bits: recalled
                .values()
                .iter()
                .map(|number| number.to_bits())
                .collect(),
            tokens_written: snapshot.tokens_written(),
            items: items.collect(),
        }
    }

    /// What readers see is what one of the histories gives, and what was durable stays so.
    pub(crate) fn check(&mut self, user: usize, memory: &UserMemory) {
        let health = memory.health();
        self.note_panics();
        let is_armed = self.injector.is_armed();
        match &health {
            Health::Healthy => {}
            Health::Retrying { .. } => assert!(self.may_fail(user), "{health:?}"),
            Health::Failed { .. } => assert!(self.users[user].broke, "{health:?}"),
            _ => panic!("user {user} is {health:?}"),
        }
        let snapshot = memory.snapshot().unwrap();
        let progress = memory.progress();
        let tokens = snapshot.tokens_seen() as usize;
        let known = self.what_it_knows(&snapshot);
        let (oracle, user) = (&mut self.oracle, &mut self.users[user]);
        assert!(
            user.seen <= tokens,
            "{} were visible, {tokens} are",
            user.seen
        );
        user.seen = tokens;
        assert!(progress.durable <= progress.visible && progress.visible <= progress.accepted);
        let durable = progress.durable as usize;
        let mut others = Vec::new();
        let mut fits = |line: &Line| {
            if line.len() as u64 != progress.accepted || line.durable > durable {
                return false;
            }
            let expected = oracle.known_at(line, tokens);
            let fits = expected == known;
            if !fits {
                others.push(expected.items);
            }
            fits
        };
        let before = std::mem::take(&mut user.lines);
        user.lines = before.iter().filter(|line| fits(line)).cloned().collect();
        assert!(
            !user.lines.is_empty(),
            "{progress:?}, {health:?}, {tokens} visible, items {:?}, expected one of {others:?} \
             of {before:?}",
            known.items
        );
        user.lines.dedup();
        for line in &mut user.lines {
            line.durable = durable;
        }
        if !is_armed && health.is_healthy() && progress.durable == progress.accepted {
            user.broke = false;
            user.on_disk.clear();
        }
    }

    /// Everything that was handed over is durable, or an error says why not.
    pub(crate) fn durable_if(
        &mut self,
        user: usize,
        memory: &UserMemory,
        outcome: Result<(), WaitError>,
    ) {
        if let Err(error) = outcome {
            return self.explain(user, "waiting", error);
        }
        let accepted = memory.progress().accepted as usize;
        let lines = &mut self.users[user].lines;
        lines.retain(|line| line.len() == accepted);
        lines.iter_mut().for_each(|line| line.durable = accepted);
    }
}
