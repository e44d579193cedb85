//! What the threads do that own the files of shards: saves and commands, one at a time.

use std::sync::Arc;
use std::time::Instant;

use crate::alert::AlertKind;
use crate::engine::{Engine, guarded};
use crate::error::OpenError;
use crate::shard::{
    Claim, Command, Files, SaveJob, SaveOutcome, Shard, ShardFiles, Step, open_files,
};

type HeldFiles = Files<Box<ShardFiles>>;

impl Engine {
    /// Serves savers until the queue is closed.
    pub(crate) fn run_saver(&self) {
        while let Some(shard) = self.savers.pop() {
            // Each step is guarded; this is for what stands between them.
            if let Err(reason) = guarded(|| self.serve_files(&shard)) {
                self.fail(&shard, Step::Saving, &reason);
            }
        }
    }

    fn serve_files(&self, shard: &Arc<Shard>) {
        match shard.claim_files(&self.context.bounds) {
            Claim::Nothing => {}
            Claim::Later(due) => self.call_saver(shard, due),
            Claim::Save(files, job) => self.save(shard, files, job),
            Claim::Order(files, command) => self.carry_out(shard, files, command),
            Claim::Reopen => self.reopen(shard),
        }
    }

    fn save(&self, shard: &Arc<Shard>, mut files: HeldFiles, job: SaveJob) {
        let context = &self.context;
        let saved = guarded(|| {
            let _span = tracing::debug_span!("save", shard = %shard.id).entered();
            context.timers.save.time(|| {
                let files = open_files(shard, &mut files, context)?;
                files.save(&job, context).map_err(OpenError::from)
            })
        });
        match saved {
            Ok(Ok(())) => {
                context.meters.saves.add(1);
                let outcome = shard.saved(job, files, &context.bounds);
                self.after_files(shard, outcome, None);
            }
            Ok(Err(error)) => {
                // What the store had in hand is in an unknown state; it is opened again.
                drop(files);
                self.save_failed(shard, Some(job), &error);
            }
            Err(reason) => {
                drop(files);
                self.saving_broke(shard, Some(job), &reason);
            }
        }
    }

    fn save_failed(&self, shard: &Arc<Shard>, job: Option<SaveJob>, error: &OpenError) {
        let reason = error.to_string();
        if !error.is_retryable() {
            return self.saving_broke(shard, job, &reason);
        }
        let bounds = &self.context.bounds;
        let outcome = shard.save_failed(job, Files::Lost, reason.as_str().into(), bounds);
        self.after_files(shard, outcome, Some(reason));
    }

    /// A save that trying again does not mend.
    fn saving_broke(&self, shard: &Arc<Shard>, job: Option<SaveJob>, reason: &str) {
        // The shard fails first: whoever waits is not to hear that it is tried again.
        self.fail(shard, Step::Saving, reason);
        let bounds = &self.context.bounds;
        let outcome = shard.save_failed(job, Files::Lost, reason.into(), bounds);
        // A command may have come meanwhile, and another thread found the files away.
        if let Some(due) = outcome.due {
            self.call_saver(shard, due);
        }
    }

    /// Opens files again that were lost, which finishes what was left undone.
    fn reopen(&self, shard: &Arc<Shard>) {
        let mut files = Files::Lost;
        let opened = guarded(|| open_files(shard, &mut files, &self.context).map(|_| ()));
        match opened {
            Ok(Ok(())) => {
                let outcome = shard.files_are_back(files, &self.context.bounds);
                self.after_files(shard, outcome, None);
            }
            Ok(Err(error)) => self.save_failed(shard, None, &error),
            Err(reason) => self.saving_broke(shard, None, &reason),
        }
    }

    fn carry_out(&self, shard: &Arc<Shard>, mut files: HeldFiles, command: Command) {
        // If it panics, its caller hears of that when the memory has failed, and not before.
        let caller = command.caller();
        let done = guarded(|| command.carry_out(shard, &mut files, &self.context));
        if let Err(reason) = &done {
            self.fail(shard, Step::Command, reason);
        }
        if done.is_err() {
            // Their lock is given back before anybody is told that they are not in use.
            files = Files::Lost;
        }
        let is_wanted = shard.put_back(files);
        if is_wanted {
            self.call_saver(shard, Instant::now());
        }
        self.account(shard);
        // Turns that came while the shard was quiet were passed over.
        self.wake_learner(shard);
        if let Ok(deliver) = done {
            deliver();
        }
        drop(caller);
    }

    /// After a save that succeeded, or was refused for a `reason` that may pass.
    fn after_files(&self, shard: &Arc<Shard>, outcome: SaveOutcome, reason: Option<String>) {
        if let Some(due) = outcome.due {
            self.call_saver(shard, due);
        }
        self.account(shard);
        // Learning may have waited for this save.
        self.wake_learner(shard);
        if outcome.is_news {
            let (kind, message) = match reason {
                Some(reason) => (AlertKind::Unavailable, reason),
                None => (AlertKind::Recovered, "saving succeeds again".to_owned()),
            };
            self.context.alerts.raise(shard.id, kind, message);
        }
    }
}
