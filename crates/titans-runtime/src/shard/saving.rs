//! What the thread that owns a shard's files gets to do, and what becomes of a save.

use std::sync::Arc;
use std::time::Instant;

use super::Shard;
use super::desk::Files;
use super::files::{SaveJob, ShardFiles};
use super::order::Command;
use super::phase::Event;
use super::state::{Mark, ShardState};
use crate::context::Bounds;
use crate::health::Retry;

/// What there is to do with the files of a shard.
pub(crate) enum Claim {
    Nothing,
    /// Nothing before then.
    Later(Instant),
    Save(Files<Box<ShardFiles>>, SaveJob),
    Order(Files<Box<ShardFiles>>, Command),
    /// The files are lost and nothing waits to be saved: what was left undone is finished when
    /// they are opened.
    Reopen,
}

/// What is next after a save.
#[must_use = "a command may wait for the files"]
#[derive(Debug, Default)]
pub(crate) struct SaveOutcome {
    /// When the shard is to be looked at again; `None` if nothing asks for it by itself.
    pub(crate) due: Option<Instant>,
    /// The first success after a failure, or the first failure after a success.
    pub(crate) is_news: bool,
}

impl ShardState {
    /// When a shard whose files were put back is to be looked at again.
    fn due_next(&self, has_orders: bool, bounds: &Bounds, now: Instant) -> Option<Instant> {
        match has_orders {
            true => Some(now),
            false if self.unsaved.is_empty() => None,
            false => self.due(bounds.durability.pause(), now),
        }
    }
}

impl Shard {
    /// What there is to do with the files now. Whoever gets them puts them back with
    /// [`saved`](Self::saved), [`save_failed`](Self::save_failed) or
    /// [`put_back`](Self::put_back).
    pub(crate) fn claim_files(&self, bounds: &Bounds) -> Claim {
        let mut state = self.state.lock();
        if let Some((command, files)) = state.desk.begin_order() {
            return Claim::Order(files, command);
        }
        let has_saves = state.phase.saves() && !state.unsaved.is_empty();
        let is_lost = state.phase.saves() && state.desk.are_lost() && state.retry.is_some();
        if !has_saves && !is_lost {
            return Claim::Nothing;
        }
        let now = Instant::now();
        match state.due(bounds.durability.pause(), now) {
            None => return Claim::Nothing,
            Some(due) if due > now => return Claim::Later(due),
            Some(_) => {}
        }
        let Some(files) = state.desk.begin_saving() else {
            return Claim::Nothing;
        };
        let Some(snapshot) = state.unsaved.pop_front() else {
            return Claim::Reopen;
        };
        state.saving = true;
        state.saving_holds_to = u64::MAX;
        let tokens = snapshot.state.tokens_seen;
        let rows = state.unsaved_rows.iter();
        let included = rows.take_while(|rows| rows.end() <= tokens).count();
        let job = SaveJob {
            follows_durable: snapshot.version == state.durable.version + 1,
            snapshot,
            rows: state.unsaved_rows.drain(..included).collect(),
        };
        Claim::Save(files, job)
    }

    /// Records a save.
    pub(crate) fn saved(
        &self,
        job: SaveJob,
        files: Files<Box<ShardFiles>>,
        bounds: &Bounds,
    ) -> SaveOutcome {
        let saved = Mark::of(&job.snapshot);
        // Before anybody learns on: its buffers may be the next ones.
        drop(job);
        let mut state = self.state.lock();
        let has_orders = state.desk.put_back(files);
        state.saving = false;
        state.durable = Mark {
            tokens: saved.tokens.min(state.saving_holds_to),
            ..saved
        };
        state.last_save = Instant::now();
        let is_news = state.retry.take().is_some();
        state.phase = state.phase.after(Event::Saved);
        let due = state.due_next(has_orders, bounds, state.last_save);
        self.state.announce(state, ());
        SaveOutcome { due, is_news }
    }

    /// Records that a save was refused for a reason that may pass: what it was about waits to
    /// be saved again. Without a job, that the files could not be opened.
    pub(crate) fn save_failed(
        &self,
        job: Option<SaveJob>,
        files: Files<Box<ShardFiles>>,
        reason: Arc<str>,
        bounds: &Bounds,
    ) -> SaveOutcome {
        let mut state = self.state.lock();
        let has_orders = state.desk.put_back(files);
        state.saving = false;
        let mut superseded = None;
        if let Some(SaveJob { snapshot, rows, .. }) = job {
            let holds_to = state.saving_holds_to;
            let rows = rows.into_iter().filter(|rows| rows.end() <= holds_to);
            state.unsaved_rows.splice(0..0, rows);
            // The watch went back behind it, or a newer snapshot stands for it, too.
            let is_over = snapshot.state.tokens_seen > holds_to;
            let has_newer = bounds.durability.coalesces() && !state.unsaved.is_empty();
            match is_over || has_newer {
                true => superseded = Some(snapshot),
                false => state.unsaved.push_front(snapshot),
            }
        }
        state.failed_saves += 1;
        state.phase = state.phase.after(Event::SaveFailed);
        let (mut due, mut is_news) = (has_orders.then(Instant::now), false);
        if state.phase.saves() {
            let retry = Retry::after(state.retry.as_ref(), self.id, reason);
            due = due.or(Some(retry.not_before));
            is_news = state.retry.replace(retry).is_none();
        }
        self.state.announce(state, superseded);
        SaveOutcome { due, is_news }
    }

    /// Records that the files could be opened again.
    pub(crate) fn files_are_back(
        &self,
        files: Files<Box<ShardFiles>>,
        bounds: &Bounds,
    ) -> SaveOutcome {
        let mut state = self.state.lock();
        let has_orders = state.desk.put_back(files);
        let is_news = state.retry.take().is_some();
        state.phase = state.phase.after(Event::Saved);
        // Something may have been learned meanwhile, and whoever came to save it found the
        // files away.
        let due = state.due_next(has_orders, bounds, Instant::now());
        self.state.announce(state, ());
        SaveOutcome { due, is_news }
    }

    /// Something is left undone that opening the files finishes; it is tried after a pause.
    pub(super) fn finish_later(&self, reason: Arc<str>) {
        let mut state = self.state.lock();
        state.retry = Some(Retry::after(state.retry.as_ref(), self.id, reason));
        state.phase = state.phase.after(Event::SaveFailed);
    }

    /// Puts files back after a command. `true` when something waits for them.
    pub(crate) fn put_back(&self, files: Files<Box<ShardFiles>>) -> bool {
        let mut state = self.state.lock();
        state.saving = false;
        let has_orders = state.desk.put_back(files);
        let is_wanted = has_orders || !state.unsaved.is_empty() || state.retry.is_some();
        self.state.announce(state, ());
        is_wanted
    }

    /// Puts a command in line for the thread that owns the files. Where no such thread is left,
    /// it is dropped, and whoever waits for its outcome learns of that.
    pub(crate) fn order(&self, command: Command) {
        let refused = self.state.lock().desk.order(command);
        drop(refused);
    }

    /// Lets go of the commands that wait, so that whoever asked for them hears of it.
    pub(crate) fn refuse_orders(&self) {
        let refused = self.state.lock().desk.refuse_orders();
        drop(refused);
    }
}
