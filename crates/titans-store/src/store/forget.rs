//! Forgetting a memory: nothing of it stays but the fact that it was forgotten.
//!
//! 1. The tombstone [`TOMBSTONE`] is made and its name flushed. From here on the folder opens
//!    no more, and whoever tries finishes the work. Where there is no room for it, a file of
//!    the memory gets the name [`FORGETTING`] instead, which needs none and says the same.
//! 2. Everything in the [`Inventory`] is removed, and the names are flushed. Unlinking needs no
//!    room. What cannot be removed is noted, and the walk goes on.
//! 3. The tombstone is made now if there was no room before; then [`FORGETTING`] goes.
//! 4. The backups on the list go, and at last the list, unless a backup could not be removed:
//!    a second call must still find it.
//! 5. The key goes.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use super::files::{self, path_of};
use super::generation::Slot;
use super::inventory::{Inventory, Item, Place};
use super::names::{FORGETTING, TOMBSTONE};
pub use super::receipt::{Erasure, ForgetReceipt, PlaceReport};
use super::{lock, readers};
use crate::error::StoreError;
use crate::fs::{DiskStorage, Storage, flush_parent, write_whole};
use crate::image::ShardId;
use crate::key::UserKey;

/// Removes everything in every place that can hold something of a memory: generations, pin,
/// journals, logs, quarantined and temporary files, copies in the folder and below it, and
/// every backup that the memory knows of; then destroys the key file if one is given.
///
/// It needs no free room on the disk. The receipt says of each place what was found and what
/// remains: [`ForgetReceipt::is_complete`] is `false` while anything does, and calling again
/// takes it up where it stopped. So does opening the folder, which is refused from the moment
/// at which the first file goes. Files that are not of a memory, by name and first bytes, are
/// left and named.
///
/// The folder stays with a tombstone in it, so that nothing opens it by accident.
///
/// # Errors
/// Only what keeps it from beginning: [`StoreError::Locked`] while a store is open on the
/// folder, and a folder that is not there or cannot be opened.
pub fn forget(
    dir: &Path,
    shard: ShardId,
    key_file: Option<&Path>,
) -> Result<ForgetReceipt, StoreError> {
    let mut storage = DiskStorage::open(dir).map_err(|error| readers::open_error(dir, error))?;
    lock_if_there_is_room(&mut storage)?;
    let mut receipt = ForgetReceipt::new(shard);
    let schedule = crate::schedule::known_backups(dir);
    clear(&storage, shard, &mut receipt);
    match schedule {
        Ok(backups) => {
            let gone = remove_backups(backups, &mut receipt);
            if gone {
                remove_schedule(&storage, &mut receipt);
            }
        }
        Err(error) => receipt.leave(
            Place::Schedule,
            path_of(&storage, crate::schedule::FILE),
            format!("cannot be read, so the backups on it are not known: {error}"),
        ),
    }
    if let Some(key_file) = key_file {
        destroy_key(key_file, &mut receipt);
    }
    Ok(receipt)
}

/// The part of [`forget`] that lies in the folder, on any storage.
///
/// # Errors
/// As [`forget`].
pub fn forget_on(
    mut storage: Box<dyn Storage>,
    shard: ShardId,
) -> Result<ForgetReceipt, StoreError> {
    lock_if_there_is_room(&mut *storage)?;
    let mut receipt = ForgetReceipt::new(shard);
    clear(&*storage, shard, &mut receipt);
    remove_schedule(&*storage, &mut receipt);
    Ok(receipt)
}

/// Removes a folder that holds nothing but backups of one memory, with all that is in it.
/// Symbolic links are removed and not followed. An absent folder is fine.
pub fn remove_backup_folder(folder: &Path) -> PlaceReport {
    let mut report = PlaceReport::new(Place::BackupFolder);
    match folder.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => {
            remove_below(folder, &mut report);
            if let Err(error) = flush_parent(folder) {
                report.leave(folder, format!("may come back after a power loss: {error}"));
            }
        }
        Ok(_) => report.leave(folder, "is not a folder"),
        Err(error) if is_absent(error.kind()) => {}
        Err(error) => report.leave(folder, format!("cannot be looked at: {error}")),
    }
    report
}

