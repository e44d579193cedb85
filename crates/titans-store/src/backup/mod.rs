//! Cold backups: memory, frozen model and configuration in one tar file.
//!
//! The file is an OCI image layout, so that ordinary tools can list it and check its digests:
//!
//! ```text
//! oci-layout                   version of the layout
//! index.json                   digest of the manifest
//! blobs/sha256/<manifest>      digests and lengths of everything, shard, generation
//! blobs/sha256/<config>        whatever the host needs to start the memory again
//! blobs/sha256/<memory>        one generation, as a .titanmem file
//! pad                          zeros, so that the model begins at a multiple of 4096
//! blobs/sha256/<model>         the frozen model, byte for byte; absent in reference mode
//! ```
//!
//! Nothing in it is trusted by name: a reader takes what the digests lead to.

mod create;
mod layout;
mod restore;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

pub use self::create::create_backup;
pub use self::restore::{restore_backup, verify_backup};
use crate::error::StoreError;
use crate::format::limits::Limits;
use crate::fs::FolderMode;
use crate::image::ShardId;
use crate::key::UserKey;
use crate::store::Generation;

/// What goes into a backup beside the memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct BackupRequest<'a> {
    /// The frozen model that the memory belongs to.
    pub model: ModelPart<'a>,
    /// What the host needs to start the memory again, usually JSON. May be empty.
    pub config: &'a [u8],
    /// Which generation; the newest if `None`.
    pub generation: Option<Generation>,
    /// The key of an encrypted memory. It is not put into the backup.
    pub key: Option<&'a UserKey>,
    /// When the memory's [`BackupSchedule`](crate::BackupSchedule) says that it was taken;
    /// `None` asks the clock.
    pub taken_at: Option<SystemTime>,
    /// Whether the file is for its owner only, or also for the group of a folder that is
    /// shared with it.
    pub folders: FolderMode,
}

/// The frozen model in a backup.
#[derive(Clone, Copy, Debug, Default)]
pub enum ModelPart<'a> {
    /// None: the memory belongs to no model, or the host knows which.
    #[default]
    Absent,
    /// The file, byte for byte. The backup is complete by itself.
    Embed(&'a Path),
    /// The digest and length of the file only: for many memories of one large model.
    Reference(&'a Path),
}

/// How to restore.
#[derive(Clone, Copy, Debug)]
pub struct RestoreRequest<'a> {
    /// Whose memory is expected.
    pub shard: ShardId,
    /// Where the model goes, if the backup has it and it is wanted. Must not exist.
    pub model_to: Option<&'a Path>,
    /// Where the configuration goes, if it is wanted. Must not exist.
    pub config_to: Option<&'a Path>,
    /// The key of an encrypted memory.
    pub key: Option<&'a UserKey>,
    /// What is accepted from the memory in the backup.
    pub limits: Limits,
    /// Who besides its owner may use the folder.
    pub folders: FolderMode,
}

/// What a backup holds, every digest checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackupSummary {
    /// The backup.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// Whose memory, as 32 hexadecimal digits.
    pub shard: String,
    /// Its generation.
    pub generation: u64,
    /// SHA-256 of the memory, in hexadecimal.
    pub memory_sha256: String,
    /// Length of the memory in bytes.
    pub memory_bytes: u64,
    /// SHA-256 of the configuration, in hexadecimal.
    pub config_sha256: String,
    /// The model, if the backup has or names one.
    pub model: Option<ModelSummary>,
    /// Whether the memory was decoded too. Without the key of an encrypted one it cannot be.
    pub decoded: bool,
}

/// The model of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ModelSummary {
    /// SHA-256 of the model, in hexadecimal.
    pub sha256: String,
    /// Length of the model in bytes.
    pub bytes: u64,
    /// Whether the backup has the model or only names it.
    pub embedded: bool,
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io {
        action,
        path,
        source,
    }
}

/// A path that means the same after the program has gone to another folder.
fn absolute(path: &Path) -> Result<PathBuf, StoreError> {
    std::path::absolute(path).map_err(io_error("resolve", path))
}

/// The folder that a file lies in.
fn parent(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}
