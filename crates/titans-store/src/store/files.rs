//! Reading generations by name: what both the writer and lock-free readers need.

use std::path::PathBuf;

use super::generation::{Generation, Slot};
use crate::codec::decode::{Decoded, decode_all};
use crate::error::StoreError;
use crate::format::layout::PREAMBLE_LEN;
use crate::format::limits::{Limits, at_most};
use crate::format::preamble::{Kind, Preamble};
use crate::fs::Storage;
use crate::image::ShardId;
use crate::key::Access;

/// A file of the folder with what its first bytes say.
pub(super) struct Candidate {
    pub(super) slot: Slot,
    /// `Err` when the preamble is damaged, `Ok(epoch)` otherwise.
    epoch: Result<u64, StoreError>,
}

impl Candidate {
    pub(super) fn epoch(&self) -> Option<u64> {
        self.epoch.as_ref().ok().copied()
    }
}

/// The path of `name`, for messages.
pub(super) fn path_of(storage: &dyn Storage, name: &str) -> PathBuf {
    storage.path().join(name)
}

/// Wraps an error of the operating system.
pub(super) fn io_error(
    storage: &dyn Storage,
    action: &'static str,
    name: &str,
) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path_of(storage, name);
    move |source| StoreError::Io {
        action,
        path,
        source,
    }
}

/// The names in the folder itself, or in its sub-folder.
pub(super) fn list(storage: &dyn Storage, folder: &str) -> Result<Vec<String>, StoreError> {
    storage
        .list(folder)
        .map_err(io_error(storage, "list", folder))
}

/// The generations in the folder itself, or in its sub-folder.
pub(super) fn slots(storage: &dyn Storage, folder: &str) -> Result<Vec<Slot>, StoreError> {
    Ok(list(storage, folder)?
        .iter()
        .filter_map(|name| Slot::from_file_name(name))
        .collect())
}

/// The files of `slots` with what their first bytes say.
///
/// # Errors
/// When a file belongs to another shard, is too new for this build, or cannot be read for a
/// reason that does not lie in the file. A file that vanished is left out and told.
pub(super) fn candidates(
    storage: &dyn Storage,
    shard: ShardId,
    slots: &[Slot],
    vanished: &mut Option<StoreError>,
) -> Result<Vec<Candidate>, StoreError> {
    let mut candidates = Vec::with_capacity(slots.len());
    for &slot in slots {
        let epoch = read_preamble(storage, slot).and_then(|preamble| {
            preamble.expect_kind(Kind::Full)?;
            check_shard(shard, preamble.shard)?;
            Ok(preamble.writer_epoch)
        });
        match epoch {
            Err(error) if error.is_not_found() => *vanished = Some(error),
            Err(error) if !error.is_damage() => {
                return Err(error.in_file(&path_of(storage, &slot.file_name())));
            }
            epoch => candidates.push(Candidate { slot, epoch }),
        }
    }
    Ok(candidates)
}

fn read_preamble(storage: &dyn Storage, slot: Slot) -> Result<Preamble, StoreError> {
    let name = slot.file_name();
    let bytes = storage
        .read(&name, PREAMBLE_LEN as u64)
        .map_err(io_error(storage, "read", &name))?;
    Preamble::parse(&bytes)
}

/// Reads one generation and checks everything about it.
pub(super) fn read(
    storage: &dyn Storage,
    slot: Slot,
    shard: Option<ShardId>,
    access: Access<'_>,
) -> Result<Decoded, StoreError> {
    read_whole(storage, slot, shard, access).map(|(decoded, _)| decoded)
}

/// As [`read`], with the bytes that were checked.
pub(super) fn read_whole(
    storage: &dyn Storage,
    slot: Slot,
    shard: Option<ShardId>,
    access: Access<'_>,
) -> Result<(Decoded, Vec<u8>), StoreError> {
    let name = slot.file_name();
    let path = path_of(storage, &name);
    let bytes = read_bytes(storage, &name, access.limits)?;
    let checked = || {
        let decoded = decode_all(&bytes, access)?;
        if let Some(shard) = shard {
            check_shard(shard, decoded.image.shard)?;
        }
        let (expected, found) = (slot.generation(), Generation::new(decoded.stamp.sequence));
        if expected != found {
            return Err(StoreError::WrongSequence { expected, found });
        }
        Ok(decoded)
    };
    let decoded = checked().map_err(|error| error.in_file(&path))?;
    Ok((decoded, bytes))
}

/// The bytes of a file, unless there are more than the limits allow.
pub(super) fn read_bytes(
    storage: &dyn Storage,
    name: &str,
    limits: &Limits,
) -> Result<Vec<u8>, StoreError> {
    let bytes = storage
        .read(name, limits.max_file_bytes.saturating_add(1))
        .map_err(io_error(storage, "read", name))?;
    at_most("file length", bytes.len() as u64, limits.max_file_bytes)
        .map_err(|error| error.in_file(&path_of(storage, name)))?;
    Ok(bytes)
}

pub(super) fn check_shard(expected: ShardId, found: ShardId) -> Result<(), StoreError> {
    if expected != found {
        return Err(StoreError::WrongShard { expected, found });
    }
    Ok(())
}
