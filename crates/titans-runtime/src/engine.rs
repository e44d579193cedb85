//! What the handles and threads of a runtime share, and what its savers do.

use std::any::Any;
use std::borrow::Cow;
use std::cell::LazyCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use burn::tensor::Device;
use titans_store::{
    ForgetReceipt, MemoryImage, MemoryStore, Saved, ShardId, Stamp, StoreError, encode,
};

use crate::alert::AlertKind;
use crate::backup::Backups;
use crate::checkpoint::{MemoryIdentity, empty_snapshot, has_same_tensors, image_delta};
use crate::config::RuntimeConfig;
use crate::devices::Memories;
use crate::error::RuntimeError;
use crate::metric::describe_metrics;
use crate::replay::BaseOf;
use crate::root::Root;
use crate::scheduler::WorkQueue;
use crate::shard::{
    Bounds, Lease, Position, Rebuilt, RolledBack, SaveJob, Shard, Sizes, Step, Watermark,
};
use crate::stats::{Meters, Stats, Timers};
use crate::table::ShardTable;
use crate::user::RootKey;

/// A base of a replay is no generation.
const NO_STAMP: Stamp = Stamp {
    sequence: 0,
    writer_epoch: 0,
    parent: None,
};

/// On two cores up to twice as fast as one after the other for a dense memory. A larger batch
/// keeps its users waiting longer.
const LEARN_BATCH: usize = 16;

/// Everything that the handles and threads of one runtime share.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) config: RuntimeConfig,
    pub(crate) bounds: Bounds,
    /// Users whose chunks are learned at once, at most.
    pub(crate) learn_batch: usize,
    pub(crate) memories: Memories,
    pub(crate) identity: MemoryIdentity,
    /// Gone once the runtime is closed, so that the folder is free although handles live on.
    root: Mutex<Option<Root>>,
    key: RootKey,
    pub(crate) shards: ShardTable,
    pub(crate) learners: WorkQueue,
    pub(crate) savers: WorkQueue,
    pub(crate) backups: Backups,
    pub(crate) timers: Timers,
    /// Snapshots that are alive, of all shards.
    pub(crate) live_snapshots: Arc<AtomicUsize>,
    pub(crate) meters: Arc<Meters>,
    sizes: Sizes,
}

