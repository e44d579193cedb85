//! What the threads of a runtime do: learn a chunk, publish it, save it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use titans_core::NeuralMemory;
use titans_store::{ForgetReceipt, MemoryStore, Saved, ShardId, StoreError};

use crate::alert::AlertKind;
use crate::backup::Backups;
use crate::checkpoint::{MemoryIdentity, empty_snapshot, image_delta};
use crate::config::RuntimeConfig;
use crate::error::RuntimeError;
use crate::metric::describe_metrics;
use crate::root::Root;
use crate::scheduler::WorkQueue;
use crate::shard::{
    Bounds, Lease, Position, RolledBack, SaveJob, Shard, Sizes, TokenRows, Watermark,
};
use crate::snapshot::Snapshot;
use crate::stats::{Meters, Stats, Timers};
use crate::table::ShardTable;
use crate::user::{RootKey, shard_dir};

/// Everything that the handles and threads of one runtime share.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) config: RuntimeConfig,
    pub(crate) bounds: Bounds,
    pub(crate) memory: NeuralMemory,
    pub(crate) identity: MemoryIdentity,
    /// Gone once the runtime is closed, so that the folder is free although handles live on.
    root: Mutex<Option<Root>>,
    key: RootKey,
    pub(crate) shards: ShardTable,
    pub(crate) learners: WorkQueue,
    pub(crate) savers: WorkQueue,
    pub(crate) backups: Backups,
    pub(crate) timers: Timers,
    pub(crate) meters: Arc<Meters>,
    sizes: Sizes,
}

