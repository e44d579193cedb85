//! How a save is carried out: a whole file, or a record in a journal.

use std::borrow::Cow;

use super::files::{self, path_of};
use super::generation::{Generation, JournalName, Slot};
use super::journal::Appender;
use super::pruning::Holdings;
use super::{DeltaCheck, MemoryStore, Saved, SavedForm, Session, config, recovery, save};
use crate::codec::delta::{self, ImageDelta};
use crate::codec::encode::Plan;
use crate::codec::tensor::Sparse;
use crate::error::StoreError;
use crate::image::{MemoryImage, Stamp};

impl MemoryStore {
    pub(super) fn save_told<'a>(
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

    /// Writes a whole file as the next generation.
    pub(super) fn save_snapshot(&mut self, image: &MemoryImage) -> Result<Saved, StoreError> {
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
    pub(super) fn append_or_base<'a>(
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
    pub(super) fn make_room(&self) {
        self.prune();
        recovery::empty_quarantine(&*self.storage, 0, &mut []);
    }
}