/// `Ok` unless the folder is of a memory that was forgotten. What a crash has kept from being
/// removed goes now.
pub(super) fn refuse_forgotten(storage: &dyn Storage, shard: ShardId) -> Result<(), StoreError> {
    if !holds_tombstone(storage).map_err(files::io_error(storage, "list", ""))? {
        return Ok(());
    }
    clear(storage, shard, &mut ForgetReceipt::new(shard));
    Err(StoreError::Forgotten {
        path: storage.path().to_owned(),
    })
}

/// Whether the memory in `dir` was forgotten, as far as its folder tells.
///
/// # Errors
/// When the folder cannot be listed.
pub fn is_forgotten(dir: &Path) -> Result<bool, StoreError> {
    let says_so = DiskStorage::open(dir).and_then(|storage| holds_tombstone(&storage));
    says_so.map_err(|error| readers::open_error(dir, error))
}

fn holds_tombstone(storage: &dyn Storage) -> std::io::Result<bool> {
    let entries = storage.entries("")?;
    let says_so = |name: &str| name == TOMBSTONE || name == FORGETTING;
    Ok(entries.iter().any(|entry| says_so(&entry.name)))
}

/// On a full disk a lock file cannot be made. Then there has been none, so nobody holds it.
fn lock_if_there_is_room(storage: &mut dyn Storage) -> Result<(), StoreError> {
    match lock::lock(storage) {
        Err(error) if error.is_out_of_space() => Ok(()),
        locked => locked,
    }
}

/// Removes everything in the folder but the list of backups.
fn clear(storage: &dyn Storage, shard: ShardId, receipt: &mut ForgetReceipt) {
    if write_tombstone(storage, shard).is_err() {
        // Where this fails as well, there is nothing to mark or nothing that can be removed.
        mark_by_name(storage);
    }
    let inventory = Inventory::read(storage);
    for unlisted in inventory.unlisted {
        receipt.place(&Place::Unknown).left.push(unlisted);
    }
    let mut folders = BTreeSet::from([String::new()]);
    let is_last = |item: &&Item| item.name == FORGETTING;
    let items = inventory.items.iter();
    for item in items.clone().filter(|item| !is_last(item)) {
        if item.place != Place::Schedule && remove(storage, item, receipt) {
            let folder = item.name.rsplit_once('/').map_or("", |(folder, _)| folder);
            folders.insert(folder.to_owned());
        }
    }
    // The deepest first, so that the flush of the folder itself ends it.
    for folder in folders.iter().rev() {
        flush(storage, folder, receipt);
    }
    // There is room for it now. The files that are left by then go without it, too.
    if let Err(error) = write_tombstone(storage, shard) {
        receipt.leave(
            Place::Folder,
            path_of(storage, TOMBSTONE),
            format!("cannot be written, so the folder opens as an empty one: {error}"),
        );
    }
    for item in items.filter(is_last) {
        remove(storage, item, receipt);
        flush(storage, "", receipt);
    }
}

