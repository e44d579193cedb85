//! What the folder of a memory holds, without reading a memory.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use super::forget::is_forgotten;
use super::inventory::{Inventory, Item, Left, Place};
use crate::error::StoreError;

/// What the folder of a memory holds, as far as the names of its files tell: cheap enough for a
/// list of a hundred thousand. Whether what is in the files is whole, [`verify_dir`] finds out.
///
/// [`verify_dir`]: crate::verify_dir
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FolderSummary {
    /// Whole generations, the pinned one and journals.
    pub generations: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// When something was saved last, by the time of the newest file.
    pub last_saved: Option<SystemTime>,
    /// Whether the memory was forgotten.
    pub is_forgotten: bool,
    /// What is known to be damaged: files that were put into quarantine when the memory was
    /// opened, and folders that cannot be listed.
    pub damaged: Vec<Left>,
}

impl FolderSummary {
    /// Looks at the folder of a memory. Takes no lock and changes nothing.
    ///
    /// # Errors
    /// When the folder cannot be opened or listed.
    pub fn of(dir: &Path) -> Result<Self, StoreError> {
        let is_forgotten = is_forgotten(dir)?;
        let inventory = Inventory::of(dir)?;
        let items = || inventory.items.iter();
        let generations = || items().filter(|item| is_generation(item));
        let saved = |item: &Item| {
            let metadata = fs::metadata(dir.join(&item.name)).ok()?;
            metadata.modified().ok()
        };
        let in_quarantine = items().filter(|item| item.place == Place::Quarantine);
        let set_aside = |item: &Item| {
            let path = dir.join(&item.name);
            Left::new(path, "was damaged and set aside when the memory was opened")
        };
        let mut damaged: Vec<_> = in_quarantine.map(set_aside).collect();
        let (generations, last_saved) =
            (generations().count(), generations().filter_map(saved).max());
        let bytes = items().map(|item| item.bytes).sum();
        damaged.extend(inventory.unlisted);
        Ok(Self {
            generations,
            bytes,
            last_saved,
            is_forgotten,
            damaged,
        })
    }

    /// Whether there is a memory, whole or not, that was not forgotten.
    pub fn holds_a_memory(&self) -> bool {
        !self.is_forgotten && (self.generations > 0 || !self.damaged.is_empty())
    }
}

fn is_generation(item: &Item) -> bool {
    matches!(
        item.place,
        Place::Generations | Place::Pinned | Place::Journals
    )
}
