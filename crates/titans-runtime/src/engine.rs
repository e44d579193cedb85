//! What the handles and threads of a runtime share: its shards, and the lines in which they
//! wait for a thread.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use crate::alert::AlertKind;
use crate::backup::Backups;
use crate::config::RuntimeConfig;
use crate::context::Context;
use crate::error::{CommandError, OpenError, Stopped, WaitError};
use crate::gate::{Gate, Inside};
use crate::health::Health;
use crate::locks::{Mutex, Rank};
use crate::root::Root;
use crate::scheduler::WorkQueue;
use crate::shard::{
    Command, Event, Lease, Patience, Position, Reply, Resumed, RolledBack, Shard, Step, Watermark,
};
use crate::stats::{Latency, Stats, Timer};
use crate::table::{Keeper, ShardTable};
use crate::user::RootKey;
use crate::user_id::UserId;

/// Everything that the handles and threads of one runtime share.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) context: Context,
    /// Gone once the runtime is closed, so that the folder is free although handles live on.
    root: Mutex<Option<Root>>,
    pub(crate) key: RootKey,
    pub(crate) gate: Gate,
    pub(crate) shards: ShardTable,
    pub(crate) learners: WorkQueue,
    pub(crate) savers: WorkQueue,
    pub(crate) backups: Backups,
}

impl Engine {
    pub(crate) fn new(config: RuntimeConfig, root: Root, key: RootKey) -> Result<Self, OpenError> {
        let context = Context::new(config, root.path.clone())?;
        Ok(Self {
            shards: ShardTable::new(context.config.resident_users()),
            context,
            root: Mutex::new(Rank::Root, Some(root)),
            key,
            gate: Gate::default(),
            learners: WorkQueue::default(),
            savers: WorkQueue::default(),
            backups: Backups::default(),
        })
    }

    /// An error where the runtime cannot be used: it is closed, or of another process.
    pub(crate) fn check_open(&self) -> Result<(), Stopped> {
        self.context.check_process()?;
        match self.gate.is_closed() {
            true => Err(Stopped::Closed),
            false => Ok(()),
        }
    }

