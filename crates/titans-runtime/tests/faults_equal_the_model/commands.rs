//! What is asked for one user, and what it may have done.

use std::ops::Range;
use std::path::Path;

use titans_runtime::{CommandError, Health, ObserveError, Rows, Stopped, Ticket, UserMemory};
use titans_store::StoreError;

use crate::common::{CHUNK, KEY_DIM, VALUE_DIM};
use crate::model::Line;
use crate::world::{TOKENS, World, is_failed, name};

impl World {
    pub(crate) fn observe(
        &mut self,
        user: usize,
        memory: &UserMemory,
        item: Option<u64>,
        tokens: usize,
        wait: bool,
    ) {
        let start = self.next % (TOKENS - 3 * CHUNK);
        self.next += tokens;
        let range = start..start + tokens;
        let mut taken = self.hand_over(memory, item, range.clone());
        if let Err(ObserveError::Busy { .. }) = taken {
            let flushed = memory.flush();
            self.durable_if(user, memory, flushed);
            taken = self.hand_over(memory, item, range.clone());
        }
        let ticket = match taken {
            Ok(ticket) => ticket,
            Err(error) => return self.explain(user, "observe", error),
        };
        for line in &mut self.users[user].lines {
            line.observe(range.clone(), item);
            assert_eq!(ticket.position() as usize % CHUNK, line.len() % CHUNK);
        }
        if wait {
            let waited = ticket.wait();
            self.durable_if(user, memory, waited);
        }
    }

    fn hand_over(
        &self,
        memory: &UserMemory,
        item: Option<u64>,
        tokens: Range<usize>,
    ) -> Result<Ticket, ObserveError> {
        let Some(item) = item else {
            return self.stream.observe(memory, tokens);
        };
        let keys = &self.stream.keys[tokens.start * KEY_DIM..tokens.end * KEY_DIM];
        let values = &self.stream.values[tokens.start * VALUE_DIM..tokens.end * VALUE_DIM];
        memory.observe_item(
            item,
            Rows::matrix(keys, KEY_DIM),
            Rows::matrix(values, VALUE_DIM),
        )
    }

    pub(crate) fn pin(&mut self, user: usize, memory: &UserMemory) {
        let pinned = memory.pin();
        let accepted = memory.progress().accepted as usize;
        match pinned {
            Ok(_) => {
                self.durable_if(user, memory, Ok(()));
                for line in &mut self.users[user].lines {
                    line.pins = vec![Some(accepted)];
                }
            }
            // A memory that never saved has no generation to pin.
            Err(_) if accepted == 0 => {}
            Err(error) => {
                self.explain(user, "pinning", error);
                for line in &mut self.users[user].lines {
                    line.pins.push(Some(accepted));
                }
            }
        }
    }

    pub(crate) fn roll_back(&mut self, user: usize, memory: &UserMemory) {
        let accepted = memory.progress().accepted;
        let lines = self.users[user].lines.clone();
        let pins = || lines.iter().flat_map(|line| &line.pins);
        let rolled_back = match memory.roll_back() {
            Ok(rolled_back) => rolled_back,
            Err(error) => {
                let has_no_pin = match &error {
                    CommandError::Store(error) => {
                        matches!(**error, StoreError::NothingPinned { .. })
                    }
                    error => matches!(error, CommandError::RebuiltSince),
                };
                if has_no_pin {
                    assert!(pins().any(Option::is_none), "{error}");
                    return;
                }
                let is_done = matches!(error, CommandError::Unfinished { .. });
                if is_done || matches!(error, CommandError::Stopped(Stopped::Failed { .. })) {
                    let mut left = Vec::new();
                    for line in &lines {
                        left.extend(self.rolled_back(line));
                    }
                    match is_done {
                        true => self.went_to(user, left),
                        false => {
                            self.nobody_can_tell(user, &error);
                            self.users[user].on_disk = left;
                        }
                    }
                }
                return self.explain(user, "rolling back", error);
            }
        };
        let tokens = rolled_back.tokens as usize;
        assert_eq!(rolled_back.tokens + rolled_back.tokens_dropped, accepted);
        let fitting = lines
            .iter()
            .filter(|line| line.pins.contains(&Some(tokens)));
        let mut left = Vec::new();
        for line in fitting {
            let (mut line, back) = line.cut(tokens);
            (line.durable, line.pins) = (tokens, vec![Some(tokens)]);
            left.extend(self.erased_again(line, &back));
        }
        let now = memory.progress().accepted as usize;
        let user = &mut self.users[user];
        user.lines = left;
        user.lines.retain(|line| line.len() == now);
        user.on_disk.clear();
        user.seen = tokens;
        assert!(
            !user.lines.is_empty(),
            "{rolled_back:?}, {now} of {lines:?}"
        );
    }

