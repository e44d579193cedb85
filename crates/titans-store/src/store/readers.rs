//! Reading without the lock, beside a writer that may be saving and pruning.

use std::path::{Path, PathBuf};

use super::files;
use super::generation::{Generation, Slot};
use crate::error::StoreError;
use crate::format::limits::Limits;
use crate::fs::{DiskStorage, Storage};
use crate::image::{MemoryImage, ShardId};

/// Listings before a reader gives up on a folder whose files vanish under it. One suffices
/// unless a whole retention of saves passes between the listing and the open.
const MAX_LISTINGS: usize = 3;

/// The newest generation that verifies, without taking the lock or moving anything.
///
/// Files never change once they have their name, so a reader needs no lock. `None` when the
/// folder is absent or holds no generation.
///
/// # Errors
/// When generations exist but none verifies: the error of the newest. Also
/// [`StoreError::WrongShard`], and files that are too new or too large.
pub fn read_newest(
    dir: &Path,
    shard: ShardId,
    limits: &Limits,
) -> Result<Option<(MemoryImage, Generation)>, StoreError> {
    let storage = match DiskStorage::open(dir) {
        Ok(storage) => storage,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(open_error(dir, source)),
    };
    let mut vanished = None;
    for _ in 0..MAX_LISTINGS {
        match newest(&storage, shard, limits) {
            Err(error) if error.is_not_found() => vanished = Some(error),
            outcome => return outcome,
        }
    }
    vanished.map_or(Ok(None), Err)
}

fn newest(
    storage: &dyn Storage,
    shard: ShardId,
    limits: &Limits,
) -> Result<Option<(MemoryImage, Generation)>, StoreError> {
    let slots = files::slots(storage, "")?;
    let mut first_damage = None;
    for candidate in files::candidates(storage, shard, &slots)? {
        match files::read(storage, candidate.slot, Some(shard), limits) {
            Ok(decoded) => return Ok(Some((decoded.image, candidate.slot.generation()))),
            Err(error) if error.is_damage() => first_damage = first_damage.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    first_damage.map_or(Ok(None), Err)
}

/// What a check of one file found.
#[derive(Debug)]
#[non_exhaustive]
pub struct FileVerdict {
    /// The file.
    pub path: PathBuf,
    /// Its generation, by its name.
    pub generation: Generation,
    /// Its owner, if it verifies.
    pub shard: Option<ShardId>,
    /// Its length in bytes, if it could be read.
    pub file_bytes: Option<u64>,
    /// What is wrong with it; `None` when it verifies.
    pub problem: Option<StoreError>,
}

/// Unpacks every generation of one folder, quarantine excepted, and says what is wrong.
///
/// Takes no lock and changes nothing. Verdicts are ordered by file name; a file whose owner
/// is not that of the first whole one is wrong too.
///
/// # Errors
/// When the folder cannot be listed. What is wrong with a file is in its verdict.
pub fn verify_dir(dir: &Path, limits: &Limits) -> Result<Vec<FileVerdict>, StoreError> {
    let storage = DiskStorage::open(dir).map_err(|source| open_error(dir, source))?;
    let slots = files::slots(&storage, "")?;
    let mut owner = None;
    let verdicts = slots.into_iter().map(|slot| {
        let mut verdict = verdict(&storage, slot, limits);
        if let Some(found) = verdict.shard {
            let expected = *owner.get_or_insert(found);
            if expected != found {
                verdict.problem = Some(StoreError::WrongShard { expected, found });
            }
        }
        verdict
    });
    Ok(verdicts.collect())
}

fn verdict(storage: &dyn Storage, slot: Slot, limits: &Limits) -> FileVerdict {
    let name = slot.file_name();
    let (shard, problem) = match files::read(storage, slot, None, limits) {
        Ok(decoded) => (Some(decoded.image.shard), None),
        Err(error) => (None, Some(error)),
    };
    let path = files::path_of(storage, &name);
    FileVerdict {
        file_bytes: path.symlink_metadata().ok().map(|metadata| metadata.len()),
        path,
        generation: slot.generation(),
        shard,
        problem,
    }
}

fn open_error(dir: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io {
        action: "open",
        path: dir.to_owned(),
        source,
    }
}
