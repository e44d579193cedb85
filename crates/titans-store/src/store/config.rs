//! How a store behaves.

use crate::codec::Precision;
use crate::format::limits::Limits;
use crate::fs::FolderMode;

/// Records after which a journal gives way to a new base. More would make opening slow.
pub(super) const MAX_RECORDS: u64 = 32;

/// How a store behaves.
///
/// ```
/// use titans_store::{SaveMode, StoreConfig};
///
/// let config = StoreConfig::default().with_keep_old(7).with_mode(SaveMode::Journal);
/// assert_eq!(config.keep_old, 7);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreConfig {
    /// How many generations before the newest one stay. Default 3.
    pub keep_old: usize,
    /// What is accepted from a file.
    pub limits: Limits,
    /// Whether a save is a whole file or a record in a journal. Default: by size.
    pub mode: SaveMode,
    /// What a save rounds. Default: nothing.
    pub precision: Precision,
    /// Whether a caller's account of changes is believed. Default: it is.
    pub delta_check: DeltaCheck,
    /// Whether a folder on a network file system is accepted. Default: it is not.
    pub network: NetworkFolders,
    /// Who besides its owner may use the folder. Default: nobody.
    pub folders: FolderMode,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self::standard()
    }
}

impl StoreConfig {
    /// What [`StoreConfig::default`] is, for constants.
    pub const fn standard() -> Self {
        Self {
            keep_old: 3,
            limits: Limits::standard(),
            mode: SaveMode::standard(),
            precision: Precision::Exact,
            delta_check: DeltaCheck::Trust,
            network: NetworkFolders::Refuse,
            folders: FolderMode::OwnerOnly,
        }
    }

    /// Sets [`keep_old`](Self::keep_old).
    pub const fn with_keep_old(mut self, generations: usize) -> Self {
        self.keep_old = generations;
        self
    }

    /// Sets [`limits`](Self::limits).
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets [`mode`](Self::mode).
    pub const fn with_mode(mut self, mode: SaveMode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets [`precision`](Self::precision).
    pub const fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Sets [`delta_check`](Self::delta_check).
    pub const fn with_delta_check(mut self, check: DeltaCheck) -> Self {
        self.delta_check = check;
        self
    }

    /// Sets [`network`](Self::network).
    pub const fn with_network(mut self, network: NetworkFolders) -> Self {
        self.network = network;
        self
    }

    /// Sets [`folders`](Self::folders).
    pub const fn with_folders(mut self, folders: FolderMode) -> Self {
        self.folders = folders;
        self
    }
}

/// What a save writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SaveMode {
    /// A record when the last whole file was longer than this, a whole file otherwise.
    BySize {
        /// Bytes of the last whole file. Default 8 MiB: below, a whole file takes little
        /// longer than a record, and every generation stands alone.
        journal_above: u64,
    },
    /// Always a whole file.
    Snapshot,
    /// A whole file first, then records. For a host with many small memories.
    Journal,
}

impl Default for SaveMode {
    fn default() -> Self {
        Self::standard()
    }
}

impl SaveMode {
    const fn standard() -> Self {
        Self::BySize {
            journal_above: 8 << 20,
        }
    }

    /// Whether what follows a base of this length goes to a journal.
    pub(super) fn journals_after(self, base_bytes: u64) -> bool {
        match self {
            Self::BySize { journal_above } => base_bytes > journal_above,
            Self::Snapshot => false,
            Self::Journal => true,
        }
    }
}

/// Whether [`MemoryStore::save_delta`](crate::MemoryStore::save_delta) checks what it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeltaCheck {
    /// The changes are taken as told. A change that is left out is lost at the next restart.
    #[default]
    Trust,
    /// The generation before is read from the disk and compared. For tests: it costs more
    /// than the save.
    Compare,
}

/// What to do about folders on network file systems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkFolders {
    /// Refuse them: locks can be lost there and flushes may mean little.
    #[default]
    Refuse,
    /// Accept them; the epoch of the writer is then the only fence.
    Accept,
}
