//! The newest generation that verifies, and what was passed over on the way to it.

use std::fmt;
use std::path::PathBuf;

use super::files::{self, io_error, path_of};
use super::generation::{Generation, Slot};
use crate::codec::decode::Decoded;
use crate::error::StoreError;
use crate::format::limits::Limits;
use crate::fs::Storage;
use crate::image::{MemoryImage, ShardId};

/// Sub-folder of damaged files.
const QUARANTINE: &str = "quarantine";
/// Damaged files kept for diagnosis. They are of no other use, and a failing disk must not
/// fill itself with them.
const MAX_QUARANTINED: usize = 2;
/// Prefix of files that a save has not finished.
pub(super) const TEMPORARY: &str = ".tmp-";

/// What opening a folder found.
#[derive(Debug, Default)]
pub struct Recovery {
    /// The newest image that verifies; `None` when there is none.
    pub image: Option<MemoryImage>,
    /// Its generation.
    pub generation: Option<Generation>,
    /// The damaged files that were passed over, newest first. Not empty means that
    /// something was lost, and a person should know.
    pub skipped: Vec<Skipped>,
}

/// A damaged file that [`MemoryStore::open`](crate::MemoryStore::open) passed over.
#[derive(Debug)]
#[non_exhaustive]
pub struct Skipped {
    /// The generation, by the name of the file.
    pub generation: Generation,
    /// Where the file lies now.
    pub path: PathBuf,
    /// Whether it still lies there, or had to make room for newer damaged ones.
    pub kept: Kept,
    /// What is wrong with it.
    pub reason: StoreError,
}

/// What became of a damaged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It lies in the quarantine folder.
    InQuarantine,
    /// It could not be moved and lies where it was.
    InPlace,
    /// It was removed, because the quarantine folder holds newer ones.
    Removed,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (generation, reason) = (self.generation, self.reason.cause());
        write!(
            f,
            "generation {generation} is damaged ({reason}), its file was "
        )?;
        match self.kept {
            Kept::InQuarantine => write!(f, "moved to {}", self.path.display()),
            Kept::InPlace => write!(f, "left at {}", self.path.display()),
            Kept::Removed => write!(f, "removed from {}", self.path.display()),
        }
    }
}

/// What recovery tells the store, beside what it tells the caller.
pub(super) struct Found {
    pub(super) newest: Option<Decoded>,
    pub(super) skipped: Vec<Skipped>,
    pub(super) highest_epoch: u64,
    pub(super) highest_sequence: u64,
}

/// Removes the leftovers of interrupted saves. Only the holder of the lock may do so.
pub(super) fn sweep_temporary(storage: &dyn Storage) -> Result<(), StoreError> {
    let names = storage.list("").map_err(io_error(storage, "list", ""))?;
    for name in names.iter().filter(|name| name.starts_with(TEMPORARY)) {
        storage
            .remove(name)
            .map_err(io_error(storage, "remove", name))?;
    }
    Ok(())
}

/// Finds the newest generation that verifies and moves damaged ones out of the way.
pub(super) fn recover(
    storage: &dyn Storage,
    shard: ShardId,
    limits: &Limits,
) -> Result<Found, StoreError> {
    let slots = files::slots(storage, "")?;
    let quarantined = files::slots(storage, QUARANTINE)?;
    let candidates = files::candidates(storage, shard, &slots)?;
    let sequences = slots
        .iter()
        .chain(&quarantined)
        .map(|slot| slot.generation().number());
    let mut found = Found {
        newest: None,
        skipped: Vec::new(),
        highest_epoch: candidates
            .iter()
            .filter_map(|c| c.epoch())
            .max()
            .unwrap_or(0),
        highest_sequence: sequences.max().unwrap_or(0),
    };
    for candidate in candidates {
        match files::read(storage, candidate.slot, Some(shard), limits) {
            Ok(decoded) => {
                found.newest = Some(decoded);
                break;
            }
            Err(reason) if reason.is_damage() => {
                found
                    .skipped
                    .push(quarantine(storage, candidate.slot, reason));
            }
            Err(error) => return Err(error),
        }
    }
    empty_quarantine(storage, MAX_QUARANTINED, &mut found.skipped);
    Ok(found)
}

/// Moves a damaged file away. A failure to do so must not stand between the caller and an
/// older generation that is whole, so it is only told.
fn quarantine(storage: &dyn Storage, slot: Slot, reason: StoreError) -> Skipped {
    let name = slot.file_name();
    let target = format!("{QUARANTINE}/{name}");
    let moved = storage
        .make_folder(QUARANTINE)
        .and_then(|()| storage.rename_new(&name, &target));
    let (path, kept) = match moved {
        Ok(()) => (path_of(storage, &target), Kept::InQuarantine),
        Err(_) => (path_of(storage, &name), Kept::InPlace),
    };
    Skipped {
        generation: slot.generation(),
        path,
        kept,
        reason,
    }
}

/// Removes all but the newest `keep` quarantined files.
pub(super) fn empty_quarantine(storage: &dyn Storage, keep: usize, skipped: &mut [Skipped]) {
    let mut slots = files::slots(storage, QUARANTINE).unwrap_or_default();
    slots.sort_by_key(|slot| std::cmp::Reverse(slot.generation()));
    for slot in slots.into_iter().skip(keep) {
        let name = format!("{QUARANTINE}/{}", slot.file_name());
        if storage.remove(&name).is_ok() {
            let path = path_of(storage, &name);
            for skipped in skipped.iter_mut().filter(|skipped| skipped.path == path) {
                skipped.kept = Kept::Removed;
            }
        }
    }
}
