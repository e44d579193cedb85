//! What changing a memory or a folder as a whole can give.

use std::sync::Arc;

use thiserror::Error;
use titans_store::StoreError;

use super::handle::{ObserveError, WaitError};
use super::io::IoError;
use super::open::{OpenError, may_pass};
use super::stopped::Stopped;

/// Why a memory or a folder could not be changed as it was asked for: forget, rebuild, pin, roll
/// back, resume, forget a user, take backups.
///
/// The memory is as it was, but for [`Unfinished`](Self::Unfinished).
///
/// | what happened | what to do |
/// | --- | --- |
/// | [`Wait`](Self::Wait) | what had to be learned or saved first is not: see [`WaitError`] |
/// | [`Observe`](Self::Observe) | what has to be written was not taken, as when the queue is full: see [`ObserveError`] |
/// | [`Open`](Self::Open) | the files were opened again and refused: see [`OpenError`] |
/// | [`Store`](Self::Store), [`Io`](Self::Io) | try again if [`is_retryable`](Self::is_retryable) says so; else look at the disk and at [`StoreError::class`] |
/// | [`RolledBack`](Self::RolledBack) | somebody rolled the memory back meanwhile: ask again |
/// | [`Unfinished`](Self::Unfinished) | it is done and visible; call again, or let the runtime finish what is left |
/// | [`CannotLearn`](Self::CannotLearn) | roll back to before the rows that it cannot learn |
/// | [`RebuiltSince`](Self::RebuiltSince) | pin again: the pin holds what was forgotten |
/// | [`NoReplay`](Self::NoReplay) | keep tokens with [`LedgerConfig::replay_bytes`](crate::LedgerConfig) |
/// | [`Stopped`](Self::Stopped) | see [`Stopped`] |
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// What has to be learned or saved before was not.
    #[error(transparent)]
    Wait(WaitError),
    /// What is to be written over an item was not taken.
    #[error(transparent)]
    Observe(ObserveError),
    /// The user id is none, or the files were opened again and refused.
    #[error(transparent)]
    Open(OpenError),
    /// A file or a folder of a memory was refused.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// The operating system refused an operation.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The memory was rolled back while this was done.
    #[error("the memory was rolled back after these rows were handed over")]
    RolledBack,
    /// The memory was rebuilt or rolled back, and readers see it; but something that holds what
    /// was forgotten could not be removed yet. It is tried again, at the latest when the memory
    /// is opened.
    #[error("done, but not everything that was forgotten is gone yet: {reason}")]
    Unfinished {
        /// What was refused.
        reason: Arc<str>,
    },
    /// Tokens outside the stream, of a rebuild or a forgotten item, cannot be learned.
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
    /// Nothing is done here any more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

// What several calls have in common has one place here, whichever of them met it.

impl From<OpenError> for CommandError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Store(error) => Self::Store(error),
            OpenError::Io(error) => Self::Io(error),
            OpenError::Stopped(stopped) => Self::Stopped(stopped),
            error => Self::Open(error),
        }
    }
}

impl From<ObserveError> for CommandError {
    fn from(error: ObserveError) -> Self {
        match error {
            ObserveError::RolledBack => Self::RolledBack,
            ObserveError::Stopped(stopped) => Self::Stopped(stopped),
            error => Self::Observe(error),
        }
    }
}

impl From<WaitError> for CommandError {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::RolledBack => Self::RolledBack,
            WaitError::Stopped(stopped) => Self::Stopped(stopped),
            error => Self::Wait(error),
        }
    }
}

impl CommandError {
    /// Whether the same call may succeed later without anybody changing it: there was no room,
    /// or a device refused.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unfinished { .. } => true,
            Self::Wait(error) => error.is_retryable(),
            Self::Observe(error) => error.is_retryable(),
            Self::Open(error) => error.is_retryable(),
            Self::Store(error) => may_pass(error),
            Self::Io(error) => error.is_retryable(),
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
