//! What the operating system refuses.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use titans_store::is_passing;

/// The operating system refused an operation on a file or a folder of the runtime.
#[derive(Clone, Debug, Error)]
#[error("cannot {action} {}: {source}", .path.display())]
#[non_exhaustive]
pub struct IoError {
    /// What was attempted, as a verb.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: Arc<io::Error>,
}

impl IoError {
    /// Wraps an error of the operating system about `path`.
    pub(crate) fn of(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self {
            action,
            path,
            source: Arc::new(source),
        }
    }

    /// Whether the same operation may succeed later.
    pub(super) fn is_retryable(&self) -> bool {
        is_passing(&self.source)
    }
}
