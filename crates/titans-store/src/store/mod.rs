//! A folder of generations with one writer.

mod chain;
mod config;
#[cfg(feature = "backup")]
mod export;
mod files;
mod forget;
mod generation;
mod inventory;
mod journal;
mod lock;
mod names;
mod open;
mod pin;
mod pruning;
mod readers;
mod receipt;
mod record_bytes;
mod record_log;
mod recovery;
mod save;
mod saving;
mod summary;

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use self::chain::State;
pub use self::config::{DeltaCheck, NetworkFolders, SaveMode, StoreConfig};
#[cfg(feature = "backup")]
pub(crate) use self::export::{adopt_generation, export_generation};
use self::files::io_error;
pub use self::forget::{
    Erasure, ForgetReceipt, PlaceReport, forget, forget_on, is_forgotten, remove_backup_folder,
};
pub use self::generation::Generation;
use self::generation::{JournalName, Slot};
pub use self::inventory::{Inventory, Item, Left, Place};
use self::journal::{Appender, Journal};
use self::names::QUARANTINE;
pub use self::readers::{
    FileVerdict, MemoryReader, inspect_newest, read_newest, verify_dir, verify_dir_with,
};
pub use self::record_log::{LogContents, RecordLog};
pub use self::recovery::{Kept, Recovery, Skipped, TornTail};
pub use self::save::{Saved, SavedForm};
pub use self::summary::FolderSummary;
use crate::codec::delta::ImageDelta;
use crate::codec::encode::{Plan, check_shapes};
use crate::error::StoreError;
use crate::format::carried::Carried;
use crate::fs::{Meter, Spent, Storage};
use crate::image::{MemoryImage, ShardId, Stamp};
use crate::key::{Access, UserKey};

/// The one writer of a folder of generations.
///
/// Holding a store is holding the lock; dropping it, or dying, frees the lock. A process
/// that forks without `exec` passes the lock on to the child, so do not.
#[derive(Debug)]
pub struct MemoryStore {
    storage: Box<dyn Storage>,
    meter: Arc<Meter>,
    shard: ShardId,
    config: StoreConfig,
    key: Option<UserKey>,
    writer_epoch: u64,
    next_sequence: u64,
    parent: Option<(u64, [u8; 32])>,
    carried: Carried,
    unknown_ro_compat: u32,
    session: Option<Session>,
}

/// The base that this writer has written and the journal that follows it. There is none
/// before the first save: the records of an earlier writer may be lost with the power even
/// though they could be read, so nothing is built on them but a whole file.
#[derive(Debug)]
struct Session {
    base: Generation,
    base_bytes: u64,
    journal: Option<Appender>,
}

impl MemoryStore {
    /// Writes `image` as the next generation and returns once it is durable, then removes
    /// generations that are too old.
    ///
    /// Where [`StoreConfig::mode`] says to keep a journal, the generation before is read back
    /// to find out what changed; a caller that knows should call [`MemoryStore::save_delta`].
    ///
    /// # Errors
    /// On any error the generations before stay as they were. After
    /// [`StoreError::NotDurable`] the new file is in place but a power loss may undo it;
    /// the next save takes a new number. [`StoreError::Overtaken`] means that this store
    /// has lost its lock to another.
    pub fn save(&mut self, image: &MemoryImage) -> Result<Saved, StoreError> {
        self.check_writable(image)?;
        let image = &*self.config.precision.round(image)?;
        if self.session.is_some()
            && let Some(before) = self.newest_image()
            && let Some(delta) = ImageDelta::between(&before, image)
        {
            let changes = delta.changes(image)?;
            return self.append_or_base(image, changes, &|| Cow::Borrowed(image));
        }
        self.save_snapshot(image)
    }

