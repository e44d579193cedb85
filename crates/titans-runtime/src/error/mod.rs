//! Every way the runtime can refuse, an enum for each kind of call.

mod command;
mod handle;
mod io;
mod open;
mod stopped;

use thiserror::Error;

pub use self::command::CommandError;
pub use self::handle::{ObserveError, RecallError, RowsError, WaitError};
pub use self::io::IoError;
pub use self::open::OpenError;
pub(crate) use self::open::setting;
pub use self::stopped::Stopped;

/// Whatever a call of the runtime can answer with, for callers who do not care which call it
/// was: every error of this crate becomes one by `?`.
///
/// | call | error |
/// | --- | --- |
/// | [`Runtime::open`](crate::Runtime::open), [`user`](crate::Runtime::user), [`contains`](crate::Runtime::contains), [`users`](crate::Runtime::users) | [`OpenError`] |
/// | [`observe`](crate::UserMemory::observe), [`observe_item`](crate::UserMemory::observe_item) | [`ObserveError`] |
/// | [`recall`](crate::UserMemory::recall), [`surprise_into`](crate::UserMemory::surprise_into), [`snapshot`](crate::UserMemory::snapshot) | [`RecallError`] |
/// | [`Ticket::wait`](crate::Ticket::wait), [`flush`](crate::UserMemory::flush) | [`WaitError`] |
/// | `forget`, `rebuild`, `pin`, `roll_back`, `resume`, `forget_user`, `tick` | [`CommandError`] |
///
/// ```
/// use titans_runtime::{Rows, RuntimeError, UserMemory};
///
/// fn remember(memory: &UserMemory, row: &[f32]) -> Result<(), RuntimeError> {
///     memory.observe(Rows::row(row), Rows::row(row))?.wait()?;
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// A folder or a memory could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Rows were not taken.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// A question was not answered.
    #[error(transparent)]
    Recall(#[from] RecallError),
    /// What was waited for is not so.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// A memory or a folder could not be changed as it was asked for.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Nothing is done any more: all that closing and counting on tokio can be answered with.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl RuntimeError {
    /// Whether the same call may succeed later without anybody changing it: there was no room,
    /// or a device refused.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Open(error) => error.is_retryable(),
            Self::Observe(error) => error.is_retryable(),
            Self::Recall(error) => error.is_retryable(),
            Self::Wait(error) => error.is_retryable(),
            Self::Command(error) => error.is_retryable(),
            Self::Stopped(_) => false,
        }
    }

    /// Why nothing is done here any more, if that is the reason.
    pub fn stopped(&self) -> Option<&Stopped> {
        match self {
            Self::Open(error) => error.stopped(),
            Self::Observe(error) => error.stopped(),
            Self::Recall(error) => error.stopped(),
            Self::Wait(error) => error.stopped(),
            Self::Command(error) => error.stopped(),
            Self::Stopped(stopped) => Some(stopped),
        }
    }
}
