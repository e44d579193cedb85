//! Reading without the lock, beside a writer that may be saving and pruning.

use std::path::{Path, PathBuf};

use super::chain::{Passed, State, survey};
use super::files;
use super::generation::{Generation, JournalName, Slot};
use super::journal::{End, Journal};
use crate::codec::{FileSummary, delta, inspect_within};
use crate::error::StoreError;
use crate::format::limits::Limits;
use crate::fs::{DiskStorage, Storage};
use crate::image::{MemoryImage, ShardId};
use crate::key::{Access, UserKey};

/// Listings before a reader makes do with what it found in a folder whose files vanish under
/// it. A listing is too old only when a whole retention of saves passes before the open.
const MAX_LISTINGS: usize = 16;

/// The newest generation that verifies, without taking the lock or moving anything.
///
/// Files never change once they have their name, and journals only grow, so a reader needs
/// no lock. `None` when the folder is absent or holds no generation.
///
/// # Errors
/// When generations exist but none verifies: the error of the newest. Also
/// [`StoreError::WrongShard`], and files that are too new or too large.
pub fn read_newest(
    dir: &Path,
    shard: ShardId,
    limits: &Limits,
) -> Result<Option<(MemoryImage, Generation)>, StoreError> {
    let state = read_state(dir, shard, Access::plain(limits))?;
    Ok(state.map(|state| (state.image, state.generation)))
}

/// What the newest whole file of a folder that verifies says of itself: which memory it is, not
/// what is in it. Nothing is unpacked, no lock is taken and nothing moves. `None` when the folder
/// is absent or holds no file.
///
/// The tokens of a journal behind that file are not counted in what it says.
///
/// # Errors
/// When there are files and none verifies: the error of the newest.
pub fn inspect_newest(
    dir: &Path,
    limits: &Limits,
    key: Option<&UserKey>,
) -> Result<Option<FileSummary>, StoreError> {
    let storage = match DiskStorage::open(dir) {
        Ok(storage) => storage,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(open_error(dir, source)),
    };
    let mut slots = files::slots(&storage, "")?;
    slots.sort_by_key(|slot| std::cmp::Reverse(slot.generation()));
    let mut problem = None;
    for slot in slots {
        let name = slot.file_name();
        let most = limits.max_file_bytes.saturating_add(1);
        let bytes = storage.read(&name, most);
        let summary = bytes
            .map_err(files::io_error(&storage, "read", &name))
            .and_then(|bytes| inspect_within(&bytes, Access { limits, key }));
        match summary {
            Ok(summary) => return Ok(Some(summary)),
            Err(error) => {
                problem.get_or_insert(error.in_file(&files::path_of(&storage, &name)));
            }
        }
    }
    problem.map_or(Ok(None), Err)
}

/// Follows the newest generation of one memory from outside its writer.
///
/// What it returns never goes back: a folder that was replaced by an older copy of itself is
/// an error, not a memory that has lost its last days.
#[derive(Debug)]
pub struct MemoryReader {
    dir: PathBuf,
    shard: ShardId,
    limits: Limits,
    key: Option<UserKey>,
    seen: Option<(u64, Generation)>,
}

impl MemoryReader {
    /// A reader of one folder. Nothing is read yet.
    pub fn new(dir: &Path, shard: ShardId, limits: Limits) -> Self {
        Self {
            // Only a process without a current folder has no absolute paths.
            dir: std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()),
            shard,
            limits,
            key: None,
            seen: None,
        }
    }

    /// The same reader for an encrypted memory.
    pub fn with_key(mut self, key: UserKey) -> Self {
        self.key = Some(key);
        self
    }

    /// The newest generation that verifies.
    ///
    /// # Errors
    /// As [`read_newest`], and [`StoreError::Replayed`] when it is older than one that this
    /// reader has returned.
    pub fn newest(&mut self) -> Result<Option<(MemoryImage, Generation)>, StoreError> {
        let access = Access {
            limits: &self.limits,
            key: self.key.as_ref(),
        };
        let Some(state) = read_state(&self.dir, self.shard, access)? else {
            return Ok(None);
        };
        let found = (state.writer_epoch, state.generation);
        if let Some(seen) = self.seen.filter(|&seen| found < seen) {
            return Err(StoreError::Replayed {
                seen: seen.1,
                seen_epoch: seen.0,
                found: found.1,
                found_epoch: found.0,
            });
        }
        self.seen = Some(found);
        Ok(Some((state.image, state.generation)))
    }
}

fn read_state(dir: &Path, shard: ShardId, access: Access<'_>) -> Result<Option<State>, StoreError> {
    let storage = match DiskStorage::open(dir) {
        Ok(storage) => storage,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(open_error(dir, source)),
    };
    newest_beside_writer(&storage, shard, access)
}

