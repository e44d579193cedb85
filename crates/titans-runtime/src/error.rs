//! Every way the runtime can refuse.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use titans_core::{ConfigError, StateError};
use titans_store::{ShardId, StoreError, is_passing};

use crate::existing::ExistingError;

/// Why the runtime could not do what was asked.
///
/// An error about a call (rows of the wrong width, a full queue) leaves the memory as it
/// was. An error about a user's memory ([`Failed`](Self::Failed)) is final for its writer;
/// its readers keep the last snapshot that was published.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The configuration is impossible.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A number of the runtime's own configuration is out of range.
    #[error("{name} is {found}, expected {expected}")]
    Setting {
        /// Which setting.
        name: &'static str,
        /// What was given.
        found: String,
        /// What would be accepted, in words.
        expected: &'static str,
    },
    /// A folder does not say what its memories are.
    #[error(transparent)]
    Existing(#[from] ExistingError),
    /// A file or a folder of a memory was refused.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// The operating system refused an operation.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// Another runtime, in this process or another, has the folder.
    #[error("{} is held by another runtime", .path.display())]
    RootLocked {
        /// The folder.
        path: PathBuf,
    },
    /// Other users of the machine can write into the folder, and so put a memory in it.
    #[error(
        "{} can be written by other users (mode {mode:04o}); take their rights away, or accept the group with FolderMode::Group",
        .path.display()
    )]
    OpenToOthers {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key that turns user ids into folder names is not what this version writes.
    #[error("{} is not a root key of 32 bytes; put it back from a copy", .path.display())]
    RootKey {
        /// The file.
        path: PathBuf,
    },
    /// The key that turns user ids into folder names is gone, and there are users. With a new
    /// key every user would be empty, and nobody could find or forget what is there.
    #[error(
        "{} is missing, and without it nobody can tell whose the memories in {} are: put it back from a copy, or start in an empty folder",
        .path.display(), .users.display()
    )]
    RootKeyLost {
        /// The file that is missing.
        path: PathBuf,
        /// The folder with the memories of users.
        users: PathBuf,
    },
    /// Others can read or write the key, and with it tell which folder is whose.
    #[error("{} is open to other users (mode {mode:04o}); take their rights away (chmod)", .path.display())]
    RootKeyExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A user id is empty or too long.
    #[error("a user id has {found} bytes, expected 1 to {limit}")]
    UserId {
        /// Bytes given.
        found: usize,
        /// Bytes at most.
        limit: usize,
    },
    /// Rows do not have the shape that the call needs.
    #[error("{what} is {found}, expected {expected}")]
    Shape {
        /// Which rows, and which of their sizes.
        what: &'static str,
        /// The size that would fit.
        expected: usize,
        /// The size that was given.
        found: usize,
    },
    /// A number is NaN or infinite. Nothing of the call was taken.
    #[error("{what} hold {value} at row {row}, column {column}")]
    NotFinite {
        /// Which rows.
        what: &'static str,
        /// The row.
        row: usize,
        /// The column.
        column: usize,
        /// The number.
        value: f32,
    },
    /// A row is so long that the sum of its squares is infinite. Nothing of the call was taken.
    #[error(
        "row {row} of the {what} has length {length:e}; the square of a length has to be a finite f32, so at most 1.8e19"
    )]
    TooLong {
        /// Which rows.
        what: &'static str,
        /// The row.
        row: usize,
        /// Its length.
        length: f64,
    },
    /// An item has so many rows that a ledger of the configured size could not hold its keys,
    /// even alone. Nothing of the call was taken.
    #[error(
        "an item of {rows} rows takes {bytes} bytes of the ledger, LedgerConfig::max_bytes is {limit}; hand it over in pieces or without a name"
    )]
    ItemTooLarge {
        /// Rows of the item.
        rows: usize,
        /// Bytes that they would take.
        bytes: usize,
        /// Bytes that there are.
        limit: usize,
    },
    /// The queue of this user has no room, and the configuration says not to wait.
    #[error("the queue of this user holds {queued} tokens, {offered} more exceed {limit}")]
    Busy {
        /// Tokens that wait.
        queued: usize,
        /// Tokens offered.
        offered: usize,
        /// Tokens that may wait.
        limit: usize,
    },
    /// All memories that fit are in use. Drop handles of users that are idle.
    #[error("{resident} memories are open and in use, no more than {limit} fit the budget")]
    OverBudget {
        /// Memories that are open.
        resident: usize,
        /// Memories that fit.
        limit: usize,
    },
    /// The memory on disk is not the one that is configured.
    #[error("the memory on disk has {field} {found}, this runtime is configured for {expected}")]
    OtherMemory {
        /// What differs.
        field: &'static str,
        /// What the runtime has.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// The file decodes, but its numbers are not a state of this memory.
    #[error("the memory on disk does not fit: {0}")]
    State(#[from] StateError),
    /// A step failed for this user in a way that trying again does not mend. The memory is
    /// read-only until [`resume`](crate::UserMemory::resume) or
    /// [`roll_back`](crate::UserMemory::roll_back).
    #[error("this memory is read-only since it failed: {reason}")]
    Failed {
        /// What failed.
        reason: Arc<str>,
    },
    /// A save was refused, for a reason that may pass. What was handed over is kept, what is
    /// visible stays visible, and it is tried again; wait again to be told.
    #[error("not durable yet, it is tried again: {reason}")]
    Unavailable {
        /// What was refused.
        reason: Arc<str>,
    },
    /// The chunk that held these rows could not be learned: its numbers left the finite ones.
    /// The memory goes on as if they had never been handed over.
    #[error("the chunk that held these rows could not be learned, and was dropped")]
    Dropped,
    /// The memory was rebuilt or rolled back, and readers see it; but something that holds what
    /// was forgotten could not be removed yet. It is tried again, at the latest when the memory
    /// is opened.
    #[error("done, but not everything that was forgotten is gone yet: {reason}")]
    Unfinished {
        /// What was refused.
        reason: Arc<str>,
    },
    /// The user of this handle was forgotten. Nothing is learned for it any more.
    #[error("this user was forgotten")]
    Forgotten,
    /// The handle came into this process by `fork`. Threads are not copied, so a child cannot
    /// use the runtime of its parent; nothing that both share was touched.
    #[error("opened by process {parent}, used in its child {child}: open a runtime of your own")]
    Forked {
        /// The process that opened the runtime.
        parent: u32,
        /// The one that asked.
        child: u32,
    },
    /// The files of this memory say that it has learned more tokens, or was saved more often,
    /// than can be counted on from.
    #[error("the memory on disk counts {found} {what}, at most {limit} can be gone on from")]
    Counter {
        /// What is counted.
        what: &'static str,
        /// What the files say.
        found: u64,
        /// The largest number that is accepted.
        limit: u64,
    },
    /// The memory was rolled back after the rows of this ticket were handed over. They may
    /// or may not be part of what it knows now; hand them over again if they should be.
    #[error("the memory was rolled back after these rows were handed over")]
    RolledBack,
    /// Tokens outside the stream, of a rebuild or a forgotten item, cannot be learned. The
    /// memory is as it was.
    #[error("cannot learn: {reason}")]
    CannotLearn {
        /// Why.
        reason: String,
    },
    /// The pinned generation is older than the last rebuild, and holds what was forgotten.
    #[error("the memory was rebuilt after it was pinned, and the pin holds what was forgotten")]
    RebuiltSince,
    /// Forgotten items cannot be taken out exactly, because the tokens are not kept.
    #[error("the memory cannot be rebuilt: {reason}")]
    NoReplay {
        /// What is missing.
        reason: &'static str,
    },
    /// The runtime is closed or closing.
    #[error("the runtime is closed")]
    Closed,
    /// The wait was longer than allowed.
    #[error("not done within {waited_ms} ms")]
    Timeout {
        /// The wait in milliseconds.
        waited_ms: u128,
    },
    /// A reader met a snapshot that cannot be its own. A bug, stopped before it leaks.
    #[error("snapshot of shard {found} (version {version}) met a reader of {expected}")]
    ForeignSnapshot {
        /// The reader's shard.
        expected: ShardId,
        /// The snapshot's shard.
        found: ShardId,
        /// The snapshot's version.
        version: u64,
    },
}

impl From<StoreError> for RuntimeError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl RuntimeError {
    /// Whether the same call may succeed later without anybody changing it: there was no room,
    /// or a device refused.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy { .. }
            | Self::OverBudget { .. }
            | Self::Unavailable { .. }
            | Self::Unfinished { .. }
            | Self::Timeout { .. } => true,
            Self::Io { source, .. } => is_passing(source),
            // What was removed behind our back is made again.
            Self::Store(error) => error.may_heal() || error.is_not_found(),
            _ => false,
        }
    }

    /// `Ok` when a size is what the call needs.
    pub(crate) fn expect_size(
        what: &'static str,
        expected: usize,
        found: usize,
    ) -> Result<(), Self> {
        match expected == found {
            true => Ok(()),
            false => Err(Self::Shape {
                what,
                expected,
                found,
            }),
        }
    }

    /// Wraps an error of the operating system about `path`.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source: Arc::new(source),
        }
    }
}

/// The error for a setting that is not what it must be.
pub(crate) fn setting(name: &'static str, found: usize, expected: &'static str) -> RuntimeError {
    RuntimeError::Setting {
        name,
        found: found.to_string(),
        expected,
    }
}
