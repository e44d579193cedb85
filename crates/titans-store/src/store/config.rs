//! How a store behaves.

use crate::codec::Precision;
use crate::format::limits::Limits;
use crate::fs::FolderMode;

/// Records after which a journal gives way to a new base. More would make opening slow.
pub(super) const MAX_RECORDS: u64 = 32;

/// How a store behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        Self {
            keep_old: 3,
            limits: Limits::default(),
            mode: SaveMode::default(),
            precision: Precision::Exact,
            delta_check: DeltaCheck::default(),
            network: NetworkFolders::default(),
            folders: FolderMode::default(),
        }
    }
}

/// What a save writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        Self::BySize {
            journal_above: 8 << 20,
        }
    }
}

impl SaveMode {
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
pub enum NetworkFolders {
    /// Refuse them: locks can be lost there and flushes may mean little.
    #[default]
    Refuse,
    /// Accept them; the epoch of the writer is then the only fence.
    Accept,
}
