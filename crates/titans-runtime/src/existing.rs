//! What the memories in a folder are, as their own files say.

mod error;

use std::path::Path;

use titans_core::MemoryConfig;
use titans_store::inspect_newest;

pub use self::error::ExistingError;
use crate::checkpoint::{Undescribed, described};
use crate::config::RuntimeConfig;
use crate::error::OpenError;
use crate::runtime::Runtime;
use crate::user::{shard_dir, shards_on_disk};

/// Memories that are looked at, at most, spread over all of them. A user whose memory is another
/// is refused when it is asked for.
const SAMPLE: usize = 64;

impl Runtime {
    /// Opens a folder of memories that is there, with the memory that its files describe and the
    /// defaults around it.
    ///
    /// ```
    /// use titans_core::Preset;
    /// use titans_runtime::{Rows, Runtime, RuntimeConfig};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let root = tempfile::tempdir()?;
    /// # let dir = root.path().join("memories");
    /// let runtime = Runtime::open(&dir, RuntimeConfig::preset(Preset::Delta))?;
    /// let row = [0.125; 64];
    /// runtime.user("ada")?.observe(Rows::row(&row), Rows::row(&row))?.wait()?;
    /// drop(runtime);
    ///
    /// let runtime = Runtime::open_existing(&dir)?;
    /// assert_eq!(runtime.config().memory, Preset::Delta.config());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`OpenError::Existing`]: no folder, no memory in it, a memory that this build does not
    /// know, memories of different configurations. [`OpenError::Store`] when no file can be
    /// read, and what [`open`](Self::open) refuses.
    pub fn open_existing(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_existing_with(dir, RuntimeConfig::default())
    }

    /// [`open_existing`](Self::open_existing) with a configuration for all but the memory.
    ///
    /// Up to 64 memories are looked at, spread over all that there are. A user whose memory is
    /// another than theirs is refused by [`user`](Self::user).
    ///
    /// # Errors
    /// As [`open_existing`](Self::open_existing).
    pub fn open_existing_with(
        dir: impl AsRef<Path>,
        config: RuntimeConfig,
    ) -> Result<Self, OpenError> {
        let memory = memory_in(dir.as_ref(), &config)?;
        Self::open(dir, config.with_memory(memory))
    }
}

/// The configuration of the memories below a root. Files that are damaged say nothing while
/// others are whole.
fn memory_in(root: &Path, config: &RuntimeConfig) -> Result<MemoryConfig, OpenError> {
    if !root.is_dir() {
        let path = root.to_owned();
        return Err(ExistingError::NoFolder { path }.into());
    }
    let shards = shards_on_disk(root)?;
    let step = shards.len().div_ceil(SAMPLE).max(1);
    let (mut found, mut damage) = (None, None);
    // If no memory of the sample can be read, all others are tried.
    let sample = shards.iter().step_by(step);
    let size = sample.len();
    for (turn, shard) in sample.chain(&shards).enumerate() {
        if turn >= size && found.is_some() {
            break;
        }
        let dir = shard_dir(root, *shard);
        let file = match inspect_newest(&dir, &config.store.limits, None) {
            Ok(Some(file)) => file,
            Ok(None) => continue,
            Err(error) => {
                damage.get_or_insert(error);
                continue;
            }
        };
        let memory = described(&file.model, &file.extra).map_err(|why| match why {
            Undescribed::Unsaid(what) => ExistingError::Unsaid {
                path: dir.clone(),
                what,
            },
            Undescribed::Unknown(error) => ExistingError::Unknown {
                path: dir.clone(),
                error: Box::new(error),
            },
        })?;
        match &found {
            None => found = Some((memory, dir)),
            Some((first, _)) if *first == memory => {}
            Some((_, first)) => {
                return Err(ExistingError::Different {
                    first: first.clone(),
                    other: dir,
                }
                .into());
            }
        }
    }
    match (found, damage) {
        (Some((memory, _)), _) => Ok(memory),
        (None, Some(error)) => Err(error.into()),
        (None, None) => Err(ExistingError::NoMemory {
            path: root.to_owned(),
        }
        .into()),
    }
}