    /// [`MemoryStore::save`] by a caller who knows what changed since the generation before.
    ///
    /// Where [`StoreConfig::mode`] says to keep a journal, only the changes are written, with
    /// one flush instead of two. Where it does not, and for the first save of this store, all
    /// of `image` is.
    ///
    /// # Errors
    /// As [`MemoryStore::save`], and [`StoreError::BadDelta`] when `delta` does not fit the
    /// image or, under [`DeltaCheck::Compare`], leaves out a change.
    pub fn save_delta(
        &mut self,
        image: &MemoryImage,
        delta: &ImageDelta,
    ) -> Result<Saved, StoreError> {
        check_shapes(image)?;
        self.save_told(image, delta, &|| Cow::Borrowed(image))
    }

    /// [`MemoryStore::save_delta`] by a caller who has the values that changed, and the whole
    /// image only at a price: on another device, say.
    ///
    /// The tensors of `outline` need not hold values; `delta` tells those that changed, each
    /// as [`Changed::Values`](crate::Changed::Values). `whole` is asked for all of the image
    /// where a file of its own is written: the first save of this store, and whenever a
    /// journal has become long. It must be the image that `outline` is of.
    ///
    /// # Errors
    /// As [`MemoryStore::save_delta`], and [`StoreError::BadDelta`] when a change comes
    /// without its values.
    pub fn save_changes<'a>(
        &mut self,
        outline: &MemoryImage,
        delta: &ImageDelta,
        whole: &dyn Fn() -> Cow<'a, MemoryImage>,
    ) -> Result<Saved, StoreError> {
        if let Some(without) = delta.without_values() {
            return Err(StoreError::BadDelta {
                tensor: without.name.clone(),
                reason: "the values are not told".to_owned(),
            });
        }
        self.save_told(outline, delta, whole)
    }

    /// Makes `generation` the newest again, as a new generation with its contents that says
    /// which one it left behind. Versions so never go back, for readers and for replay.
    ///
    /// `last_chunk_id` goes back with the contents: the caller replays those chunks, skips
    /// them or stops.
    ///
    /// # Errors
    /// As [`MemoryStore::load`] and [`MemoryStore::save`].
    pub fn roll_back_to(&mut self, generation: Generation) -> Result<Saved, StoreError> {
        let mut image = self.load(generation)?;
        image.rolled_back_from = self.parent.map(|(number, _)| number);
        self.check_writable(&image)?;
        let image = &*self.config.precision.round(&image)?;
        self.save_snapshot(image)
    }

    /// [`MemoryStore::roll_back_to`] the pinned generation.
    ///
    /// # Errors
    /// [`StoreError::NothingPinned`], and as [`MemoryStore::roll_back_to`].
    pub fn roll_back_to_last_known_good(&mut self) -> Result<Saved, StoreError> {
        let pinned = self.last_known_good()?;
        let pinned = pinned.ok_or_else(|| StoreError::NothingPinned {
            path: self.storage.path().to_owned(),
        })?;
        self.roll_back_to(pinned)
    }

    /// The generations that can be loaded, oldest first, with the pinned one.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn generations(&self) -> Result<Vec<Generation>, StoreError> {
        let names = files::list(&*self.storage, "")?;
        let slots = names.iter().filter_map(|name| Slot::from_file_name(name));
        let mut generations: Vec<_> = slots.map(Slot::generation).collect();
        for (_, records) in self.journals(&names) {
            generations.extend(records);
        }
        generations.sort_unstable();
        generations.dedup();
        Ok(generations)
    }

    /// Reads one generation.
    ///
    /// # Errors
    /// [`StoreError::NoSuchGeneration`], or what is wrong with the file.
    pub fn load(&self, generation: Generation) -> Result<MemoryImage, StoreError> {
        self.state_at(generation).map(|state| state.image)
    }

    /// Writes `image` as the next generation, a file of its own, and then removes all others,
    /// as [`MemoryStore::keep_only_newest`] does.
    ///
    /// # Errors
    /// As [`MemoryStore::save`] and [`MemoryStore::keep_only_newest`].
    pub fn save_as_only_generation(&mut self, image: &MemoryImage) -> Result<Saved, StoreError> {
        self.check_writable(image)?;
        let saved = self.save_snapshot(&*self.config.precision.round(image)?)?;
        self.keep_only_newest()?;
        Ok(saved)
    }

    /// Removes every generation but the newest, the pinned one, journals and quarantined
    /// files included: for a memory that must not keep what its older generations hold. Does
    /// nothing where the newest stands in a journal, which is worth nothing alone.
    ///
    /// # Errors
    /// What the operating system refuses to remove. Until this has succeeded, assume that
    /// the older generations are there.
    pub fn keep_only_newest(&mut self) -> Result<(), StoreError> {
        let storage = &*self.storage;
        let names = files::list(storage, "")?;
        let newest = self
            .parent
            .map(|(number, _)| Generation::new(number).file_name());
        let Some(newest) = newest.filter(|newest| names.contains(newest)) else {
            return Ok(());
        };
        for name in names {
            let is_newest = name == newest;
            let is_older = Slot::from_file_name(&name).is_some() && !is_newest;
            if is_older || JournalName::from_file_name(&name).is_some() {
                let removed = storage.remove(&name);
                removed.map_err(io_error(storage, "remove", &name))?;
            }
        }
        recovery::empty_quarantine(storage, 0, &mut []);
        // The quarantine first: the flush of the folder itself ends it.
        (storage.sync_names(QUARANTINE))
            .and_then(|()| storage.sync_folder())
            .map_err(|source| StoreError::NotDurable {
                path: storage.path().to_owned(),
                source,
            })
    }

    /// How many times the folder has been opened for writing, this time included, as far as
    /// its files tell.
    pub fn writer_epoch(&self) -> u64 {
        self.writer_epoch
    }

    /// What saving has cost since the store was opened.
    pub fn spent(&self) -> Spent {
        self.meter.spent()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.storage.path()
    }

    fn access(&self) -> Access<'_> {
        Access {
            limits: &self.config.limits,
            key: self.key.as_ref(),
        }
    }

    fn plan(&self) -> Plan<'_> {
        Plan {
            precision: self.config.precision,
            repeats: None,
            carried: Some(&self.carried),
            key: self.key.as_ref(),
        }
    }

    fn next_stamp(&self) -> Stamp {
        Stamp {
            sequence: self.next_sequence,
            writer_epoch: self.writer_epoch,
            parent: self.parent,
        }
    }

    fn state_at(&self, generation: Generation) -> Result<State, StoreError> {
        let folder = chain::survey(&*self.storage, self.shard, self.access())?;
        let state = folder.at(&*self.storage, generation, self.shard, self.access())?;
        state.ok_or_else(|| StoreError::NoSuchGeneration {
            generation,
            path: self.storage.path().to_owned(),
        })
    }

    /// The generation that the next one follows, read back. `None` when it cannot be: then
    /// a whole file is the way on.
    fn newest_image(&self) -> Option<MemoryImage> {
        let (number, _) = self.parent?;
        self.load(Generation::new(number)).ok()
    }

    fn check_writable(&self, image: &MemoryImage) -> Result<(), StoreError> {
        if self.unknown_ro_compat != 0 {
            return Err(StoreError::ReadOnly {
                path: self.storage.path().to_owned(),
                found: self.unknown_ro_compat,
            });
        }
        files::check_shard(self.shard, image.shard)
    }

    /// The journals among `names`, with the generations of their records.
    fn journals(&self, names: &[String]) -> Vec<(JournalName, Vec<Generation>)> {
        let journals = names
            .iter()
            .filter_map(|name| JournalName::from_file_name(name));
        let records = |name| {
            let journal = Journal::read(&*self.storage, name, None, &self.config.limits);
            let records = journal.map(|journal| journal.records).unwrap_or_default();
            (
                name,
                records.iter().map(|record| record.generation).collect(),
            )
        };
        journals.map(records).collect()
    }
}