    pub(crate) fn rebuild(&mut self, user: usize, memory: &UserMemory) {
        let lines = self.users[user].lines.clone();
        let as_rebuilt = || lines.iter().map(Line::rebuilt);
        let accepted = memory.progress().accepted;
        match memory.rebuild() {
            Ok(rebuilt) => {
                assert!(self.keeps_tokens());
                assert_eq!(rebuilt.approximate, [], "all tokens are kept");
                let forgotten: Vec<u64> = (rebuilt.forgotten.iter())
                    .map(|item| item.0 as u64)
                    .collect();
                let mut left = Vec::new();
                for (line, items) in as_rebuilt() {
                    let tokens = line.len() as u64;
                    let replayed = if items.is_empty() { 0 } else { tokens };
                    if items == forgotten
                        && rebuilt.tokens_removed == accepted - tokens
                        && rebuilt.tokens_replayed == replayed
                    {
                        left.push(line);
                    }
                }
                assert!(!left.is_empty(), "{rebuilt:?} of {lines:?}");
                self.went_to(user, left);
            }
            Err(CommandError::NoReplay { reason }) => {
                // Nothing has been kept of a memory that has learned nothing.
                assert!(!self.keeps_tokens() || accepted == 0, "{reason}, {lines:?}");
            }
            Err(error @ CommandError::Unfinished { .. }) => {
                self.explain(user, "rebuilding", error);
                self.went_to(user, as_rebuilt().map(|(line, _)| line).collect());
            }
            Err(error) => {
                if matches!(error, CommandError::Stopped(Stopped::Failed { .. })) {
                    self.nobody_can_tell(user, &error);
                    self.users[user].on_disk = as_rebuilt().map(|(line, _)| line).collect();
                }
                self.explain(user, "rebuilding", error);
            }
        }
    }

    pub(crate) fn went_to(&mut self, user: usize, lines: Vec<Line>) {
        let user = &mut self.users[user];
        user.seen = lines
            .iter()
            .map(Line::len)
            .min()
            .unwrap_or(0)
            .min(user.seen);
        user.lines = lines;
    }

    /// A step that changes what is durable was refused, and so was a look at what came of it.
    pub(crate) fn nobody_can_tell(&mut self, user: usize, error: &CommandError) {
        if error.to_string().contains("the files could not be opened") {
            self.users[user].broke = true;
        }
    }

    pub(crate) fn resume(&mut self, user: usize, memory: &UserMemory) {
        let (before, accepted) = (memory.health(), memory.progress().accepted);
        let resumed = match memory.resume() {
            Ok(resumed) => resumed,
            Err(error) => return self.explain(user, "resuming", error),
        };
        self.note_panics();
        let tokens = resumed.tokens as usize;
        let known = &mut self.users[user];
        assert_eq!(resumed.tokens_lost, accepted.saturating_sub(resumed.tokens));
        if !known.broke {
            return assert_eq!(resumed.tokens_lost, 0, "{resumed:?}");
        }
        let is_left = |line: &&Line| line.durable <= tokens && tokens <= line.len();
        let left: Vec<Line> = known.lines.iter().filter(is_left).cloned().collect();
        let mut lines = known.on_disk.clone();
        for line in left {
            lines.extend(self.brought_back(&line, tokens));
        }
        let now = memory.progress().accepted as usize;
        lines.retain(|line| line.len() == now);
        let known = &mut self.users[user];
        assert!(
            !lines.is_empty(),
            "{resumed:?} of {:?}, on disk {:?}",
            known.lines,
            known.on_disk
        );
        known.seen = known.seen.min(tokens);
        known.lines = lines;
        if is_failed(&before) {
            known.broke = false;
            known.on_disk.clear();
            let panics = &self.injector.panicked()[self.panics..];
            assert!(panics.is_empty() || self.injector.is_armed());
        }
    }

    pub(crate) fn forget_user(&mut self, user: usize) {
        self.settle(user);
        let memory = match self.users[user].forgotten {
            true => None,
            false => self.open(user),
        };
        let receipt = match self.runtime().forget_user(name(user)) {
            Ok(receipt) => receipt,
            Err(error) => {
                self.explain(user, "forgetting", error);
                // A call that is repeated finishes it.
                self.runtime().forget_user(name(user)).unwrap()
            }
        };
        if let Some(exists) = self.users[user].exists {
            assert_eq!(receipt.is_some(), exists);
        }
        if receipt.is_none() {
            return;
        }
        self.users[user].exists = Some(true);
        self.users[user].forgotten = true;
        if let Some(memory) = memory {
            assert_eq!(memory.health(), Health::Forgotten);
            let snapshot = memory.snapshot().unwrap();
            assert_eq!(snapshot.tokens_seen(), 0);
            assert_eq!(snapshot.items().count(), 0);
            let known = self.what_it_knows(&snapshot);
            assert_eq!(known, self.oracle.known_at(&Line::new(), 0));
        }
        let left = names_in(&self.users[user].folder);
        assert!(
            left.iter()
                .all(|name| name == "FORGOTTEN" || name == "LOCK"),
            "{left:?}"
        );
        assert!(self.open(user).is_none());
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}
