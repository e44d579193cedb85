//! Forgetting a memory: nothing of it stays but the fact that it was forgotten.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::files::{io_error, path_of};
use super::recovery::QUARANTINE;
use super::{NetworkFolders, lock, open_folder};
use crate::error::StoreError;
use crate::fs::{Storage, write_whole};
use crate::image::ShardId;
use crate::key::UserKey;

/// The file that says so. It is written before anything is removed, so that a power loss half
/// way leaves a folder that cannot be opened again, and a second call ends the work.
const TOMBSTONE: &str = "FORGOTTEN";

/// What was removed, for whoever asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ForgetReceipt {
    /// Whose memory, as 32 hexadecimal digits.
    pub shard: String,
    /// Whole files: generations and pins.
    pub generations: usize,
    /// Journals.
    pub journals: usize,
    /// Logs of records.
    pub logs: usize,
    /// Damaged files in quarantine.
    pub quarantined: usize,
    /// Leftovers of interrupted saves.
    pub temporaries: usize,
    /// Backups that the folder knew of and that were there.
    pub backups: Vec<PathBuf>,
    /// Backups that the folder knew of and that were not there. Copies elsewhere are beyond
    /// this program unless the key is destroyed.
    pub backups_missing: Vec<PathBuf>,
    /// Names that are not this store's and were left, for a person to look at.
    pub left: Vec<String>,
    /// Bytes of all removed files in the folder.
    pub bytes: u64,
    /// What the removal is worth.
    pub erasure: Erasure,
}

/// What the removal is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Erasure {
    /// The names are gone and the blocks are free. The device may keep what stood in them
    /// until it writes over them, and copies elsewhere stay.
    Unlinked,
    /// The key is destroyed as well, so every copy anywhere is noise.
    KeyDestroyed,
}

/// Removes every generation, pin, journal, log, quarantined and temporary file of a memory, and
/// every backup that it knows of, then destroys the key file if one is given.
///
/// The folder stays with a tombstone in it, so that nothing opens it by accident. Calling it
/// again is allowed and finishes what a crash interrupted.
///
/// # Errors
/// [`StoreError::Locked`] while a store is open on the folder, and what the operating system
/// refuses. After an error the folder cannot be opened any more; call again.
pub fn forget(
    dir: &Path,
    shard: ShardId,
    key_file: Option<&Path>,
) -> Result<ForgetReceipt, StoreError> {
    let mut storage = open_folder(dir, NetworkFolders::Accept)?;
    lock(&mut storage)?;
    let mut receipt = forget_on(&storage, shard)?;
    for backup in crate::schedule::known_backups(dir)? {
        match std::fs::remove_file(&backup) {
            Ok(()) => receipt.backups.push(backup),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                receipt.backups_missing.push(backup);
            }
            Err(source) => {
                return Err(StoreError::Io {
                    action: "remove",
                    path: backup,
                    source,
                });
            }
        }
    }
    for backup in &receipt.backups {
        let parent = backup
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let synced = std::fs::File::open(parent).and_then(|parent| parent.sync_all());
        synced.map_err(|source| StoreError::NotDurable {
            path: parent.to_owned(),
            source,
        })?;
    }
    // The list of backups goes last: until then a second call still finds them.
    remove_if_there(&storage, crate::schedule::FILE)?;
    sync(&storage)?;
    if let Some(key_file) = key_file {
        destroy_key(key_file)?;
        receipt.erasure = Erasure::KeyDestroyed;
    }
    Ok(receipt)
}

#[cfg(feature = "encryption")]
fn destroy_key(path: &Path) -> Result<(), StoreError> {
    UserKey::destroy(path)
}

#[cfg(not(feature = "encryption"))]
fn destroy_key(path: &Path) -> Result<(), StoreError> {
    let _: Option<UserKey> = None;
    Err(StoreError::NotAKey {
        path: path.to_owned(),
    })
}

/// The part of [`forget`] that any storage can do.
fn forget_on(storage: &dyn Storage, shard: ShardId) -> Result<ForgetReceipt, StoreError> {
    let mut receipt = ForgetReceipt {
        shard: shard.to_string(),
        generations: 0,
        journals: 0,
        logs: 0,
        quarantined: 0,
        temporaries: 0,
        backups: Vec::new(),
        backups_missing: Vec::new(),
        left: Vec::new(),
        bytes: 0,
        erasure: Erasure::Unlinked,
    };
    write_tombstone(storage, shard)?;
    for name in super::files::list(storage, "")? {
        if name == TOMBSTONE || name == super::LOCK || name == crate::schedule::FILE {
            continue;
        }
        let count = if super::Slot::from_file_name(&name).is_some() {
            &mut receipt.generations
        } else if super::JournalName::from_file_name(&name).is_some() {
            &mut receipt.journals
        } else if super::record_log::is_log(&name) {
            &mut receipt.logs
        } else if name.starts_with(super::recovery::TEMPORARY) {
            &mut receipt.temporaries
        } else {
            receipt.left.push(name);
            continue;
        };
        *count += 1;
        receipt.bytes += remove(storage, &name)?;
    }
    for name in super::files::list(storage, QUARANTINE)? {
        receipt.quarantined += 1;
        receipt.bytes += remove(storage, &format!("{QUARANTINE}/{name}"))?;
    }
    sync(storage)?;
    Ok(receipt)
}

/// `Ok` unless the folder holds a tombstone.
pub(super) fn refuse_forgotten(storage: &dyn Storage) -> Result<(), StoreError> {
    let names = super::files::list(storage, "")?;
    if names.iter().any(|name| name == TOMBSTONE) {
        return Err(StoreError::Forgotten {
            path: storage.path().to_owned(),
        });
    }
    Ok(())
}

fn write_tombstone(storage: &dyn Storage, shard: ShardId) -> Result<(), StoreError> {
    let text = format!("{shard}\n");
    match storage.create(TOMBSTONE, text.len() as u64) {
        Ok(mut file) => {
            write_whole(&mut *file, text.as_bytes())
                .map_err(io_error(storage, "write", TOMBSTONE))?;
            file.sync().map_err(io_error(storage, "flush", TOMBSTONE))?;
        }
        // Its name is what counts, and that is flushed below in any case.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io_error(storage, "create", TOMBSTONE)(error)),
    }
    sync(storage)
}

/// Removes a file and says how long it was.
fn remove(storage: &dyn Storage, name: &str) -> Result<u64, StoreError> {
    let bytes = path_of(storage, name).symlink_metadata();
    let bytes = bytes.map_or(0, |metadata| metadata.len());
    storage
        .remove(name)
        .map_err(io_error(storage, "remove", name))?;
    Ok(bytes)
}

fn remove_if_there(storage: &dyn Storage, name: &str) -> Result<(), StoreError> {
    match storage.remove(name) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(io_error(storage, "remove", name)),
    }
}

fn sync(storage: &dyn Storage) -> Result<(), StoreError> {
    storage
        .sync_folder()
        .map_err(|source| StoreError::NotDurable {
            path: storage.path().to_owned(),
            source,
        })
}
