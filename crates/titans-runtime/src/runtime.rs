//! The way in: open a folder of memories, get a user's, close.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use titans_store::ForgetReceipt;

use crate::backup::{BackupConfig, TickReport};
use crate::closing::{CloseReport, Ending, Threads};
use crate::config::RuntimeConfig;
use crate::engine::{Engine, guarded};
use crate::error::{CommandError, IoError, OpenError, WaitError};
use crate::memory::UserMemory;
use crate::root::Root;
use crate::shard::{Patience, Watermark};
use crate::stats::Stats;
use crate::user_id::UserId;
use crate::users::Users;

/// How long dropping a runtime waits for what was handed over.
const DROP_DEADLINE: Duration = Duration::from_secs(30);

/// The memories below one folder, with the threads that learn and save.
///
/// One process owns a folder at a time. Threads share a runtime by reference or in an
/// [`Arc`]. Dropping it closes it as [`close`](Self::close) does with a deadline of 30 seconds,
/// but cannot report.
pub struct Runtime {
    engine: Arc<Engine>,
    ending: Ending,
}

impl Runtime {
    /// Opens a folder of memories, creating it for the owner only.
    ///
    /// # Errors
    /// An impossible configuration, a device that is not there,
    /// [`OpenError::RootLocked`] when another runtime has the folder, and what the
    /// operating system refuses.
    pub fn open(dir: impl AsRef<Path>, config: RuntimeConfig) -> Result<Self, OpenError> {
        config.validate()?;
        let backups = config.backups.map(BackupConfig::absolute).transpose()?;
        let config = RuntimeConfig { backups, ..config };
        let (root, key) = Root::open(dir.as_ref(), config.store.folders)?;
        let engine = Arc::new(Engine::new(config, root, key)?);
        let mut threads = Threads::default();
        let started = start(&engine, &mut threads);
        // Dropping it ends what was started.
        let runtime = Self {
            engine,
            ending: Ending::of(threads),
        };
        started?;
        Ok(runtime)
    }

    /// The memory of a user, loaded or created on first use. A user is a text, a number or a
    /// UUID: see [`UserId`].
    ///
    /// ```
    /// # use titans_runtime::{Runtime, RuntimeConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let root = tempfile::tempdir()?;
    /// # let runtime = Runtime::open(root.path().join("memories"), RuntimeConfig::default())?;
    /// let alice = runtime.user("alice")?;
    /// let customer = runtime.user(42)?; // not the user "42"
    /// # let uuid = [7; 16];
    /// let session = runtime.user(uuid)?; // uuid::Uuid::into_bytes
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// When as many memories are loaded as fit
    /// [`resident_bytes`](RuntimeConfig::resident_bytes), one that nobody has a handle of is
    /// saved and leaves first.
    ///
    /// # Errors
    /// [`OpenError::UserId`], [`OpenError::OtherMemory`] when the files on disk are of
    /// another configuration, [`OpenError::OverBudget`] when every loaded memory is in
    /// use, [`OpenError::Store`], and [`Stopped::Closed`](crate::Stopped::Closed). Damaged
    /// files are no error: an older generation takes their place, see
    /// [`UserMemory::skipped`].
    pub fn user(&self, user: impl Into<UserId>) -> Result<UserMemory, OpenError> {
        let shard = self.engine.lease(&user.into())?;
        Ok(UserMemory::new(Arc::clone(&self.engine), shard))
    }

    /// Forgets a user: takes the memory out of every handle's reach and removes each
    /// generation, pin, journal, quarantined file and backup that its folder knows of. `None`
    /// when there was nothing. Nothing is learned for this user under this root afterwards.
    ///
    /// Removing a file frees its blocks; it does not wipe the device. The receipt says so.
    ///
    /// # Errors
    /// [`CommandError`]: what the operating system refuses. The memory cannot be opened any more
    /// then; call again to finish.
    pub fn forget_user(
        &self,
        user: impl Into<UserId>,
    ) -> Result<Option<ForgetReceipt>, CommandError> {
        self.engine.forget(&user.into())
    }

    /// Whether something is kept of a user: a memory on disk, whole or not, or tokens that an
    /// open one has taken. Nothing is loaded or created.
    ///
    /// # Errors
    /// [`OpenError::UserId`] and [`Stopped::Closed`](crate::Stopped::Closed).
    pub fn contains(&self, user: impl Into<UserId>) -> Result<bool, OpenError> {
        self.engine.contains(&user.into())
    }

