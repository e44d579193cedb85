//! Why a folder does not say what its memories are.

use std::path::PathBuf;

use thiserror::Error;
use titans_core::ConfigError;

/// Why a folder does not say what its memories are.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ExistingError {
    /// There is no such folder.
    #[error("there is no folder {}; Runtime::open makes one, with a configuration", .path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// Nobody has a memory in the folder.
    #[error(
        "no user has a memory in {} yet, so nothing says what a memory is there: use Runtime::open with a configuration",
        .path.display()
    )]
    NoMemory {
        /// The folder.
        path: PathBuf,
    },
    /// A file does not say all that a configuration needs.
    #[error(
        "the files in {} do not say {what}: use Runtime::open with the configuration that they were written with",
        .path.display()
    )]
    Unsaid {
        /// The folder of one memory.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// A file names something that this build does not have.
    #[error("the memory in {} needs another build of this library: {error}", .path.display())]
    Unknown {
        /// The folder of one memory.
        path: PathBuf,
        /// What this build does not have.
        error: Box<ConfigError>,
    },
    /// Memories are different, and a runtime has one configuration.
    #[error(
        "{} and {} hold memories of different configurations, and a runtime has one: `titanmem inspect --config` prints each; use Runtime::open with the one that is meant, and move the others to a folder of their own",
        .first.display(), .other.display()
    )]
    Different {
        /// The folder of one memory.
        first: PathBuf,
        /// The folder of another.
        other: PathBuf,
    },
}
