//! What a runtime is told once.

mod article;
mod choices;
mod environment;
mod error;
mod fields;
mod memory;
mod names;
mod quantity;
mod reader;
mod setting;
mod text;
mod value;

pub use self::error::{SettingName, SettingsError};

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use titans_core::{ComputeDevice, ConfigError, MemoryConfig, Preset, Products};
use titans_store::StoreConfig;
use titans_store::fs::Storage;

use crate::alert::Alerts;
use crate::backup::BackupConfig;
use crate::error::{IoError, OpenError, setting};
use crate::ledger::LedgerConfig;
use crate::setters::setters;
use crate::watch::RecallWatch;

/// How a runtime learns, publishes and saves. Every field has a default.
///
/// Start from the defaults or from a preset, and name what is to be otherwise:
///
/// ```
/// use titans_core::Preset;
/// use titans_runtime::{Durability, LedgerConfig, RuntimeConfig};
///
/// let config = RuntimeConfig::preset(Preset::Sparse)
///     .with_chunk_tokens(512)
///     .with_durability(Durability::Async { max_lag: 4 })
///     .with_ledger(LedgerConfig::default().with_replay_bytes(64 << 20))
///     .with_recall_watch(None);
/// assert_eq!(config.queue_tokens, RuntimeConfig::default().queue_tokens);
/// ```
///
/// [`Runtime::open`](crate::Runtime::open) checks all of it. People write it as a file
/// ([`read`](Self::read), [`from_toml`](Self::from_toml), and JSON by `serde`) or as variables of
/// the environment ([`overridden_by_environment`](Self::overridden_by_environment)).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RuntimeConfig {
    /// The memory of every user. Default: the preset `sparse`.
    pub memory: MemoryConfig,
    /// Where learning computes. Default: the CPU.
    pub device: ComputeDevice,
    /// Further devices. Users are spread over all of them by the hash of their id, each on one
    /// for as long as the runtime is open; files know no device. A thread that learns serves
    /// one device at a time, so there should be as many [`learners`](Self::learners). Default:
    /// none.
    pub more_devices: Vec<ComputeDevice>,
    /// In which type the matrix products of dense memories are made, on devices that have a
    /// choice: GPUs, and every CPU for bf16, which is fast where AVX512-BF16 is. Default: f32.
    pub products: Products,
    /// Tokens between two published snapshots. Default 4096, the article's chunk, which is
    /// a multiple of common KV-cache blocks.
    pub chunk_tokens: usize,
    /// Tokens of one user that may wait to be learned. Default four chunks: 8 MiB at the
    /// default widths.
    pub queue_tokens: usize,
    /// What `observe` does when they would not fit. Default: wait.
    pub when_full: WhenFull,
    /// When snapshots are saved. Default: every chunk.
    pub durability: Durability,
    /// Bytes that open memories may take together. Default 4 GiB. A memory that nobody has
    /// a handle of leaves when another needs its room, and is loaded again on demand.
    pub resident_bytes: usize,
    /// Threads that learn. Default 1: the tensor library spreads one chunk over the cores.
    pub learners: usize,
    /// Users whose chunks one thread learns at once, at most. Only chunks that wait are taken
    /// together, and only such of equal length; nobody waits for company. Each is learned as
    /// if it were alone. Default: 16, and 1 for a memory that is written row by row on the
    /// CPU, where a batch saves nothing. While it is learned, a batch needs a state and a
    /// chunk's rows for each of its users.
    pub learn_batch: Option<usize>,
    /// Threads that compute for the learners, which are among them, in a pool of the runtime's
    /// own: work of the program in its own pool neither waits for it nor holds it up. As many
    /// again wait for rebuilds and other commands. Default: as many as the machine has cores.
    pub compute_threads: Option<usize>,
    /// Threads that save. Default 1.
    pub savers: usize,
    /// What is kept beside a memory of what was stored in it.
    pub ledger: LedgerConfig,
    /// How recall is watched; `None` not at all. Default: an alert when it drops.
    pub recall_watch: Option<RecallWatch>,
    /// How files are kept.
    pub store: StoreConfig,
    /// Who is told when something is lost or fails. Default: the log and the metrics.
    pub alerts: Alerts,
    /// Cold backups of every memory. Default: none.
    pub backups: Option<BackupConfig>,
    /// What stands in for the disk in tests.
    #[doc(hidden)]
    pub storage: Option<StorageHook>,
}