    /// The users of whom something is kept, loaded or not, in the order of their names on disk.
    /// Ids are in no file, so it names [shards](titans_store::ShardId).
    ///
    /// ```
    /// # use titans_runtime::{Rows, Runtime, RuntimeConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let root = tempfile::tempdir()?;
    /// # let runtime = Runtime::open(root.path().join("memories"), RuntimeConfig::default())?;
    /// let alice = runtime.user("alice")?;
    /// let row = [0.125_f32; 64];
    /// alice.observe(Rows::row(&row), Rows::row(&row))?.wait()?;
    /// for user in runtime.users()? {
    ///     match user {
    ///         Ok(user) if user.damage.is_empty() => println!("{} {}", user.shard, user.bytes),
    ///         Ok(user) => eprintln!("{}: {:?}", user.shard, user.damage),
    ///         Err(error) => eprintln!("{error}"),
    ///     }
    /// }
    /// # assert_eq!(runtime.users()?.flatten().count(), 1);
    /// assert!(runtime.contains("alice")? && !runtime.contains("bob")?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Stopped::Closed`](crate::Stopped::Closed), and [`OpenError::Io`] when the folder of all
    /// users cannot be listed. What is wrong with one of them is in its entry.
    pub fn users(&self) -> Result<Users, OpenError> {
        Users::of(&self.engine)
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
    /// [`Stopped::Closed`](crate::Stopped::Closed), and when the folder of memories cannot be
    /// listed. A backup that fails is in the report, and an alert.
    pub fn tick(&self, now: SystemTime) -> Result<TickReport, CommandError> {
        self.engine.tick(now)
    }

    /// Waits until everything handed over so far is learned and durable, for every user.
    ///
    /// # Errors
    /// The first failure, after all users were waited for.
    pub fn flush(&self) -> Result<(), WaitError> {
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
    ///
    /// Returns at the deadline with whatever is done by then, or as soon after it as the
    /// chunk or file in hand is finished, and the calls that have begun to open, list, forget or
    /// back up a memory. The report says what became durable.
    ///
    /// Any thread may close, whatever others do meanwhile. What others begin from then on is
    /// answered with [`Stopped::Closed`](crate::Stopped::Closed): [`user`](Self::user) and the
    /// like, and `observe` on every handle, also one that waits for room. Recalling goes on from
    /// the snapshot that a handle has. Rows that were taken before are in the report. Whoever
    /// closes while another thread does waits for that one, at most until its own deadline, and
    /// gets the same report; closing again later returns that report at once.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use titans_runtime::{Rows, Runtime, RuntimeConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let root = tempfile::tempdir()?;
    /// # let runtime = Runtime::open(root.path().join("memories"), RuntimeConfig::default())?;
    /// let alice = runtime.user("alice")?;
    /// let row = [0.125_f32; 64];
    /// alice.observe(Rows::row(&row), Rows::row(&row))?;
    /// let report = runtime.close(Duration::from_secs(30));
    /// assert!(report.is_durable());
    /// assert!(alice.observe(Rows::row(&row), Rows::row(&row)).is_err());
    /// assert!(alice.recall(Rows::row(&row)).is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self, deadline: Duration) -> CloseReport {
        self.ending.close(&self.engine, deadline)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if self.engine.context.check_process().is_err() {
            return self.ending.abandon();
        }
        if !self.ending.is_open() {
            return;
        }
        let report = self.close(DROP_DEADLINE);
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

/// Starts the threads of a runtime; those that run already are in `threads` when one cannot be
/// started.
fn start(engine: &Arc<Engine>, threads: &mut Threads) -> Result<(), IoError> {
    for index in 0..engine.context.config.savers {
        let saver = spawn(engine, format!("titanmem-save-{index}"), Engine::run_saver)?;
        threads.working.push(saver);
    }
    if engine.ticks_by_itself() {
        let backups = spawn(engine, "titanmem-backup".to_owned(), Engine::run_backups)?;
        threads.working.push(backups);
    }
    if engine.context.config.alerts.have_sink() {
        let run = |engine: &Engine| engine.context.alerts.run();
        threads.alerting = Some(spawn(engine, "titanmem-alert".to_owned(), run)?);
    }
    let learning = Arc::clone(engine);
    let serve = move || {
        // Each step is guarded; a member of a pool must not end by a panic in any case.
        while let Err(reason) = guarded(|| learning.run_learner()) {
            tracing::error!("a learner starts anew: {reason}");
        }
    };
    threads.learners = Some(engine.context.compute.start_learners(serve));
    Ok(())
}

fn spawn(engine: &Arc<Engine>, name: String, run: fn(&Engine)) -> Result<JoinHandle<()>, IoError> {
    let engine = Arc::clone(engine);
    std::thread::Builder::new()
        .name(name.clone())
        .spawn(move || run(&engine))
        .map_err(IoError::of("start the thread", name))
}