fn write_tombstone(storage: &dyn Storage, shard: ShardId) -> std::io::Result<()> {
    match storage.create(TOMBSTONE, 0) {
        Ok(mut file) => {
            // For people only. Its name is what counts.
            let text = format!("{shard}\n");
            let _ = write_whole(&mut *file, text.as_bytes()).and_then(|()| file.sync());
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    storage.sync_folder()
}

/// Gives a file of the memory, if there is one and it can be done, the name that says that it
/// is being forgotten.
fn mark_by_name(storage: &dyn Storage) {
    let inventory = Inventory::read(storage);
    let items = &inventory.items;
    let is_base = |item: &&Item| Slot::from_file_name(&item.name).is_some();
    if !items.iter().any(|item| item.name == FORGETTING)
        && let Some(base) = items.iter().rfind(is_base)
    {
        let _ = storage.rename_new(&base.name, FORGETTING);
    }
    let _ = storage.sync_folder();
}

/// Removes a file, or notes why it stays.
fn remove(storage: &dyn Storage, item: &Item, receipt: &mut ForgetReceipt) -> bool {
    let report = receipt.place(&item.place);
    report.found += 1;
    let path = path_of(storage, &item.name);
    if let Some(reason) = item.why_left() {
        report.leave(path, reason);
        return false;
    }
    match storage.remove(&item.name) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            report.leave(path, format!("cannot be removed: {error}"));
            false
        }
        _ => {
            report.removed += 1;
            report.bytes += item.bytes;
            true
        }
    }
}

fn flush(storage: &dyn Storage, folder: &str, receipt: &mut ForgetReceipt) {
    if let Err(error) = storage.sync_names(folder) {
        receipt.leave(
            Place::Folder,
            path_of(storage, folder),
            format!("was not flushed, so files may come back after a power loss: {error}"),
        );
    }
}

/// Removes the backups on the list; `true` when none is left.
fn remove_backups(backups: Vec<std::path::PathBuf>, receipt: &mut ForgetReceipt) -> bool {
    let mut folders = BTreeSet::new();
    for backup in backups {
        let report = receipt.place(&Place::Backups);
        let bytes = backup.symlink_metadata().map_or(0, |found| found.len());
        match std::fs::remove_file(&backup) {
            Ok(()) => {
                report.found += 1;
                report.removed += 1;
                report.bytes += bytes;
                folders.extend(backup.parent().map(Path::to_owned));
                receipt.backups.push(backup);
            }
            Err(error) if is_absent(error.kind()) => receipt.backups_missing.push(backup),
            Err(error) => {
                report.found += 1;
                report.leave(backup, format!("cannot be removed: {error}"));
            }
        }
    }
    for folder in folders {
        if let Err(error) = DiskStorage::open(&folder).and_then(|folder| folder.sync_folder()) {
            let reason = format!("was not flushed, so backups may come back: {error}");
            receipt.leave(Place::Backups, folder, reason);
        }
    }
    receipt.place(&Place::Backups).left.is_empty()
}

fn remove_schedule(storage: &dyn Storage, receipt: &mut ForgetReceipt) {
    let items = Inventory::read(storage).items;
    for item in items.iter().filter(|item| item.place == Place::Schedule) {
        remove(storage, item, receipt);
        flush(storage, "", receipt);
    }
}

fn destroy_key(path: &Path, receipt: &mut ForgetReceipt) {
    #[cfg(feature = "encryption")]
    let destroyed = UserKey::destroy(path);
    #[cfg(not(feature = "encryption"))]
    let destroyed: Result<(), StoreError> = {
        let _: Option<UserKey> = None;
        Err(StoreError::NotAKey {
            path: path.to_owned(),
        })
    };
    let report = receipt.place(&Place::Key);
    report.found += 1;
    match destroyed {
        Ok(()) => {
            report.removed += 1;
            receipt.erasure = Erasure::KeyDestroyed;
        }
        Err(error) => report.leave(path, format!("is not destroyed: {error}")),
    }
}

/// Removes all that is below a folder, and the folder.
fn remove_below(folder: &Path, report: &mut PlaceReport) {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            report.leave(folder, format!("cannot be listed: {error}"));
            return;
        }
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                report.leave(folder, format!("cannot be listed: {error}"));
                continue;
            }
        };
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&path, report);
            continue;
        }
        report.found += 1;
        let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                report.leave(path, format!("cannot be removed: {error}"));
            }
            _ => {
                report.removed += 1;
                report.bytes += bytes;
            }
        }
    }
    if let Err(error) = std::fs::remove_dir(folder)
        && report.left.is_empty()
    {
        report.leave(folder, format!("cannot be removed: {error}"));
    }
}

fn is_absent(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory)
}
