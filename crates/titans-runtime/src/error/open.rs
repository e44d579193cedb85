//! What opening a folder or a memory can give.

use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use titans_core::{ConfigError, StateError};
use titans_store::StoreError;

use super::io::IoError;
use super::stopped::Stopped;
use crate::existing::ExistingError;

/// Why a folder of memories or the memory of a user could not be opened. Nothing was changed.
///
/// | what happened | what to do |
/// | --- | --- |
/// | [`Config`](Self::Config), [`Setting`](Self::Setting), [`OtherMemory`](Self::OtherMemory) | change the configuration |
/// | [`Existing`](Self::Existing) | open with a configuration |
/// | [`RootLocked`](Self::RootLocked) | let the other runtime end, or take another folder |
/// | [`OpenToOthers`](Self::OpenToOthers), [`RootKeyExposed`](Self::RootKeyExposed) | change the permissions, as the message says |
/// | [`RootKey`](Self::RootKey), [`RootKeyLost`](Self::RootKeyLost) | put the key back from a copy |
/// | [`UserId`](Self::UserId) | give a shorter id |
/// | [`OverBudget`](Self::OverBudget) | drop handles and try again |
/// | [`Store`](Self::Store), [`Io`](Self::Io) | try again if [`is_retryable`](Self::is_retryable) says so; else look at the disk and at [`StoreError::class`] |
/// | [`State`](Self::State), [`Counter`](Self::Counter) | restore a backup: the file is whole, but not this memory's |
/// | [`Stopped`](Self::Stopped) | see [`Stopped`] |
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
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
    #[error(transparent)]
    Io(#[from] IoError),
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
    /// The runtime is closed, or opening panicked.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl OpenError {
    /// Whether the same call may succeed later without anybody changing it: there was no room,
    /// or a device refused.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::OverBudget { .. } => true,
            Self::Io(error) => error.is_retryable(),
            Self::Store(error) => may_pass(error),
            _ => false,
        }
    }

    /// Why nothing is done here any more, if that is the reason.
    pub fn stopped(&self) -> Option<&Stopped> {
        match self {
            Self::Stopped(stopped) => Some(stopped),
            _ => None,
        }
    }
}

/// Whether the same step may succeed later.
pub(super) fn may_pass(error: &StoreError) -> bool {
    // What was removed behind our back is made again.
    error.may_heal() || error.is_not_found()
}

/// The error for a setting that is not what it must be.
pub(crate) fn setting(name: &'static str, found: usize, expected: &'static str) -> OpenError {
    OpenError::Setting {
        name,
        found: found.to_string(),
        expected,
    }
}
