//! A folder of generations with one writer.

mod files;
mod generation;
mod pruning;
mod readers;
mod recovery;
mod save;

use std::path::Path;

use self::files::{io_error, path_of};
pub use self::generation::Generation;
use self::generation::Slot;
pub use self::readers::{FileVerdict, read_newest, verify_dir};
pub use self::recovery::{Kept, Recovery, Skipped};
pub use self::save::Saved;
use crate::error::StoreError;
use crate::format::limits::Limits;
use crate::fs::{DiskStorage, Storage};
use crate::image::{MemoryImage, ShardId, Stamp};

/// Name of the lock file. It is never removed: a removed and recreated one has two owners.
const LOCK: &str = "LOCK";

/// How a store behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// How many generations before the newest one stay. Default 3.
    pub keep_old: usize,
    /// What is accepted from a file.
    pub limits: Limits,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            keep_old: 3,
            limits: Limits::default(),
        }
    }
}

/// The one writer of a folder of generations.
///
/// Holding a store is holding the lock; dropping it, or dying, frees the lock. A process
/// that forks without `exec` passes the lock on to the child, so do not.
#[derive(Debug)]
pub struct MemoryStore {
    storage: Box<dyn Storage>,
    shard: ShardId,
    config: StoreConfig,
    writer_epoch: u64,
    next_sequence: u64,
    parent: Option<(u64, [u8; 32])>,
    unknown_ro_compat: u32,
}

impl MemoryStore {
    /// Opens a folder for writing, creating it for the owner only, and recovers the newest
    /// generation that verifies.
    ///
    /// Leftovers of interrupted saves are removed. Damaged files move to `quarantine`, which
    /// keeps two of them, and are listed in [`Recovery::skipped`].
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another store is open on the folder,
    /// [`StoreError::WrongShard`] when a file has another owner, [`StoreError::UnknownMajor`]
    /// or [`StoreError::UnknownFeature`] when one is too new, and what the operating system
    /// refuses. No error leaves anything moved or removed but leftovers and damaged files.
    pub fn open(
        dir: &Path,
        shard: ShardId,
        config: StoreConfig,
    ) -> Result<(Self, Recovery), StoreError> {
        let refused = |source| StoreError::Io {
            action: "open",
            path: dir.to_owned(),
            source,
        };
        let storage = DiskStorage::create(dir).map_err(refused)?;
        let mode = storage.mode().map_err(refused)?;
        if mode & 0o022 != 0 {
            return Err(StoreError::OpenToOthers {
                path: dir.to_owned(),
                mode,
            });
        }
        Self::open_on(Box::new(storage), shard, config)
    }

    /// [`MemoryStore::open`] on any storage.
    ///
    /// # Errors
    /// As [`MemoryStore::open`].
    pub fn open_on(
        mut storage: Box<dyn Storage>,
        shard: ShardId,
        config: StoreConfig,
    ) -> Result<(Self, Recovery), StoreError> {
        let locked = storage.try_lock(LOCK);
        if !locked.map_err(io_error(&*storage, "lock", LOCK))? {
            return Err(StoreError::Locked {
                path: path_of(&*storage, LOCK),
            });
        }
        recovery::sweep_temporary(&*storage)?;
        let found = recovery::recover(&*storage, shard, &config.limits)?;
        let mut store = Self {
            storage,
            shard,
            config,
            writer_epoch: found.highest_epoch.saturating_add(1),
            next_sequence: found.highest_sequence.saturating_add(1),
            parent: None,
            unknown_ro_compat: 0,
        };
        let mut recovery = Recovery {
            skipped: found.skipped,
            ..Recovery::default()
        };
        if let Some(newest) = found.newest {
            store.parent = Some((newest.stamp.sequence, newest.digest));
            store.unknown_ro_compat = newest.unknown_ro_compat;
            recovery.generation = Some(Generation::new(newest.stamp.sequence));
            recovery.image = Some(newest.image);
        }
        Ok((store, recovery))
    }

    /// Writes `image` as the next generation and returns once it is durable, then removes
    /// generations that are too old.
    ///
    /// # Errors
    /// On any error the generations before stay as they were. After
    /// [`StoreError::NotDurable`] the new file is in place but a power loss may undo it;
    /// the next save takes a new number. [`StoreError::Overtaken`] means that this store
    /// has lost its lock to another.
    pub fn save(&mut self, image: &MemoryImage) -> Result<Saved, StoreError> {
        self.check_writable(image)?;
        let generation = Generation::new(self.next_sequence);
        let stamp = Stamp {
            sequence: generation.number(),
            writer_epoch: self.writer_epoch,
            parent: self.parent,
        };
        let (bytes, digest) = save::encode_checked(image, &stamp, &self.config.limits)?;
        self.check_not_overtaken(generation)?;

        let storage = &*self.storage;
        let temporary = save::write_temporary(storage, generation, &bytes, || self.make_room())?;
        // Whatever becomes of the name, it is spent: after a failed flush of the folder
        // nobody knows whether it survives.
        self.next_sequence = self.next_sequence.saturating_add(1);
        let path = save::publish(storage, &temporary, generation)?;

        self.parent = Some((generation.number(), digest));
        self.prune();
        Ok(Saved {
            generation,
            file_bytes: bytes.len() as u64,
            path,
        })
    }

