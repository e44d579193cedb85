//! The pinned generation: the last one known to be good.

use std::io;

use super::chain::State;
use super::files::{self, io_error, path_of};
use super::generation::{Generation, Slot};
use super::{MemoryStore, save};
use crate::codec::encode::Plan;
use crate::error::StoreError;
use crate::image::Stamp;

impl MemoryStore {
    /// Pins a generation that is known to be good, so that no pruning removes it, and lets go
    /// of the one pinned before. It is read first: a damaged file is worth no pin.
    ///
    /// The pin is a second name of the same file and costs no copy, unless the generation
    /// stands in a journal or the file system has no hard links. Opening tries it last.
    ///
    /// # Errors
    /// [`StoreError::NoSuchGeneration`], what is wrong with the file, or what the operating
    /// system refuses. On any error the earlier pin stays.
    pub fn pin_last_known_good(&mut self, generation: Generation) -> Result<(), StoreError> {
        let state = self.state_at(generation)?;
        let storage = &*self.storage;
        let (from, pin) = (generation.file_name(), Slot::Pinned(generation));
        match storage.link(&from, &pin.file_name()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if is_without_links(&error) => self.copy_pin(generation)?,
            // The generation stands in a journal, or is pinned already and its numbered file
            // is pruned.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
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

    /// Copies the file of a generation to the name of a pin, where a file can have one name
    /// only.
    fn copy_pin(&self, generation: Generation) -> Result<(), StoreError> {
        let (storage, pin) = (&*self.storage, Slot::Pinned(generation));
        if files::slots(storage, "")?.contains(&pin) {
            return Ok(());
        }
        let numbered = Slot::Numbered(generation);
        let (_, bytes) = files::read_whole(storage, numbered, Some(self.shard), self.access())?;
        let temporary = save::write_temporary(storage, generation, &bytes, || self.make_room())?;
        save::publish(storage, &temporary, &pin.file_name(), generation).map(drop)
    }
}

/// Whether a file system has no hard links, or no more of them for this file.
fn is_without_links(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::TooManyLinks
            | io::ErrorKind::InvalidInput
    )
}
