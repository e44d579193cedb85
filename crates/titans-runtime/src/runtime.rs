//! The way in: open a folder of memories, get a user's, close.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use titans_store::{ForgetReceipt, ShardId};

use crate::backup::{BackupConfig, TickReport};
use crate::compute::Learners;
use crate::config::RuntimeConfig;
use crate::engine::{Engine, guarded};
use crate::error::RuntimeError;
use crate::memory::UserMemory;
use crate::root::Root;
use crate::shard::{Patience, Progress, Watermark};
use crate::stats::Stats;

/// Name of the thread that delivers alerts.
const ALERTING: &str = "titanmem-alert";

/// How long dropping a runtime waits for what was handed over.
const DROP_DEADLINE: Duration = Duration::from_secs(30);

/// The memories below one folder, with the threads that learn and save.
///
/// One process owns a folder at a time. Dropping a runtime closes it as
/// [`close`](Self::close) does with a deadline of 30 seconds, but cannot report.
pub struct Runtime {
    engine: Arc<Engine>,
    learners: Option<Learners>,
    threads: Vec<JoinHandle<()>>,
}

impl Runtime {
    /// Opens a folder of memories, creating it for the owner only.
    ///
    /// # Errors
    /// An impossible configuration, a device that is not there,
    /// [`RuntimeError::RootLocked`] when another runtime has the folder, and what the
    /// operating system refuses.
    pub fn open(dir: impl AsRef<Path>, config: RuntimeConfig) -> Result<Self, RuntimeError> {
        config.validate()?;
        let backups = config.backups.map(BackupConfig::absolute).transpose()?;
        let config = RuntimeConfig { backups, ..config };
        let (root, key) = Root::open(dir.as_ref(), config.store.folders)?;
        let engine = Arc::new(Engine::new(config, root, key)?);
        let mut runtime = Self {
            engine,
            learners: None,
            threads: Vec::new(),
        };
        for index in 0..runtime.engine.context.config.savers {
            runtime.spawn(format!("titanmem-save-{index}"), Engine::run_saver)?;
        }
        if runtime.engine.ticks_by_itself() {
            runtime.spawn("titanmem-backup".to_owned(), Engine::run_backups)?;
        }
        if runtime.engine.context.config.alerts.have_sink() {
            runtime.spawn(ALERTING.to_owned(), |engine| {
                engine.context.alerts.run();
            })?;
        }
        let engine = Arc::clone(&runtime.engine);
        let serve = move || {
            // Each step is guarded; a member of a pool must not end by a panic in any case.
            while let Err(reason) = guarded(|| engine.run_learner()) {
                tracing::error!("a learner starts anew: {reason}");
            }
        };
        runtime.learners = Some(runtime.engine.context.compute.start_learners(serve));
        Ok(runtime)
    }

    /// The memory of a user, loaded or created on first use.
    ///
    /// When as many memories are loaded as fit
    /// [`resident_bytes`](RuntimeConfig::resident_bytes), one that nobody has a handle of is
    /// saved and leaves first.
    ///
    /// # Errors
    /// [`RuntimeError::UserId`], [`RuntimeError::OtherMemory`] when the files on disk are of
    /// another configuration, [`RuntimeError::OverBudget`] when every loaded memory is in
    /// use, [`RuntimeError::Store`], [`RuntimeError::Closed`]. Damaged
    /// files are no error: an older generation takes their place, see
    /// [`UserMemory::skipped`].
    pub fn user(&self, user: &str) -> Result<UserMemory, RuntimeError> {
        let shard = self.engine.lease(user)?;
        Ok(UserMemory::new(Arc::clone(&self.engine), shard))
    }

    /// Forgets a user: takes the memory out of every handle's reach and removes each
    /// generation, pin, journal, quarantined file and backup that its folder knows of. `None`
    /// when there was nothing. Nothing is learned for this user under this root afterwards.
    ///
    /// Removing a file frees its blocks; it does not wipe the device. The receipt says so.
    ///
    /// # Errors
    /// What the operating system refuses. The memory cannot be opened any more then; call
    /// again to finish.
    pub fn forget_user(&self, user: &str) -> Result<Option<ForgetReceipt>, RuntimeError> {
        self.engine.forget(user)
    }

    /// The configuration.
    pub fn config(&self) -> &RuntimeConfig {
        &self.engine.context.config
    }

    /// How many memories are loaded.
    pub fn resident_users(&self) -> usize {
        self.engine.resident_users()
    }

    /// What the runtime has done since it was opened, and what it holds now.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Does what is due at `now`: cold backups, if the configuration asks for them. Cheap
    /// when nothing is due, but it looks at a small file of every memory on disk, and a
    /// backup takes as long as copying does, so call it every few minutes on a thread that
    /// may wait. Neither learning nor reading waits for it.
    ///
    /// A program that lets a thread of the runtime do this
    /// ([`BackupDriver::Thread`](crate::BackupDriver::Thread)) need not call it.
    ///
    /// # Errors
    /// [`RuntimeError::Closed`], and when the folder of memories cannot be listed. A backup
    /// that fails is in the report, and an alert.
    pub fn tick(&self, now: SystemTime) -> Result<TickReport, RuntimeError> {
        self.engine.tick(now)
    }