impl Engine {
    pub(crate) fn new(
        config: RuntimeConfig,
        root: Root,
        key: RootKey,
    ) -> Result<Self, RuntimeError> {
        let device = config.device.open()?;
        let memory = NeuralMemory::new(config.memory, &device)?;
        describe_metrics();
        let meters = Arc::new(Meters::new());
        Ok(Self {
            bounds: Bounds {
                queue_tokens: config.queue_tokens,
                when_full: config.when_full,
                durability: config.durability,
            },
            identity: MemoryIdentity::new(&memory),
            shards: ShardTable::new(config.resident_users(), Arc::clone(&meters)),
            sizes: Sizes::of(&config),
            config,
            memory,
            root: Mutex::new(Some(root)),
            key,
            learners: WorkQueue::default(),
            savers: WorkQueue::default(),
            backups: Backups::default(),
            timers: Timers::new(),
            meters,
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
        self.shards.lease(id, || self.load(&path, id), save)
    }

    fn load(&self, root: &Path, id: ShardId) -> Result<Shard, RuntimeError> {
        let _span = tracing::debug_span!("load", shard = %id).entered();
        let shard = self.timers.load.time(|| Shard::open(root, id, self))?;
        self.account(&shard);
        Ok(shard)
    }

    /// Brings the sums over all memories up to date with one of them.
    pub(crate) fn account(&self, shard: &Shard) {
        shard.account(self.sizes, &self.meters);
    }

    pub(crate) fn stats(&self) -> Stats {
        self.meters.stats(&self.timers)
    }

    /// Rolls a memory back and lets its threads go on.
    pub(crate) fn roll_back(&self, shard: &Arc<Shard>) -> Result<RolledBack, RuntimeError> {
        let _span = tracing::debug_span!("rollback", shard = %shard.id).entered();
        let outcome = shard.roll_back(self);
        self.account(shard);
        // Whatever came of it, turns that came while the shard was paused were passed over.
        self.savers.push(shard, Instant::now());
        self.wake_learner(shard);
        if let Ok(rolled_back) = &outcome {
            self.meters.rollbacks.add(1);
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
        // A backup that is being taken must not appear after everything was removed.
        let _no_backup = self.backups.pause();
        self.shards.take_out(id, |resident| {
            if let Some(shard) = resident {
                shard.empty(empty_snapshot(&self.memory, id));
            }
            let dir = shard_dir(&root, id);
            if !dir.exists() {
                return Ok(None);
            }
            let receipt = titans_store::forget(&dir, id, None)?;
            self.remove_backups(id)?;
            Ok(Some(receipt))
        })
    }

    pub(crate) fn root_path(&self) -> Result<PathBuf, RuntimeError> {
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

    /// Serves learners until the queue is closed.
    pub(crate) fn run_learner(&self) {
        while let Some(shard) = self.learners.pop() {
            let Some(rows) = shard.next_chunk(&self.bounds) else {
                continue;
            };
            let learned = guarded(|| {
                let _span = tracing::debug_span!("learn", shard = %shard.id).entered();
                self.timers.learn.time(|| self.learn(&shard, rows))
            });
            match learned {
                Ok(snapshot) => {
                    let due = {
                        let _span = tracing::debug_span!("publish", shard = %shard.id).entered();
                        shard.publish(snapshot, &self.bounds, &self.timers.publish)
                    };
                    self.account(&shard);
                    self.savers.push(&shard, due);
                    // To the end of the line: other users are served in between.
                    self.learners.push(&shard, Instant::now());
                }
                Err(reason) => self.fail(&shard, "learning", reason),
            }
        }
    }

    /// Serves savers until the queue is closed.
    pub(crate) fn run_saver(&self) {
        while let Some(shard) = self.savers.pop() {
            let Some(job) = shard.claim_for_saving(&self.bounds) else {
                continue;
            };
            let saved = guarded(|| {
                let _span = tracing::debug_span!("save", shard = %shard.id).entered();
                self.timers.save.time(|| self.save(&shard, &job))
            });
            match saved {
                Ok(()) => {
                    self.meters.saves.add(1);
                    if let Some(due) = shard.saved(&job.snapshot, &self.bounds) {
                        self.savers.push(&shard, due);
                    }
                    self.account(&shard);
                    // Learning may have waited for this save.
                    self.wake_learner(&shard);
                }
                Err(reason) => self.fail(&shard, "saving", reason),
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

    fn learn(&self, shard: &Shard, rows: TokenRows) -> Result<Snapshot, String> {
        let current = shard.published.load();
        let (key_dim, value_dim) = self.widths();
        let tokens = rows.keys.len() / key_dim;
        let device = self.memory.device();
        let tensor =
            |values, dim| Tensor::<2>::from_data(TensorData::new(values, [tokens, dim]), &device);

        let mut state = current.state.clone();
        let keys = tensor(rows.keys, key_dim);
        let values = tensor(rows.values, value_dim);
        let report = self
            .memory
            .write(&mut state, keys, values)
            .map_err(|error| error.to_string())?;
        // Finite input can still overflow. Such a chunk must not replace a good snapshot.
        if let Some(token) = report.surprise.iter().position(|s| !s.is_finite()) {
            return Err(format!(
                "token {token} of the chunk at token {} left the finite numbers",
                current.state.tokens_seen
            ));
        }
        Ok(Snapshot {
            shard: shard.id,
            version: current.version + 1,
            last_chunk_id: state.tokens_seen.div_ceil(self.config.chunk_tokens as u64),
            state,
            changed: image_delta(&report.delta),
        })
    }

    fn save(&self, shard: &Shard, job: &SaveJob) -> Result<(), String> {
        let image = self.identity.image(&job.snapshot);
        let mut store = shard.store.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(store) = store.as_mut() else {
            return Err("the files are closed".to_owned());
        };
        // A delta says what changed since the version before, so it is of use only when
        // that one is what the disk holds.
        let saved = self.measure(store, |store| match &job.snapshot.changed {
            Some(changed) if job.follows_durable => store.save_delta(&image, changed),
            _ => store.save(&image),
        });
        saved.map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Saves, and records which part of it was encoding and which was the device.
    fn measure(
        &self,
        store: &mut MemoryStore,
        save: impl FnOnce(&mut MemoryStore) -> Result<Saved, StoreError>,
    ) -> Result<Saved, StoreError> {
        let before = store.spent();
        let saved = save(store);
        let spent = store.spent().since(before);
        self.timers.encode.record(spent.encode);
        self.timers.fsync.record(spent.flush);
        if spent.flush_errors > 0 {
            self.meters.fsync_errors.add(spent.flush_errors);
        }
        saved
    }

    fn fail(&self, shard: &Shard, step: &str, reason: String) {
        let reason = format!("{step} failed: {reason}");
        shard.fail(reason.as_str().into());
        self.config
            .alerts
            .raise(shard.id, AlertKind::Failed, reason);
    }
}

/// Runs a step of one shard so that its panic is that shard's error.
///
/// What the step works on is private to it until it succeeds, so nothing half-done is seen.
fn guarded<T>(step: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
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