    /// The generations that can be loaded, oldest first, with the pinned one.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn generations(&self) -> Result<Vec<Generation>, StoreError> {
        let slots = files::slots(&*self.storage, "")?;
        let mut generations: Vec<_> = slots.into_iter().map(Slot::generation).collect();
        generations.sort_unstable();
        generations.dedup();
        Ok(generations)
    }

    /// Reads one generation.
    ///
    /// # Errors
    /// [`StoreError::NoSuchGeneration`], or what is wrong with the file.
    pub fn load(&self, generation: Generation) -> Result<MemoryImage, StoreError> {
        for slot in [Slot::Numbered(generation), Slot::Pinned(generation)] {
            let limits = &self.config.limits;
            match files::read(&*self.storage, slot, Some(self.shard), limits) {
                Err(error) if error.is_not_found() => {}
                outcome => return outcome.map(|decoded| decoded.image),
            }
        }
        Err(StoreError::NoSuchGeneration {
            generation,
            path: self.storage.path().to_owned(),
        })
    }

    /// Pins a generation that is known to be good, so that no pruning removes it, and lets go
    /// of the one pinned before. It is read first: a damaged file is worth no pin.
    ///
    /// The pin is a second name of the same file and costs no copy. Opening tries it last.
    ///
    /// # Errors
    /// [`StoreError::NoSuchGeneration`], what is wrong with the file, or what the operating
    /// system refuses. On any error the earlier pin stays.
    pub fn pin_last_known_good(&mut self, generation: Generation) -> Result<(), StoreError> {
        self.load(generation)?;
        let storage = &*self.storage;
        let (from, pin) = (generation.file_name(), Slot::Pinned(generation));
        match storage.link(&from, &pin.file_name()) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            // The generation is pinned already and its numbered file is pruned.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            linked => linked.map_err(io_error(storage, "pin", &from))?,
        }
        storage
            .sync_folder()
            .map_err(|source| StoreError::NotDurable {
                path: path_of(storage, &pin.file_name()),
                source,
            })?;
        for slot in files::slots(storage, "")? {
            if matches!(slot, Slot::Pinned(_)) && slot != pin {
                let name = slot.file_name();
                storage
                    .remove(&name)
                    .map_err(io_error(storage, "remove", &name))?;
            }
        }
        Ok(())
    }

    /// The pinned generation, if there is one.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn last_known_good(&self) -> Result<Option<Generation>, StoreError> {
        let slots = files::slots(&*self.storage, "")?;
        let pinned = slots
            .into_iter()
            .filter(|slot| matches!(slot, Slot::Pinned(_)));
        Ok(pinned.map(Slot::generation).max())
    }

    /// How many times the folder has been opened for writing, this time included, as far as
    /// its files tell.
    pub fn writer_epoch(&self) -> u64 {
        self.writer_epoch
    }

    fn check_writable(&self, image: &MemoryImage) -> Result<(), StoreError> {
        if self.unknown_ro_compat != 0 {
            return Err(StoreError::ReadOnly {
                path: self.storage.path().to_owned(),
                found: self.unknown_ro_compat,
            });
        }
        if image.shard != self.shard {
            return Err(StoreError::WrongShard {
                expected: self.shard,
                found: image.shard,
            });
        }
        Ok(())
    }

    /// A lock can be lost on a network file system. A number that this store has not given
    /// out is the proof.
    fn check_not_overtaken(&self, expected: Generation) -> Result<(), StoreError> {
        match self.generations()?.last() {
            Some(&found) if found >= expected => Err(StoreError::Overtaken { expected, found }),
            _ => Ok(()),
        }
    }

    /// Removes old generations. Failures wait for the next save: the new file is durable,
    /// and a save that succeeded must not report otherwise.
    fn prune(&self) {
        let storage = &*self.storage;
        let numbered = |slot| match slot {
            Slot::Numbered(generation) => Some(generation),
            Slot::Pinned(_) => None,
        };
        let slots = files::slots(storage, "").unwrap_or_default();
        let generations: Vec<_> = slots.into_iter().filter_map(numbered).collect();
        for generation in pruning::expired(&generations, self.config.keep_old) {
            let _ = storage.remove(&generation.file_name());
        }
    }

    /// What can go when the disk is full.
    fn make_room(&self) {
        self.prune();
        recovery::empty_quarantine(&*self.storage, 0, &mut []);
    }
}
