//! The newest generation that verifies, and what was passed over on the way to it.

use std::fmt;
use std::path::PathBuf;

use super::chain::{Passed, State, survey};
use super::files::{self, io_error, path_of};
use super::generation::{Generation, JournalName, Slot};
use super::names::{QUARANTINE, TEMPORARY};
use crate::error::StoreError;
use crate::fs::Storage;
use crate::image::{MemoryImage, ShardId};
use crate::key::Access;

/// Damaged files kept for diagnosis. They are of no other use, and a failing disk must not
/// fill itself with them.
const MAX_QUARANTINED: usize = 2;

/// What opening a folder found.
#[derive(Debug, Default)]
pub struct Recovery {
    /// The newest image that verifies; `None` when there is none.
    pub image: Option<MemoryImage>,
    /// Its generation.
    pub generation: Option<Generation>,
    /// The damaged files that were passed over. Not empty means that something was lost, and
    /// a person should know.
    pub skipped: Vec<Skipped>,
    /// Appends to a journal that a crash cut short. They were never acknowledged, so nothing
    /// was lost, unless the disk has damaged the very last record.
    pub torn: Vec<TornTail>,
}

/// A damaged file that [`MemoryStore::open`](crate::MemoryStore::open) passed over.
#[derive(Debug)]
#[non_exhaustive]
pub struct Skipped {
    /// The generation, by the name of the file; in a journal the first one that is lost.
    pub generation: Generation,
    /// Where the file lies now.
    pub path: PathBuf,
    /// Whether it still lies there, or had to make room for newer damaged ones.
    pub kept: Kept,
    /// What is wrong with it.
    pub reason: StoreError,
}

/// The end of a journal that was cut short.
#[derive(Debug)]
#[non_exhaustive]
pub struct TornTail {
    /// The journal.
    pub path: PathBuf,
    /// Where and how it ends.
    pub reason: StoreError,
}

/// What became of a damaged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It lies in the quarantine folder.
    InQuarantine,
    /// It lies where it was: it could not be moved, or it is a journal whose first records
    /// are still of use.
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
    pub(super) newest: Option<State>,
    pub(super) skipped: Vec<Skipped>,
    pub(super) torn: Vec<TornTail>,
    pub(super) highest_epoch: u64,
    pub(super) highest_sequence: u64,
}

/// Removes the leftovers of interrupted saves. Only the holder of the lock may do so. The
/// schedule of backups is written without the lock and sweeps for itself.
pub(super) fn sweep_temporary(storage: &dyn Storage) -> Result<(), StoreError> {
    let names = files::list(storage, "")?;
    let is_leftover =
        |name: &&String| name.starts_with(TEMPORARY) && *name != crate::schedule::NEW_FILE;
    for name in names.iter().filter(is_leftover) {
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
    access: Access<'_>,
) -> Result<Found, StoreError> {
    let mut folder = survey(storage, shard, access)?;
    let quarantined = files::slots(storage, QUARANTINE)?;
    let named = folder.journals.iter().map(|journal| journal.name);
    let named: Vec<JournalName> = named.collect();
    let sequences = folder
        .generations()
        .into_iter()
        .chain(named.iter().map(|name| name.base))
        .chain(quarantined.iter().map(|slot| slot.generation()))
        .map(Generation::number);
    let epochs = folder
        .bases
        .iter()
        .filter_map(|base| base.epoch())
        .chain(named.iter().map(|name| name.epoch));
    let (highest_sequence, highest_epoch) =
        (sequences.max().unwrap_or(0), epochs.max().unwrap_or(0));

    let mut passed = Vec::new();
    let newest = folder.newest(storage, shard, access, &mut passed)?;
    let mut found = Found {
        newest,
        skipped: Vec::new(),
        torn: Vec::new(),
        highest_epoch,
        highest_sequence,
    };
    for passed in passed {
        match passed {
            Passed::Base(slot, reason) => found.skipped.push(quarantine(storage, slot, reason)),
            Passed::Journal(name, generation, reason) => found.skipped.push(Skipped {
                generation,
                path: path_of(storage, &name.file_name()),
                kept: Kept::InPlace,
                reason,
            }),
            Passed::Tail(name, reason) => found.torn.push(TornTail {
                path: path_of(storage, &name.file_name()),
                reason,
            }),
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