/// Opens the folder of a memory on something else than a disk, so that a test can fail each
/// step of it.
#[doc(hidden)]
#[derive(Clone)]
pub struct StorageHook(Arc<OpenStorage>);

type OpenStorage = dyn Fn(&Path) -> io::Result<Box<dyn Storage>> + Send + Sync;

impl StorageHook {
    /// Every folder is opened by `open`.
    pub fn new(
        open: impl Fn(&Path) -> io::Result<Box<dyn Storage>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(open))
    }

    pub(crate) fn open(&self, dir: &Path) -> Result<Box<dyn Storage>, IoError> {
        (self.0)(dir).map_err(IoError::of("open", dir))
    }
}

impl fmt::Debug for StorageHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StorageHook(..)")
    }
}

/// What `observe` does when the queue of a user is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Wait until there is room.
    Block,
    /// Fail with [`ObserveError::Busy`](crate::ObserveError::Busy) and take nothing.
    Busy,
}

/// When published snapshots become files.
///
/// Readers see a chunk as soon as it is learned, under every policy. The policies differ in
/// what a crash can take: chunks that are visible and not yet durable. The watermarks of a
/// user ([`Progress`](crate::Progress)) say which those are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Every chunk becomes a generation of its own; at most two wait for the disk.
    EveryChunk,
    /// The newest snapshot is saved as fast as the disk allows, intermediate ones may be
    /// passed over, and learning waits when it is this many chunks ahead.
    Async {
        /// Chunks that may be visible and not durable, at least 1.
        max_lag: u64,
    },
    /// The newest snapshot is saved when the last save is this long ago.
    Interval(Duration),
}

/// Files that an open memory holds: its folder, its lock, and a journal and logs while they
/// are written.
const FILES_PER_USER: u64 = 4;
/// Files that are left to the rest of the program: a quarter of the usual 1024.
const FILES_OF_OTHERS: u64 = 256;

/// Snapshots that may wait for the disk under [`Durability::EveryChunk`].
const MAX_UNSAVED: u64 = 2;

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            memory: Preset::default().config(),
            device: ComputeDevice::default(),
            more_devices: Vec::new(),
            products: Products::default(),
            chunk_tokens: 4096,
            queue_tokens: 4 * 4096,
            when_full: WhenFull::Block,
            durability: Durability::EveryChunk,
            resident_bytes: 4 << 30,
            learners: 1,
            learn_batch: None,
            compute_threads: None,
            savers: 1,
            ledger: LedgerConfig::default(),
            recall_watch: Some(RecallWatch::default()),
            store: StoreConfig::default(),
            alerts: Alerts::default(),
            backups: None,
            storage: None,
        }
    }
}

setters!(RuntimeConfig {
    with_memory => memory: MemoryConfig,
    with_device => device: ComputeDevice,
    with_more_devices => more_devices: impl Into<Vec<ComputeDevice>>,
    with_products => products: Products,
    with_chunk_tokens => chunk_tokens: usize,
    with_queue_tokens => queue_tokens: usize,
    with_when_full => when_full: WhenFull,
    with_durability => durability: Durability,
    with_resident_bytes => resident_bytes: usize,
    with_learners => learners: usize,
    with_learn_batch => learn_batch: impl Into<Option<usize>>,
    with_compute_threads => compute_threads: impl Into<Option<usize>>,
    with_savers => savers: usize,
    with_ledger => ledger: LedgerConfig,
    with_recall_watch => recall_watch: impl Into<Option<RecallWatch>>,
    with_store => store: StoreConfig,
    with_alerts => alerts: Alerts,
    with_backups => backups: impl Into<Option<BackupConfig>>,
});

