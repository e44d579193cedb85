//! A folder of generations with one writer.

mod chain;
mod config;
#[cfg(feature = "backup")]
mod export;
mod files;
mod forget;
mod generation;
mod journal;
mod pruning;
mod readers;
mod record_log;
mod recovery;
mod save;

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use self::chain::State;
pub use self::config::{DeltaCheck, NetworkFolders, SaveMode, StoreConfig};
#[cfg(feature = "backup")]
pub(crate) use self::export::{adopt_generation, export_generation};
use self::files::{io_error, path_of};
pub use self::forget::{Erasure, ForgetReceipt, forget};
pub use self::generation::Generation;
use self::generation::{JournalName, Slot};
use self::journal::{Appender, Journal};
use self::pruning::Holdings;
pub use self::readers::{FileVerdict, MemoryReader, read_newest, verify_dir, verify_dir_with};
pub use self::record_log::{LogContents, RecordLog};
pub use self::recovery::{Kept, Recovery, Skipped, TornTail};
pub use self::save::{Saved, SavedForm};
use crate::codec::delta::{self, ImageDelta};
use crate::codec::encode::{Plan, check_shapes};
use crate::codec::tensor::Sparse;
use crate::error::StoreError;
use crate::format::carried::Carried;
use crate::fs::{DiskStorage, Meter, Metered, Spent, Storage};
use crate::image::{MemoryImage, ShardId, Stamp};
use crate::key::{Access, UserKey};

