//! One generation out of a folder as a file by itself, and into a folder that holds none.

use std::path::Path;

use super::chain::survey;
use super::files;
use super::generation::{Generation, JournalName, Slot};
use super::lock::lock;
use super::open::open_folder;
use super::readers::{newest_beside_writer, open_error};
use super::{NetworkFolders, forget, save};
use crate::codec::encode::Plan;
use crate::error::StoreError;
use crate::fs::{DiskStorage, FolderMode, Storage};
use crate::image::{ShardId, Stamp};
use crate::key::Access;

/// A generation as a whole file.
pub(crate) struct Exported {
    pub(crate) generation: Generation,
    pub(crate) bytes: Vec<u8>,
    pub(crate) model_digest: Option<[u8; 32]>,
}

/// The bytes of one generation, the newest if none is named: the file itself where there is
/// one, written anew where it stands in a journal. Takes no lock.
pub(crate) fn export_generation(
    dir: &Path,
    shard: ShardId,
    generation: Option<Generation>,
    access: Access<'_>,
) -> Result<Exported, StoreError> {
    let storage = DiskStorage::open(dir).map_err(|source| open_error(dir, source))?;
    let state = match generation {
        None => newest_beside_writer(&storage, shard, access)?,
        Some(generation) => {
            survey(&storage, shard, access)?.at(&storage, generation, shard, access)?
        }
    };
    let state = state.ok_or_else(|| StoreError::NoSuchGeneration {
        generation: generation.unwrap_or(Generation::new(0)),
        path: dir.to_owned(),
    })?;
    let model_digest = state.image.model_digest;
    let generation = state.generation;
    for slot in [Slot::Numbered(generation), Slot::Pinned(generation)] {
        // Checked again, since the file may be another than the one the state came from, or be
        // gone: a writer beside this one makes room.
        if let Ok((decoded, bytes)) = files::read_whole(&storage, slot, Some(shard), access)
            && decoded.identity == state.identity
        {
            return Ok(Exported {
                generation,
                bytes,
                model_digest,
            });
        }
    }
    let plan = Plan {
        precision: state.precision,
        repeats: Some(state.identity),
        carried: Some(&state.carried),
        key: access.key,
    };
    let stamp = Stamp {
        sequence: generation.number(),
        writer_epoch: state.writer_epoch,
        parent: None,
    };
    let (bytes, _) = save::encode_checked(&plan, &state.image, &stamp, access)?;
    Ok(Exported {
        generation,
        bytes,
        model_digest,
    })
}

/// Makes `bytes`, which the caller has verified, the only generation of `dir`, after `before`
/// has succeeded. The lock is held throughout.
pub(crate) fn adopt_generation(
    dir: &Path,
    folders: FolderMode,
    (shard, number): (ShardId, u64),
    bytes: &[u8],
    before: impl FnOnce() -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut storage = open_folder(dir, NetworkFolders::Refuse, folders)?;
    lock(&mut storage)?;
    forget::refuse_forgotten(&storage, shard)?;
    let is_ours = |name: &String| {
        Slot::from_file_name(name).is_some() || JournalName::from_file_name(name).is_some()
    };
    if files::list(&storage, "")?.iter().any(is_ours) {
        return Err(StoreError::NotEmpty {
            path: storage.path().to_owned(),
        });
    }
    super::recovery::sweep_temporary(&storage)?;
    before()?;
    let storage: &dyn Storage = &storage;
    let generation = Generation::new(number);
    let temporary = save::write_temporary(storage, generation, bytes, || {})?;
    save::publish(storage, &temporary, &generation.file_name(), generation).map(drop)
}