/// The newest state, with the patience for files that a writer prunes meanwhile.
pub(super) fn newest_beside_writer(
    storage: &dyn Storage,
    shard: ShardId,
    access: Access<'_>,
) -> Result<Option<State>, StoreError> {
    for _ in 1..MAX_LISTINGS {
        match newest(storage, shard, access, Vanished::Again) {
            Err(error) if error.is_not_found() => {}
            outcome => return outcome,
        }
    }
    newest(storage, shard, access, Vanished::MakeDo)
}

/// What to do when a listed file is gone.
#[derive(Clone, Copy)]
enum Vanished {
    Again,
    MakeDo,
}

fn newest(
    storage: &dyn Storage,
    shard: ShardId,
    access: Access<'_>,
    vanished: Vanished,
) -> Result<Option<State>, StoreError> {
    let mut passed = Vec::new();
    let mut folder = survey(storage, shard, access)?;
    let gone = match (folder.vanished.take(), vanished) {
        (Some(error), Vanished::Again) => return Err(error),
        (gone, _) => gone,
    };
    let newest = folder.newest(storage, shard, access, &mut passed)?;
    if newest.is_some() {
        return Ok(newest);
    }
    let mut damage = passed.into_iter().filter_map(|passed| match passed {
        Passed::Base(_, error) | Passed::Journal(_, _, error) => Some(error),
        Passed::Tail(..) => None,
    });
    damage.next().or(gone).map_or(Ok(None), Err)
}

/// What a check of one file found.
#[derive(Debug)]
#[non_exhaustive]
pub struct FileVerdict {
    /// The file.
    pub path: PathBuf,
    /// Its generation, by its name; for a journal the one that its first record follows.
    pub generation: Generation,
    /// Its owner, if it verifies.
    pub shard: Option<ShardId>,
    /// Its length in bytes, if it could be read.
    pub file_bytes: Option<u64>,
    /// For a journal, the generations of its whole records.
    pub records: Option<Vec<Generation>>,
    /// For a journal, how its last append was cut short. That is what a crash leaves of a
    /// record that was never acknowledged, and what damage to the very last record looks like.
    pub torn: Option<StoreError>,
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
    verify_dir_with(dir, limits, None)
}

/// [`verify_dir`] of a memory that may be encrypted.
///
/// # Errors
/// As [`verify_dir`].
pub fn verify_dir_with(
    dir: &Path,
    limits: &Limits,
    key: Option<&UserKey>,
) -> Result<Vec<FileVerdict>, StoreError> {
    let access = Access { limits, key };
    let storage = DiskStorage::open(dir).map_err(|source| open_error(dir, source))?;
    let names = files::list(&storage, "")?;
    let mut owner = None;
    let verdicts = names.iter().filter_map(|name| {
        let mut verdict = if let Some(slot) = Slot::from_file_name(name) {
            file_verdict(&storage, slot, access)
        } else {
            journal_verdict(&storage, JournalName::from_file_name(name)?, owner, access)
        };
        if let Some(found) = verdict.shard {
            let expected = *owner.get_or_insert(found);
            if expected != found {
                verdict.problem = Some(StoreError::WrongShard { expected, found });
            }
        }
        Some(verdict)
    });
    Ok(verdicts.collect())
}

fn file_verdict(storage: &dyn Storage, slot: Slot, access: Access<'_>) -> FileVerdict {
    let (shard, problem) = match files::read(storage, slot, None, access) {
        Ok(decoded) => (Some(decoded.image.shard), None),
        Err(error) => (None, Some(error)),
    };
    let path = files::path_of(storage, &slot.file_name());
    FileVerdict {
        file_bytes: file_bytes(&path),
        path,
        generation: slot.generation(),
        shard,
        records: None,
        torn: None,
        problem,
    }
}

fn journal_verdict(
    storage: &dyn Storage,
    name: JournalName,
    owner: Option<ShardId>,
    access: Access<'_>,
) -> FileVerdict {
    let path = files::path_of(storage, &name.file_name());
    let mut verdict = FileVerdict {
        file_bytes: file_bytes(&path),
        path,
        generation: name.base,
        shard: None,
        records: None,
        torn: None,
        problem: None,
    };
    match Journal::read(storage, name, owner, access.limits) {
        Ok(mut journal) => {
            let records = &journal.records;
            let check = |record| delta::check(journal.payload(record), access);
            verdict.problem = records.iter().find_map(|record| check(record).err());
            verdict.records = Some(records.iter().map(|record| record.generation).collect());
            match journal.end.take() {
                Some(End::Damaged(error)) => drop(verdict.problem.get_or_insert(error)),
                Some(End::Torn(error)) => verdict.torn = Some(error),
                None => {}
            }
        }
        Err(error) => verdict.problem = Some(error),
    }
    verdict
}

fn file_bytes(path: &Path) -> Option<u64> {
    path.symlink_metadata().ok().map(|metadata| metadata.len())
}

pub(super) fn open_error(dir: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io {
        action: "open",
        path: dir.to_owned(),
        source,
    }
}