impl RuntimeConfig {
    /// The defaults around the memory of a preset.
    pub fn preset(preset: Preset) -> Self {
        Self {
            memory: preset.config(),
            ..Self::default()
        }
    }

    /// The defaults around the memory of the preset with this name.
    ///
    /// # Errors
    /// [`ConfigError::UnknownPreset`], which lists the known names.
    pub fn preset_named(name: &str) -> Result<Self, ConfigError> {
        name.parse().map(Self::preset)
    }

    /// Bytes that one open memory may take: its snapshot, the next one being built, those
    /// that wait for the disk, a full queue, a full ledger and its probes. An idle memory takes
    /// one snapshot.
    ///
    /// Each saver needs about twelve times a state on top while it saves (25 MiB by default):
    /// the state in host memory, its encoded sections, and what is read back to compare.
    pub fn bytes_per_user(&self) -> usize {
        let row = self.memory.key_dim.saturating_add(self.memory.value_dim);
        let queue = self
            .queue_tokens
            .saturating_mul(row)
            .saturating_mul(size_of::<f32>());
        let probes = self.recall_watch.map_or(0, |watch| watch.probes);
        let probes = probes.saturating_mul(row).saturating_mul(size_of::<f32>());
        let unsaved = self.durability.max_unsaved().min(MAX_UNSAVED) as usize;
        let snapshots = self.memory.state_bytes().saturating_mul(2 + unsaved);
        snapshots
            .saturating_add(queue)
            .saturating_add(self.ledger.max_bytes)
            .saturating_add(probes)
    }

    /// How many memories may be open: as many as fit into memory, and as many as the files
    /// that this process may open allow; at least one.
    pub(crate) fn resident_users(&self) -> usize {
        let by_bytes = self.resident_bytes / self.bytes_per_user().max(1);
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let files = limit.saturating_sub(FILES_OF_OTHERS) / FILES_PER_USER;
        let by_files = usize::try_from(files).unwrap_or(usize::MAX);
        by_bytes.min(by_files).max(1)
    }

    pub(crate) fn validate(&self) -> Result<(), OpenError> {
        self.memory.validate()?;
        let at_least_one = [
            ("chunk_tokens", self.chunk_tokens),
            ("learners", self.learners),
            ("learn_batch", self.learn_batch.unwrap_or(1)),
            ("compute_threads", self.compute_threads.unwrap_or(1)),
            ("savers", self.savers),
        ];
        for (name, found) in at_least_one {
            if found == 0 {
                return Err(setting(name, found, "at least 1"));
            }
        }
        if self.queue_tokens < self.chunk_tokens {
            return Err(setting(
                "queue_tokens",
                self.queue_tokens,
                "at least chunk_tokens",
            ));
        }
        if let Some(watch) = &self.recall_watch
            && !(0.0..1.0).contains(&watch.max_drop)
        {
            return Err(OpenError::Setting {
                name: "max_drop",
                found: watch.max_drop.to_string(),
                expected: "at least 0 and less than 1",
            });
        }
        if self.durability == (Durability::Async { max_lag: 0 }) {
            return Err(setting("max_lag", 0, "at least 1"));
        }
        self.backups.as_ref().map_or(Ok(()), BackupConfig::validate)
    }
}

impl Durability {
    /// Whether one snapshot may stand for the ones before it.
    pub(crate) fn coalesces(self) -> bool {
        !matches!(self, Self::EveryChunk)
    }

    /// Snapshots that may be visible and not durable; learning waits above that.
    pub(crate) fn max_unsaved(self) -> u64 {
        match self {
            Self::EveryChunk => MAX_UNSAVED,
            Self::Async { max_lag } => max_lag,
            Self::Interval(_) => u64::MAX,
        }
    }

    /// The least time between two saves.
    pub(crate) fn pause(self) -> Duration {
        match self {
            Self::EveryChunk | Self::Async { .. } => Duration::ZERO,
            Self::Interval(pause) => pause,
        }
    }
}
