//! What the handles and threads of a runtime share, and what its savers do.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use titans_core::NeuralMemory;
use titans_store::ForgetReceipt;

use crate::alert::AlertKind;
use crate::checkpoint::{MemoryIdentity, empty_snapshot, image_delta};
use crate::config::RuntimeConfig;
use crate::error::RuntimeError;
use crate::root::Root;
use crate::scheduler::WorkQueue;
use crate::shard::{Bounds, Lease, Position, RolledBack, SaveJob, Shard, Step, Watermark};
use crate::stats::Timers;
use crate::table::ShardTable;
use crate::user::{RootKey, shard_dir};

/// On two cores a third faster than one after the other for a deep memory. A larger batch keeps
/// its users waiting longer.
const LEARN_BATCH: usize = 16;

/// Everything that the handles and threads of one runtime share.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) config: RuntimeConfig,
    pub(crate) bounds: Bounds,
    /// Users whose chunks are learned at once, at most.
    pub(crate) learn_batch: usize,
    pub(crate) memory: NeuralMemory,
    pub(crate) identity: MemoryIdentity,
    /// Gone once the runtime is closed, so that the folder is free although handles live on.
    root: Mutex<Option<Root>>,
    key: RootKey,
    pub(crate) shards: ShardTable,
    pub(crate) learners: WorkQueue,
    pub(crate) savers: WorkQueue,
    pub(crate) timers: Timers,
    /// Snapshots that are alive, of all shards.
    pub(crate) live_snapshots: Arc<AtomicUsize>,
}

impl Engine {
    pub(crate) fn new(
        config: RuntimeConfig,
        root: Root,
        key: RootKey,
    ) -> Result<Self, RuntimeError> {
        let device = config.device.open()?;
        let memory = NeuralMemory::new(config.memory, &device)?;
        Ok(Self {
            bounds: Bounds {
                queue_tokens: config.queue_tokens,
                when_full: config.when_full,
                durability: config.durability,
                keep_replaced: memory.writes_in_place(),
            },
            learn_batch: config
                .learn_batch
                .unwrap_or(match memory.writes_in_place() {
                    true => 1,
                    false => LEARN_BATCH,
                }),
            identity: MemoryIdentity::new(&memory),
            shards: ShardTable::new(config.resident_users()),
            config,
            memory,
            root: Mutex::new(Some(root)),
            key,
            learners: WorkQueue::default(),
            savers: WorkQueue::default(),
            timers: Timers::new(),
            live_snapshots: Arc::default(),
        })
    }

    /// Widths of keys and values.
    pub(crate) fn widths(&self) -> (usize, usize) {
        (self.config.memory.key_dim, self.config.memory.value_dim)
    }

    /// A lease on the shard of a user, loaded if it is not in memory.
    pub(crate) fn lease(&self, user: &str) -> Result<Lease, RuntimeError> {
        let path = self.root_path()?;
        let id = self.key.shard(user)?;
        let save = |shard: &Arc<Shard>| {
            self.hurry(shard, shard.accepted());
            // A failure is reported where it happened, and the shard may leave then.
            let _ = shard.wait(shard.accepted(), Watermark::Durable, None);
        };
        self.shards.lease(id, || Shard::open(&path, id, self), save)
    }

    /// Rolls a memory back and lets its threads go on.
    pub(crate) fn roll_back(&self, shard: &Arc<Shard>) -> Result<RolledBack, RuntimeError> {
        let outcome = shard.roll_back(self);
        // Whatever came of it, turns that came while the shard was paused were passed over.
        self.savers.push(shard, Instant::now());
        self.wake_learner(shard);
        if let Ok(rolled_back) = &outcome {
            let (generation, tokens) = (rolled_back.generation, rolled_back.tokens);
            let message = format!("rolled back to {tokens} tokens as generation {generation}");
            self.config
                .alerts
                .raise(shard.id, AlertKind::RolledBack, message);
        }
        outcome
    }

    /// Removes everything that is known of a user; `None` when nothing is.
    pub(crate) fn forget(&self, user: &str) -> Result<Option<ForgetReceipt>, RuntimeError> {
        let root = self.root_path()?;
        let id = self.key.shard(user)?;
        self.shards.take_out(id, |resident| {
            if let Some(shard) = resident {
                shard.empty(empty_snapshot(&self.memory, id));
            }
            let dir = shard_dir(&root, id);
            if !dir.exists() {
                return Ok(None);
            }
            Ok(Some(titans_store::forget(&dir, id, None)?))
        })
    }

    fn root_path(&self) -> Result<PathBuf, RuntimeError> {
        let root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
        match &*root {
            Some(root) => Ok(root.path.clone()),
            None => Err(RuntimeError::Closed),
        }
    }

    /// Lets a learner look at the shard, if there is something to learn.
    pub(crate) fn wake_learner(&self, shard: &Arc<Shard>) {
        if shard.claim_for_learning(&self.bounds) {
            self.learners.push(shard, Instant::now());
        }
    }

    /// Learns and saves everything before `position` without waiting for more.
    pub(crate) fn hurry(&self, shard: &Arc<Shard>, position: Position) {
        if shard.hurry(position) {
            self.savers.push(shard, Instant::now());
        }
        self.wake_learner(shard);
    }

    /// Serves savers until the queue is closed.
    pub(crate) fn run_saver(&self) {
        while let Some(shard) = self.savers.pop() {
            let Some(job) = shard.claim_for_saving(&self.bounds) else {
                continue;
            };
            let saved = guarded(|| self.timers.save.time(|| self.save(&shard, &job)));
            match saved {
                Ok(()) => {
                    if let Some(due) = shard.saved(job.snapshot, &self.bounds) {
                        self.savers.push(&shard, due);
                    }
                    // Learning may have waited for this save.
                    self.wake_learner(&shard);
                }
                Err(reason) => self.fail(&shard, Step::Saving, reason),
            }
        }
    }

    /// Gives the folder back. Files of shards are closed with them.
    pub(crate) fn release_root(&self) {
        self.root
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    fn save(&self, shard: &Shard, job: &SaveJob) -> Result<(), String> {
        let image = self.identity.image(&job.snapshot);
        let mut store = shard.store.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(store) = store.as_mut() else {
            return Err("the files are closed".to_owned());
        };
        // A delta says what changed since the version before, so it is of use only when
        // that one is what the disk holds.
        let changed = job.snapshot.changed.as_ref().and_then(image_delta);
        let saved = match &changed {
            Some(changed) if job.follows_durable => store.save_delta(&image, changed),
            _ => store.save(&image),
        };
        saved.map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Ends learning and saving for a shard of which a step failed.
    pub(crate) fn fail(&self, shard: &Shard, step: Step, reason: String) {
        let reason = format!("{step} failed: {reason}");
        shard.fail(step, reason.as_str().into());
        self.config
            .alerts
            .raise(shard.id, AlertKind::Failed, reason);
    }
}

/// Runs a step so that its panic is an error.
///
/// What the step works on is private to it until it succeeds, so nothing half-done is seen.
pub(crate) fn guarded<T>(step: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(outcome) => outcome,
        Err(panic) => Err(format!("panic: {}", message(&*panic))),
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}