/// Name of the lock file. It is never removed: a removed and recreated one has two owners.
pub(crate) const LOCK: &str = "LOCK";

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
    /// Opens a folder for writing, creating it for the owner only, and recovers the newest
    /// generation that verifies.
    ///
    /// Leftovers of interrupted saves are removed. Damaged files move to `quarantine`, which
    /// keeps two of them, and are listed in [`Recovery::skipped`].
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another store is open on the folder,
    /// [`StoreError::WrongShard`] when a file has another owner, [`StoreError::UnknownMajor`]
    /// or [`StoreError::UnknownFeature`] when one is too new, [`StoreError::Forgotten`], and
    /// what the operating system refuses. No error leaves anything moved or removed but
    /// leftovers and damaged files.
    pub fn open(
        dir: &Path,
        shard: ShardId,
        config: StoreConfig,
    ) -> Result<(Self, Recovery), StoreError> {
        Self::open_on(Box::new(open_folder(dir, config.network)?), shard, config)
    }

    /// [`MemoryStore::open`] for a memory that is encrypted with the key of its owner.
    ///
    /// # Errors
    /// As [`MemoryStore::open`], [`StoreError::WrongKey`], and [`StoreError::NotEncrypted`]
    /// when the folder holds files that are not.
    pub fn open_encrypted(
        dir: &Path,
        shard: ShardId,
        config: StoreConfig,
        key: UserKey,
    ) -> Result<(Self, Recovery), StoreError> {
        let storage = Box::new(open_folder(dir, config.network)?);
        Self::open_with(storage, shard, config, Some(key))
    }

    /// [`MemoryStore::open`] on any storage.
    ///
    /// # Errors
    /// As [`MemoryStore::open`].
    pub fn open_on(
        storage: Box<dyn Storage>,
        shard: ShardId,
        config: StoreConfig,
    ) -> Result<(Self, Recovery), StoreError> {
        Self::open_with(storage, shard, config, None)
    }

    fn open_with(
        storage: Box<dyn Storage>,
        shard: ShardId,
        config: StoreConfig,
        key: Option<UserKey>,
    ) -> Result<(Self, Recovery), StoreError> {
        let meter = Arc::default();
        let mut storage: Box<dyn Storage> = Box::new(Metered::new(storage, &meter));
        lock(&mut *storage)?;
        forget::refuse_forgotten(&*storage)?;
        recovery::sweep_temporary(&*storage)?;
        let access = Access {
            limits: &config.limits,
            key: key.as_ref(),
        };
        let found = recovery::recover(&*storage, shard, access)?;
        let mut store = Self {
            storage,
            meter,
            shard,
            config,
            key,
            writer_epoch: found.highest_epoch.saturating_add(1),
            next_sequence: found.highest_sequence.saturating_add(1),
            parent: None,
            carried: Carried::default(),
            unknown_ro_compat: 0,
            session: None,
        };
        let mut recovery = Recovery {
            skipped: found.skipped,
            torn: found.torn,
            ..Recovery::default()
        };
        if let Some(newest) = found.newest {
            store.parent = Some((newest.generation.number(), newest.identity));
            store.unknown_ro_compat = newest.unknown_ro_compat;
            store.carried = newest.carried;
            recovery.generation = Some(newest.generation);
            recovery.image = Some(newest.image);
        }
        Ok((store, recovery))
    }

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

    fn save_told<'a>(
        &mut self,
        outline: &MemoryImage,
        delta: &ImageDelta,
        whole: &dyn Fn() -> Cow<'a, MemoryImage>,
    ) -> Result<Saved, StoreError> {
        self.check_writable(outline)?;
        let changes = delta.changes(outline)?;
        if self.session.is_none() {
            return self.save_snapshot(&*self.config.precision.round(&whole())?);
        }
        if self.config.delta_check == DeltaCheck::Compare {
            self.check_complete(&whole(), &changes)?;
        }
        self.append_or_base(outline, changes, whole)
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

    /// Pins a generation that is known to be good, so that no pruning removes it, and lets go
    /// of the one pinned before. It is read first: a damaged file is worth no pin.
    ///
    /// The pin is a second name of the same file and costs no copy, unless the generation
    /// stands in a journal. Opening tries it last.
    ///
    /// # Errors
    /// [`StoreError::NoSuchGeneration`], what is wrong with the file, or what the operating
    /// system refuses. On any error the earlier pin stays.
    pub fn pin_last_known_good(&mut self, generation: Generation) -> Result<(), StoreError> {
        let state = self.state_at(generation)?;
        let storage = &*self.storage;
        let (from, pin) = (generation.file_name(), Slot::Pinned(generation));
        match storage.link(&from, &pin.file_name()) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            // The generation stands in a journal, or is pinned already and its numbered file
            // is pruned.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if !files::slots(storage, "")?.contains(&pin) {
                    self.write_pin(state)?;
                }
            }
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
        storage
            .sync_folder()
            .map_err(|source| StoreError::NotDurable {
                path: storage.path().to_owned(),
                source,
            })
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

    /// Writes a whole file as the next generation.
    fn save_snapshot(&mut self, image: &MemoryImage) -> Result<Saved, StoreError> {
        let generation = Generation::new(self.next_sequence);
        let stamp = self.next_stamp();
        let bytes = self.meter.encode(|| self.plan().full(image, &stamp))?;
        self.check_not_overtaken(generation)?;
        // What went before is sealed, whatever becomes of this file.
        self.session = None;

        let storage = &*self.storage;
        let access = self.access();
        let (temporary, digest) =
            save::write_and_read_back(storage, &bytes, image, &stamp, access, || self.make_room())?;
        // Whatever becomes of the name, it is spent: after a failed flush of the folder
        // nobody knows whether it survives.
        self.next_sequence = self.next_sequence.saturating_add(1);
        let path = save::publish(storage, &temporary, &generation.file_name(), generation)?;

        self.parent = Some((generation.number(), digest));
        let base_bytes = bytes.len() as u64;
        self.begin_session(generation, base_bytes);
        self.prune();
        Ok(Saved {
            generation,
            file_bytes: base_bytes,
            path,
            form: SavedForm::Snapshot,
        })
    }

    fn begin_session(&mut self, base: Generation, base_bytes: u64) {
        let journals = self.config.mode.journals_after(base_bytes);
        self.session = journals.then_some(Session {
            base,
            base_bytes,
            journal: None,
        });
    }

    /// Appends a record, or gives the journal up and writes a whole file instead.
    fn append_or_base<'a>(
        &mut self,
        outline: &MemoryImage,
        changes: Vec<Sparse>,
        whole: &dyn Fn() -> Cow<'a, MemoryImage>,
    ) -> Result<Saved, StoreError> {
        let generation = Generation::new(self.next_sequence);
        let stamp = self.next_stamp();
        let encode = || self.plan().delta(outline, &stamp, changes);
        let (bytes, rounded) = self.meter.encode(encode)?;
        let digest = delta::check_against(&bytes, &rounded, self.access())?;
        self.check_not_overtaken(generation)?;
        // The number is spent: after a failed flush nobody knows whether the record survives.
        self.next_sequence = self.next_sequence.saturating_add(1);
        let appended = self.append(generation, outline.last_chunk_id, &bytes);
        let Ok((file_bytes, name)) = appended else {
            // Never again into a file whose flush failed. The whole image can be had, and a
            // new file is the one retry that is safe.
            return self.save_snapshot(&*self.config.precision.round(&whole())?);
        };
        self.parent = Some((generation.number(), digest));
        let mut saved = Saved {
            generation,
            file_bytes,
            path: path_of(&*self.storage, &name),
            form: SavedForm::Record,
        };
        if self.is_rebase_due() && self.rebase(&whole(), &stamp, digest).is_ok() {
            saved.form = SavedForm::RecordAndBase;
        }
        Ok(saved)
    }

    fn append(
        &mut self,
        generation: Generation,
        last_chunk_id: u64,
        payload: &[u8],
    ) -> std::io::Result<(u64, String)> {
        let mut session = self
            .session
            .take()
            .ok_or_else(|| std::io::Error::other("there is no base"))?;
        let is_new = session.journal.is_none();
        let mut journal = match session.journal.take() {
            Some(journal) => journal,
            None => {
                let name = JournalName {
                    base: session.base,
                    epoch: self.writer_epoch,
                };
                let identity = self.parent.map_or([0; 32], |(_, identity)| identity);
                Appender::create(&*self.storage, name, self.shard, &identity)?
            }
        };
        let written = journal.append(generation, last_chunk_id, payload)?;
        if is_new {
            self.storage.sync_folder()?;
        }
        let name = journal.file_name.clone();
        session.journal = Some(journal);
        self.session = Some(session);
        Ok((written, name))
    }

    fn is_rebase_due(&self) -> bool {
        let due = |session: &Session| {
            let journal = session.journal.as_ref()?;
            let is_long = journal.bytes >= session.base_bytes;
            Some(is_long || journal.records >= config::MAX_RECORDS)
        };
        self.session.as_ref().and_then(due).unwrap_or(false)
    }

    /// Writes the generation that was just appended once more, as a whole file from which the
    /// next journal starts. Failing costs nothing: the record is durable, and the old journal
    /// goes on.
    fn rebase(
        &mut self,
        image: &MemoryImage,
        stamp: &Stamp,
        record: [u8; 32],
    ) -> Result<(), StoreError> {
        let image = &*self.config.precision.round(image)?;
        let generation = Generation::new(stamp.sequence);
        let plan = Plan {
            repeats: Some(record),
            ..self.plan()
        };
        let bytes = self.meter.encode(|| plan.full(image, stamp))?;
        save::read_back(&bytes, image, stamp, self.access())?;
        let storage = &*self.storage;
        let temporary = save::write_temporary(storage, generation, &bytes, || self.make_room())?;
        save::publish(storage, &temporary, &generation.file_name(), generation)?;
        self.begin_session(generation, bytes.len() as u64);
        self.prune();
        Ok(())
    }

    /// Writes a generation that has no file of its own under the name of a pin.
    fn write_pin(&self, state: State) -> Result<(), StoreError> {
        let generation = state.generation;
        let plan = Plan {
            precision: state.precision,
            repeats: Some(state.identity),
            carried: Some(&state.carried),
            key: self.key.as_ref(),
        };
        let stamp = Stamp {
            sequence: generation.number(),
            writer_epoch: state.writer_epoch,
            parent: None,
        };
        let (bytes, _) = save::encode_checked(&plan, &state.image, &stamp, self.access())?;
        let storage = &*self.storage;
        let temporary = save::write_temporary(storage, generation, &bytes, || self.make_room())?;
        let name = Slot::Pinned(generation).file_name();
        save::publish(storage, &temporary, &name, generation).map(drop)
    }

    fn check_complete(&self, image: &MemoryImage, changes: &[Sparse]) -> Result<(), StoreError> {
        for (tensor, told) in image.tensors.iter().zip(changes) {
            let pairs = told.coordinates.iter().flatten().zip(&told.values);
            let is_other = |&(&at, value): &(&u32, &f32)| {
                let there = tensor.values.get(at as usize);
                there.map(|there| there.to_bits()) != Some(value.to_bits())
            };
            if let Some((at, _)) = pairs.clone().find(is_other) {
                return Err(StoreError::BadDelta {
                    tensor: tensor.name.clone(),
                    reason: format!("coordinate {at} is told another value than it has"),
                });
            }
        }
        let Some(before) = self.newest_image() else {
            return Ok(());
        };
        let rounded = &*self.config.precision.round(image)?;
        let Some(all) = ImageDelta::between(&before, rounded) else {
            return Ok(());
        };
        for (index, needed) in all.coordinates(rounded)?.iter().enumerate() {
            let told = changes
                .get(index)
                .and_then(|told| told.coordinates.as_ref());
            let missing = |at: &&u32| told.is_some_and(|told| told.binary_search(at).is_err());
            if let Some(at) = needed.iter().flatten().find(missing) {
                return Err(StoreError::BadDelta {
                    tensor: image
                        .tensors
                        .get(index)
                        .map_or_else(String::new, |t| t.name.clone()),
                    reason: format!("coordinate {at} changed and is left out"),
                });
            }
        }
        Ok(())
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

    /// A lock can be lost on a network file system. A number that this store has not given
    /// out, or a journal of a later epoch, is the proof.
    fn check_not_overtaken(&self, expected: Generation) -> Result<(), StoreError> {
        let names = files::list(&*self.storage, "")?;
        let newer = |name: &String| match Slot::from_file_name(name) {
            Some(slot) => Some(slot.generation()).filter(|&found| found >= expected),
            None => {
                let journal = JournalName::from_file_name(name)?;
                let is_later = journal.epoch > self.writer_epoch || journal.base >= expected;
                is_later.then_some(journal.base)
            }
        };
        match names.iter().filter_map(newer).max() {
            Some(found) => Err(StoreError::Overtaken { expected, found }),
            None => Ok(()),
        }
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

    /// Removes old generations. Failures wait for the next save: the new file is durable,
    /// and a save that succeeded must not report otherwise.
    fn prune(&self) {
        let storage = &*self.storage;
        let names = files::list(storage, "").unwrap_or_default();
        let numbered = |name: &String| match Slot::from_file_name(name) {
            Some(Slot::Numbered(generation)) => Some(generation),
            _ => None,
        };
        let holdings = Holdings {
            bases: names.iter().filter_map(numbered).collect(),
            journals: self.journals(&names),
        };
        let expired = holdings.expired(self.config.keep_old);
        // Journals first: one without its base is reported as damage, a base is whole alone.
        for journal in expired.journals {
            let _ = storage.remove(&journal.file_name());
        }
        // The oldest first, so that a reader whose listing is old finds the newest of it.
        for generation in expired.bases.into_iter().rev() {
            let _ = storage.remove(&generation.file_name());
        }
    }

    /// What can go when the disk is full.
    fn make_room(&self) {
        self.prune();
        recovery::empty_quarantine(&*self.storage, 0, &mut []);
    }
}

fn open_folder(dir: &Path, network: NetworkFolders) -> Result<DiskStorage, StoreError> {
    let refused = |source| readers::open_error(dir, source);
    let storage = DiskStorage::create(dir).map_err(refused)?;
    let mode = storage.mode().map_err(refused)?;
    if mode & 0o022 != 0 {
        return Err(StoreError::OpenToOthers {
            path: dir.to_owned(),
            mode,
        });
    }
    if network == NetworkFolders::Refuse
        && let Some(kind) = storage.network_file_system().map_err(refused)?
    {
        return Err(StoreError::NetworkFolder {
            path: dir.to_owned(),
            kind,
        });
    }
    Ok(storage)
}

fn lock(storage: &mut dyn Storage) -> Result<(), StoreError> {
    let locked = storage.try_lock(LOCK);
    match locked.map_err(io_error(storage, "lock", LOCK))? {
        true => Ok(()),
        false => Err(StoreError::Locked {
            path: path_of(storage, LOCK),
        }),
    }
}