    /// Lets a call in that touches the folder on the caller's thread.
    pub(crate) fn enter(&self) -> Result<Inside<'_>, Stopped> {
        self.context.check_process()?;
        self.gate.enter()
    }

    /// A lease on the shard of a user, loaded if it is not in memory.
    pub(crate) fn lease(self: &Arc<Self>, user: &UserId) -> Result<Lease, OpenError> {
        let _inside = self.enter()?;
        let id = self.key.shard(user)?;
        let (mut alerts, mut is_new) = (Vec::new(), false);
        let load = || {
            let _span = tracing::debug_span!("load", shard = %id).entered();
            let open = || (self.context.timers.load).time(|| Shard::open(id, &self.context));
            // The caller's thread and the place that was made for the memory outlive a bug.
            let opened = guarded(open).map_err(|reason| Stopped::Failed {
                reason: format!("{} failed: {reason}", Step::Opening).into(),
            })??;
            (alerts, is_new) = (opened.alerts, true);
            Ok(opened.shard)
        };
        let leased = self.shards.lease(id, load, &**self, &self.context);
        for (kind, message) in alerts {
            self.context.meters.damaged_files.add(1);
            self.context.alerts.raise(id, kind, message);
        }
        let lease = leased?;
        if self.gate.is_closed() {
            // Whoever closes may have looked before it was here.
            lease.close();
            return Err(Stopped::Closed.into());
        }
        self.account(lease.value());
        if is_new {
            self.finish_rollback(&lease);
        }
        Ok(lease)
    }

    /// Brings the sums over all memories up to date with one of them.
    pub(crate) fn account(&self, shard: &Shard) {
        shard.account(&self.context);
    }

    pub(crate) fn stats(&self) -> Stats {
        let timers = &self.context.timers;
        match self.context.check_process() {
            Ok(()) => self.context.meters.stats(timers, Timer::latency),
            // What was measured lies behind locks that nobody may hold any more to give back.
            Err(_) => self.context.meters.stats(timers, |_| Latency::default()),
        }
    }

    /// How many memories are loaded.
    pub(crate) fn resident_users(&self) -> usize {
        match self.check_open() {
            Ok(()) => self.shards.len(),
            Err(_) => self.context.meters.resident_users.get(),
        }
    }

    /// Puts a shard into the line of the threads that own files. When these have gone home, its
    /// commands are let go of: a caller that waits for one may be what closing waits for.
    pub(crate) fn call_saver(&self, shard: &Arc<Shard>, due: Instant) {
        if !self.savers.push(shard, due) {
            shard.refuse_orders();
        }
    }

    /// Has a command carried out by the thread that owns the shard's files.
    pub(crate) fn order<T>(
        &self,
        shard: &Arc<Shard>,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, CommandError> {
        let (reply, outcome) = sync_channel(1);
        shard.order(command(reply));
        self.call_saver(shard, Instant::now());
        outcome.recv().unwrap_or_else(|_| {
            // It was let go of: the threads are gone, or it panicked.
            let failed = format!("{} failed", Step::Command).into();
            let stopped = match shard.health() {
                Health::Closed => Stopped::Closed,
                Health::Forgotten => Stopped::Forgotten,
                Health::Failed { reason } => Stopped::Failed { reason },
                _ if self.gate.is_closed() => Stopped::Closed,
                _ => Stopped::Failed { reason: failed },
            };
            Err(stopped.into())
        })
    }

    /// Rolls a memory back and lets its threads go on.
    pub(crate) fn roll_back(self: &Arc<Self>, lease: &Lease) -> Result<RolledBack, CommandError> {
        let shard = lease.value();
        let _span = tracing::debug_span!("rollback", shard = %shard.id).entered();
        let rolled_back = self.order(shard, Command::RollBack)?;
        self.context.meters.rollbacks.add(1);
        let (generation, tokens) = (rolled_back.generation, rolled_back.tokens);
        let message = format!("rolled back to {tokens} tokens as generation {generation}");
        let alerts = &self.context.alerts;
        alerts.raise(shard.id, AlertKind::RolledBack, message.clone());
        match self.forget_owed(lease) {
            Ok(()) => {}
            Err(CommandError::Stopped(Stopped::Closed)) => return Err(Stopped::Closed.into()),
            Err(error) => {
                return Err(CommandError::Unfinished {
                    reason: format!("{message}, which knows a forgotten item again: {error}")
                        .into(),
                });
            }
        }
        Ok(rolled_back)
    }

    /// Forgets once more what had been forgotten and is known again since a rollback. Each item
    /// is tried, whatever becomes of the one before it.
    fn forget_owed(self: &Arc<Self>, lease: &Lease) -> Result<(), CommandError> {
        loop {
            let owed = lease.value().published.load().ledger.owed();
            let forgotten = (owed.into_iter()).map(|item| self.forget_item(lease, item).map(drop));
            match forgotten.fold(Ok(()), Result::and) {
                // By somebody else, meanwhile: what is owed now may be something else.
                Err(CommandError::RolledBack) => {}
                done => return done,
            }
        }
    }

    /// The same where nobody has asked for it: a rollback was cut off before it had done so.
    fn finish_rollback(self: &Arc<Self>, lease: &Lease) {
        if let Err(error) = self.forget_owed(lease) {
            let message = format!("a forgotten item is known again since a rollback: {error}");
            let alerts = &self.context.alerts;
            alerts.raise(lease.value().id, AlertKind::Unavailable, message);
        }
    }

    /// Brings a memory back to work.
    pub(crate) fn resume(self: &Arc<Self>, lease: &Lease) -> Result<Resumed, CommandError> {
        let shard = lease.value();
        let was = shard.health();
        if let Health::Retrying { .. } = was {
            let end = shard.accepted();
            self.reach(shard, end, Watermark::Durable, Patience::OneAttempt, None)?;
        }
        let resumed = self.order(shard, Command::Resume)?;
        if matches!(was, Health::Failed { .. } | Health::Frozen { .. }) {
            let Resumed {
                tokens,
                tokens_lost,
            } = resumed;
            let message = format!("resumed at {tokens} tokens, {tokens_lost} were lost");
            let alerts = &self.context.alerts;
            alerts.raise(shard.id, AlertKind::Recovered, message);
            self.finish_rollback(lease);
        }
        Ok(resumed)
    }

    /// Lets a learner look at the shard, if there is something to learn.
    pub(crate) fn wake_learner(&self, shard: &Arc<Shard>) {
        if shard.claim_for_learning(&self.context.bounds) {
            self.line_up(shard);
        }
    }

    /// Puts a shard that is claimed for a learner in line for one.
    pub(crate) fn line_up(&self, shard: &Arc<Shard>) {
        self.learners.push(shard, Instant::now());
    }

    /// Hurries to a position and waits until it is reached. To wait for a position that
    /// nobody hurries to may have no end.
    pub(crate) fn reach(
        &self,
        shard: &Arc<Shard>,
        position: Position,
        watermark: Watermark,
        patience: Patience,
        deadline: Option<Instant>,
    ) -> Result<(), WaitError> {
        self.hurry(shard, position, watermark);
        shard.wait(position, watermark, patience, deadline)
    }

    /// Learns, and saves if it is to be durable, everything before `position` without waiting
    /// for more.
    pub(crate) fn hurry(&self, shard: &Arc<Shard>, position: Position, until: Watermark) {
        if shard.hurry(position, until) {
            self.call_saver(shard, Instant::now());
        }
        self.wake_learner(shard);
    }

    /// Gives the folder back. Files of shards are closed with them.
    pub(crate) fn release_root(&self) {
        let root = self.root.lock().take();
        drop(root);
    }

    /// Ends learning and saving for a shard of which a step failed, until it is resumed.
    pub(crate) fn fail(&self, shard: &Shard, step: Step, reason: &str) {
        let reason = format!("{step} failed: {reason}");
        shard.stop(Event::Broke, reason.as_str().into());
        self.account(shard);
        let alerts = &self.context.alerts;
        alerts.raise(shard.id, AlertKind::Failed, reason);
    }
}

impl Keeper for Engine {
    fn save(&self, shard: &Arc<Shard>) {
        let end = shard.accepted();
        // A failure is reported where it happened.
        let _ = self.reach(shard, end, Watermark::Durable, Patience::OneAttempt, None);
        shard.wait_until_idle();
    }

    fn close(&self, shard: &Arc<Shard>) {
        // An error means that the threads are gone, and with them whoever had the files.
        let _ = self.order(shard, Command::Close);
        self.savers.remove(shard.id);
        self.learners.remove(shard.id);
    }
}

/// Runs a step so that its panic is an error.
///
/// What the step works on is private to it until it succeeds, so nothing half-done is seen.
pub(crate) fn guarded<T>(step: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(step)).map_err(|panic| format!("panic: {}", message(&*panic)))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}