impl Engine {
    pub(crate) fn new(
        config: RuntimeConfig,
        root: Root,
        key: RootKey,
    ) -> Result<Self, RuntimeError> {
        let config = RuntimeConfig {
            device: config.device.resolve(),
            more_devices: (config.more_devices.iter())
                .map(|device| device.resolve())
                .collect(),
            ..config
        };
        let memories = Memories::open(&config)?;
        let memory = memories.any();
        describe_metrics();
        let meters = Arc::new(Meters::new());
        Ok(Self {
            bounds: Bounds {
                queue_tokens: config.queue_tokens,
                when_full: config.when_full,
                durability: config.durability,
                ledger_bytes: config.ledger.max_bytes,
                keep_replaced: memory.writes_in_place(),
            },
            learn_batch: config
                .learn_batch
                .unwrap_or(match memory.writes_in_place() {
                    true => 1,
                    false => LEARN_BATCH,
                }),
            identity: MemoryIdentity::new(memory),
            shards: ShardTable::new(config.resident_users(), Arc::clone(&meters)),
            sizes: Sizes::of(&config),
            config,
            memories,
            root: Mutex::new(Some(root)),
            key,
            learners: WorkQueue::default(),
            savers: WorkQueue::default(),
            backups: Backups::default(),
            timers: Timers::new(),
            live_snapshots: Arc::default(),
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
            // A failure is reported where it happened, and the shard may leave then.
            let _ = self.reach(shard, shard.accepted(), Watermark::Durable, None);
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
        let live_snapshots = self.live_snapshots.load(Ordering::Relaxed);
        self.meters.stats(&self.timers, live_snapshots)
    }

    /// Rolls a memory back and lets its threads go on.
    pub(crate) fn roll_back(self: &Arc<Self>, lease: &Lease) -> Result<RolledBack, RuntimeError> {
        let shard = lease.value();
        let _span = tracing::debug_span!("rollback", shard = %shard.id).entered();
        let outcome = shard.roll_back(self);
        self.account(shard);
        // Whatever came of it, turns that came while the shard was paused were passed over.
        self.savers.push(shard, Instant::now());
        self.wake_learner(shard);
        let (rolled_back, erased_later) = outcome?;
        self.meters.rollbacks.add(1);
        let (generation, tokens) = (rolled_back.generation, rolled_back.tokens);
        let message = format!("rolled back to {tokens} tokens as generation {generation}");
        let alerts = &self.config.alerts;
        alerts.raise(shard.id, AlertKind::RolledBack, message);
        for item in erased_later {
            Shard::forget_item(lease, self, item)?;
        }
        Ok(rolled_back)
    }

    /// Learns a memory again without the items that were forgotten.
    pub(crate) fn rebuild(&self, shard: &Lease) -> Result<Rebuilt, RuntimeError> {
        let outcome = shard.value().rebuild(self);
        self.savers.push(shard.value(), Instant::now());
        self.wake_learner(shard.value());
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
                shard.empty(empty_snapshot(self.memories.of(id), id));
            }
            self.forget_files(&root, id)
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

    /// Hurries to a position and waits until it is reached. To wait for a position that
    /// nobody hurries to can be to wait for ever.
    pub(crate) fn reach(
        &self,
        shard: &Arc<Shard>,
        position: Position,
        watermark: Watermark,
        deadline: Option<Instant>,
    ) -> Result<(), RuntimeError> {
        self.hurry(shard, position);
        shard.wait(position, watermark, deadline)
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
            let saved = guarded(|| {
                let _span = tracing::debug_span!("save", shard = %shard.id).entered();
                self.timers.save.time(|| self.save(&shard, &job))
            });
            match saved {
                Ok(()) => {
                    self.meters.saves.add(1);
                    if let Some(due) = shard.saved(job, &self.bounds) {
                        self.savers.push(&shard, due);
                    }
                    self.account(&shard);
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
        let snapshot = &*job.snapshot;
        let mut files = shard.files.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(files) = files.as_mut() else {
            return Err("the files are closed".to_owned());
        };
        let mut rolled_back_from = None;
        if files.is_behind(snapshot) {
            let generations = files
                .store
                .generations()
                .map_err(|error| error.to_string())?;
            rolled_back_from = generations.last().map(|newest| newest.number());
        }
        // Copied from the device when it is asked for: a record may do without.
        let whole = LazyCell::new(|| MemoryImage {
            rolled_back_from,
            ..self.identity.image(snapshot)
        });
        let base = |of| match of {
            BaseOf::AllGiven => encode(&whole, &NO_STAMP),
            BaseOf::Nothing => {
                let initial = self.memories.of(snapshot.shard).initial_state();
                encode(&self.identity.image_of(&initial, snapshot), &NO_STAMP)
            }
        };
        files
            .save_beside(snapshot, &job.rows, base)
            .map_err(|error| error.to_string())?;
        let store = &mut files.store;
        // A delta says what changed since the version before, so it is of use only when
        // that one is what the disk holds.
        let delta = (snapshot.changed.as_ref())
            .filter(|delta| job.follows_durable && has_same_tensors(delta));
        let is_on_host = self.memories.of(snapshot.shard).device() == Device::flex();
        let told = delta.and_then(|delta| match is_on_host {
            true => delta.tells_values().then_some(Cow::Borrowed(delta)),
            false => snapshot.state.with_values(delta).map(Cow::Owned),
        });
        let saved = self.measure(store, |store| match (told, delta) {
            (Some(told), _) => {
                let outline = MemoryImage {
                    rolled_back_from,
                    ..self.identity.outline(snapshot)
                };
                store.save_changes(&outline, &image_delta(&told), &|| Cow::Borrowed(&*whole))
            }
            (None, Some(delta)) => store.save_delta(&whole, &image_delta(delta)),
            (None, None) => store.save(&whole),
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
