//! Every place that can hold something of a memory, and what lies there.
//!
//! One list of places, for everything that must know them all: forgetting walks it, and its
//! receipt says of each place what was found and what remains.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use super::files::path_of;
use super::generation::{JournalName, Slot};
use super::names::{FORGETTING, LOCK, QUARANTINE, TEMPORARY, TOMBSTONE};
use super::{readers, record_bytes, record_log};
use crate::error::StoreError;
use crate::format::layout::MAGIC;
use crate::fs::{DiskStorage, Entry, EntryKind, Storage};

/// Folders below that of the memory that are searched. Its own are one deep.
const MAX_DEPTH: usize = 8;
/// Bytes by which a file is known: a header of a tar file.
const HEAD_BYTES: u64 = 512;

/// A place that can hold something of a memory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Place {
    /// Whole files of generations.
    Generations,
    /// The generation pinned as last known good.
    Pinned,
    /// Journals.
    Journals,
    /// The log with this name: the ledger, the probes, or tokens kept to learn them again with
    /// the images that they begin with.
    Log(String),
    /// Damaged files.
    Quarantine,
    /// Leftovers of interrupted saves.
    Temporary,
    /// Files of a memory under names or in folders that are not this store's, known by their
    /// first bytes: copies that a person has made, or what a repair of the file system found.
    Copies,
    /// The list of the backups that the memory knows of.
    Schedule,
    /// The backups on that list.
    Backups,
    /// The folder that a host keeps for the backups of the memory.
    BackupFolder,
    /// What is not of a memory, as far as its name and first bytes tell.
    Unknown,
    /// The folder itself: the note that the memory was forgotten, and the flush of all names.
    Folder,
    /// The file with the key of the owner.
    Key,
    /// Snapshots in RAM, which a host reports: those that its readers still hold go when they
    /// let go of them.
    Snapshots,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Generations => "generations",
            Self::Pinned => "pinned",
            Self::Journals => "journals",
            Self::Log(name) => return write!(f, "log {name}"),
            Self::Quarantine => "quarantine",
            Self::Temporary => "temporary",
            Self::Copies => "copies",
            Self::Schedule => "schedule",
            Self::Backups => "backups",
            Self::BackupFolder => "folder of backups",
            Self::Unknown => "unknown",
            Self::Folder => "folder",
            Self::Key => "key",
            Self::Snapshots => "snapshots",
        })
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Something in a place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Item {
    /// The place.
    pub place: Place,
    /// The name below the folder of the memory.
    pub name: String,
    /// The length of the file.
    pub bytes: u64,
    kind: EntryKind,
}

impl Item {
    /// Why forgetting leaves it; `None` where it removes it.
    pub(super) fn why_left(&self) -> Option<&'static str> {
        match self.kind {
            EntryKind::Link => Some("is a symbolic link, which is not followed"),
            EntryKind::Other => Some("is neither a file nor a folder"),
            EntryKind::Unnameable => Some("has a name that is not UTF-8"),
            EntryKind::File | EntryKind::Folder => {
                (self.place == Place::Unknown).then_some("is not of a memory")
            }
        }
    }
}

/// What remains of a memory, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Left {
    /// The file or folder.
    pub path: PathBuf,
    /// Why it remains, as the rest of a sentence that begins with the path.
    pub reason: String,
}

impl Left {
    /// Something that remains.
    pub fn new(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            reason: reason.into(),
        }
    }
}

/// Everything below the folder of a memory that can hold something of it. Backups lie
/// elsewhere: [`BackupSchedule`](crate::BackupSchedule) names those that are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inventory {
    /// What was found, in the order of names.
    pub items: Vec<Item>,
    /// Folders that could not be listed.
    pub unlisted: Vec<Left>,
}

impl Inventory {
    /// Looks through the folder of a memory. Takes no lock and changes nothing.
    ///
    /// # Errors
    /// When the folder cannot be opened. What cannot be listed below it is in
    /// [`unlisted`](Self::unlisted).
    pub fn of(dir: &Path) -> Result<Self, StoreError> {
        let storage = DiskStorage::open(dir).map_err(|error| readers::open_error(dir, error))?;
        Ok(Self::read(&storage))
    }

    pub(super) fn read(storage: &dyn Storage) -> Self {
        let mut inventory = Self::default();
        inventory.walk(storage, "", 0);
        inventory
    }

    fn walk(&mut self, storage: &dyn Storage, folder: &str, depth: usize) {
        let mut unlisted = |reason| {
            self.unlisted
                .push(Left::new(path_of(storage, folder), reason))
        };
        if depth > MAX_DEPTH {
            unlisted("lies too deep to be searched".to_owned());
            return;
        }
        let entries = match storage.entries(folder) {
            Ok(entries) => entries,
            Err(error) => {
                unlisted(format!("cannot be listed: {error}"));
                return;
            }
        };
        for entry in entries {
            let name = match folder {
                "" => entry.name.clone(),
                folder => format!("{folder}/{}", entry.name),
            };
            if entry.kind == EntryKind::Folder {
                self.walk(storage, &name, depth + 1);
            } else if let Some(place) = place(storage, &entry, &name, folder) {
                self.items.push(Item {
                    place,
                    name,
                    bytes: entry.bytes,
                    kind: entry.kind,
                });
            }
        }
    }
}

/// The place that an entry belongs to; `None` for what holds nothing of a memory by itself.
fn place(storage: &dyn Storage, entry: &Entry, name: &str, folder: &str) -> Option<Place> {
    if folder == QUARANTINE || folder.starts_with("quarantine/") {
        return Some(Place::Quarantine);
    }
    if entry.kind != EntryKind::File {
        return Some(Place::Unknown);
    }
    let by_name = match Slot::from_file_name(&entry.name) {
        Some(Slot::Numbered(_)) => Some(Place::Generations),
        Some(Slot::Pinned(_)) => Some(Place::Pinned),
        None if JournalName::from_file_name(&entry.name).is_some() => Some(Place::Journals),
        None => record_log::log_of(&entry.name).map(|log| Place::Log(log.to_owned())),
    };
    if !folder.is_empty() {
        let is_ours = by_name.is_some() || is_of_a_memory(storage, name);
        return Some(if is_ours {
            Place::Copies
        } else {
            Place::Unknown
        });
    }
    match &*entry.name {
        LOCK | TOMBSTONE => None,
        FORGETTING => Some(Place::Generations),
        crate::schedule::FILE => Some(Place::Schedule),
        name if name.starts_with(TEMPORARY) => Some(Place::Temporary),
        name => by_name.or_else(|| {
            Some(match is_of_a_memory(storage, name) {
                true => Place::Copies,
                false => Place::Unknown,
            })
        }),
    }
}

/// Whether a file begins as generations, journals, logs and backups do.
fn is_of_a_memory(storage: &dyn Storage, name: &str) -> bool {
    let head = storage.read(name, HEAD_BYTES).unwrap_or_default();
    let is_backup = head.starts_with(b"oci-layout\0")
        && head
            .get(257..)
            .is_some_and(|rest| rest.starts_with(b"ustar"));
    head.starts_with(&MAGIC) || head.starts_with(&record_bytes::MAGIC) || is_backup
}