    /// Waits until everything handed over so far is learned and durable, for every user.
    ///
    /// # Errors
    /// The first failure, after all users were waited for.
    pub fn flush(&self) -> Result<(), RuntimeError> {
        self.engine.check_open()?;
        let shards = self.engine.shards.all();
        let ends: Vec<_> = shards.iter().map(|shard| shard.accepted()).collect();
        // All hurry before the first is waited for.
        for (shard, end) in shards.iter().zip(&ends) {
            self.engine.hurry(shard, *end, Watermark::Durable);
        }
        let waited = shards
            .iter()
            .zip(ends)
            .map(|(shard, end)| shard.wait(end, Watermark::Durable, Patience::OneAttempt, None));
        waited.fold(Ok(()), Result::and)
    }

    /// Takes nothing more, learns and saves what was taken, and gives the folder back.
    /// Handles can still recall from the snapshots they have.
    ///
    /// Returns at the deadline with whatever is done by then, or as soon after it as the
    /// chunk or file in hand is finished. The report says what became durable.
    pub fn close(mut self, deadline: Duration) -> CloseReport {
        self.shut_down(deadline)
    }

    fn spawn(&mut self, name: String, run: fn(&Engine)) -> Result<(), RuntimeError> {
        let engine = Arc::clone(&self.engine);
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || run(&engine))
            .map_err(RuntimeError::io("start the thread", name))?;
        self.threads.push(thread);
        Ok(())
    }

    fn shut_down(&mut self, deadline: Duration) -> CloseReport {
        let engine = &self.engine;
        if let Err(error) = engine.context.check_process() {
            // The threads are those of the parent, and so is everything that they hold.
            std::mem::forget(std::mem::take(&mut self.threads));
            std::mem::forget(self.learners.take());
            return CloseReport {
                users: Vec::new(),
                refused: Some(error.to_string()),
            };
        }
        let until = Instant::now().checked_add(deadline);
        let shards = engine.shards.all();
        for shard in &shards {
            shard.close();
            engine.hurry(shard, shard.accepted(), Watermark::Durable);
        }
        for shard in &shards {
            // A failure or the deadline shows in the report.
            let patience = Patience::UntilDeadline;
            let _ = shard.wait(shard.accepted(), Watermark::Durable, patience, until);
        }
        engine.learners.close();
        engine.savers.close();
        engine.backups.close();
        if let Some(learners) = self.learners.take() {
            learners.join();
        }
        let (alerting, working): (Vec<_>, Vec<_>) = self
            .threads
            .drain(..)
            .partition(|thread| thread.thread().name() == Some(ALERTING));
        for thread in working {
            // The steps of a shard are guarded, so a thread has nothing to report.
            let _ = thread.join();
        }
        let users = shards
            .iter()
            .map(|shard| {
                let failure = shard.failure();
                shard.end();
                if let Err(reason) = guarded(|| shard.close_unattended()) {
                    tracing::error!(shard = %shard.id, "cannot close its files: {reason}");
                }
                shard.account_nothing(&engine.context);
                UserReport {
                    shard: shard.id,
                    progress: shard.progress(),
                    failure: failure.map(|reason| reason.to_string()),
                }
            })
            .collect();
        engine.context.meters.resident_users.set(0);
        engine.release_root();
        for thread in alerting {
            // A sink may close the runtime, and may also never return.
            if thread.thread().id() != std::thread::current().id()
                && engine.context.alerts.close(until)
            {
                let _ = thread.join();
            }
        }
        CloseReport {
            users,
            refused: None,
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        let report = self.shut_down(DROP_DEADLINE);
        for user in report.users.iter().filter(|user| !user.is_durable()) {
            tracing::error!(shard = %user.shard, progress = ?user.progress, "closed before everything was saved");
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("config", self.config())
            .finish_non_exhaustive()
    }
}

/// What a runtime left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// The users that were open.
    pub users: Vec<UserReport>,
    /// Why nothing was closed, in a child of the process that opened the runtime.
    pub refused: Option<String>,
}

impl CloseReport {
    /// Whether everything that was handed over is durable.
    pub fn is_durable(&self) -> bool {
        self.refused.is_none() && self.users.iter().all(UserReport::is_durable)
    }
}

/// What became of one user's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserReport {
    /// Its name on disk.
    pub shard: ShardId,
    /// How far it came.
    pub progress: Progress,
    /// What failed, if something did.
    pub failure: Option<String>,
}

impl UserReport {
    /// Whether everything that was handed over is durable.
    pub fn is_durable(&self) -> bool {
        self.progress.durable >= self.progress.accepted
    }
}
