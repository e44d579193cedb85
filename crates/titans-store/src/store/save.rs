//! One image to one durable file, or no trace of it.
//!
//! The order of the steps is the guarantee: contents are flushed before they get their name,
//! and the name is flushed before the save is acknowledged. A power loss at any point leaves
//! either the generation before or the new one, whole.

use std::io;
use std::path::PathBuf;

use super::files::{io_error, path_of};
use super::generation::Generation;
use super::names::TEMPORARY;
use crate::codec::decode::decode_all;
use crate::codec::encode::Plan;
use crate::error::StoreError;
use crate::fs::{Storage, StorageFile, write_whole};
use crate::image::{MemoryImage, Stamp};
use crate::key::Access;

/// A generation that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// Its number.
    pub generation: Generation,
    /// Bytes written for it: the length of its file, or of its record in a journal.
    pub file_bytes: u64,
    /// The file that holds it.
    pub path: PathBuf,
    /// How it was written.
    pub form: SavedForm,
}

/// How a generation was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedForm {
    /// A whole file of its own.
    Snapshot,
    /// A record at the end of a journal.
    Record,
    /// A record, and a whole file from which the next journal starts.
    RecordAndBase,
}

/// The bytes of a generation, known to read back as the image they came from.
pub(super) fn encode_checked(
    plan: &Plan<'_>,
    image: &MemoryImage,
    stamp: &Stamp,
    access: Access<'_>,
) -> Result<(Vec<u8>, [u8; 32]), StoreError> {
    let bytes = plan.full(image, stamp)?;
    let digest = read_back(&bytes, image, stamp, access)?;
    Ok((bytes, digest))
}

/// The digest of `bytes`, once they are known to read back as the image they came from.
pub(super) fn read_back(
    bytes: &[u8],
    image: &MemoryImage,
    stamp: &Stamp,
    access: Access<'_>,
) -> Result<[u8; 32], StoreError> {
    let decoded = decode_all(bytes, access)?;
    let differs = |field: String| Err(StoreError::SelfCheck { field });
    if let Some(field) = image.difference(&decoded.image) {
        return differs(field);
    }
    if stamp != &decoded.stamp {
        return differs("the stamp".to_owned());
    }
    Ok(decoded.digest)
}

/// [`write_temporary`], and [`read_back`] on another thread meanwhile: reading takes about as
/// long as the flush. Nothing gets a name before both have succeeded.
pub(super) fn write_and_read_back(
    storage: &dyn Storage,
    bytes: &[u8],
    image: &MemoryImage,
    stamp: &Stamp,
    access: Access<'_>,
    make_room: impl FnOnce(),
) -> Result<(String, [u8; 32]), StoreError> {
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_back(bytes, image, stamp, access));
        let generation = Generation::new(stamp.sequence);
        let written = write_temporary(storage, generation, bytes, make_room);
        let read = reading.join().unwrap_or_else(|_| {
            Err(StoreError::SelfCheck {
                field: "everything (the check panicked)".to_owned(),
            })
        });
        match (written, read) {
            (Ok(temporary), Ok(digest)) => Ok((temporary, digest)),
            (Ok(temporary), Err(error)) => {
                let _ = storage.remove(&temporary);
                Err(error)
            }
            (Err(error), _) => Err(error),
        }
    })
}

/// Writes `bytes` under a temporary name and flushes them; returns the name.
///
/// A failed flush is final for its file: the kernel may have dropped the bytes and would
/// report success the second time. So the file goes, and one more attempt gets a new one,
/// after `make_room` if the disk is full.
pub(super) fn write_temporary(
    storage: &dyn Storage,
    generation: Generation,
    bytes: &[u8],
    make_room: impl FnOnce(),
) -> Result<String, StoreError> {
    match attempt(storage, &temporary_name(generation, 1), bytes) {
        Ok(name) => Ok(name),
        Err(error) => {
            if error.is_out_of_space() {
                make_room();
            }
            attempt(storage, &temporary_name(generation, 2), bytes)
        }
    }
}

fn temporary_name(generation: Generation, attempt: u32) -> String {
    format!("{TEMPORARY}{}-{generation}-{attempt}", std::process::id())
}

fn attempt(storage: &dyn Storage, name: &str, bytes: &[u8]) -> Result<String, StoreError> {
    let written = || {
        let mut file = create_temporary(storage, name, bytes.len() as u64)
            .map_err(io_error(storage, "create", name))?;
        write_whole(&mut *file, bytes).map_err(io_error(storage, "write", name))?;
        file.sync().map_err(io_error(storage, "flush", name))
    };
    match written() {
        Ok(()) => Ok(name.to_owned()),
        Err(error) => {
            // The next attempt or the next open sweeps what cannot be removed now.
            let _ = storage.remove(name);
            Err(error)
        }
    }
}

/// Creates a file under a temporary name. One that is there is what an earlier failure could
/// not remove: the holder of the lock is the only one who makes them.
pub(super) fn create_temporary(
    storage: &dyn Storage,
    name: &str,
    len: u64,
) -> io::Result<Box<dyn StorageFile>> {
    match storage.create(name, len) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            storage.remove(name)?;
            storage.create(name, len)
        }
        created => created,
    }
}

/// Gives the flushed file its name and flushes the name.
pub(super) fn publish(
    storage: &dyn Storage,
    temporary: &str,
    name: &str,
    generation: Generation,
) -> Result<PathBuf, StoreError> {
    let path = path_of(storage, name);
    if let Err(source) = storage.rename_new(temporary, name) {
        let _ = storage.remove(temporary);
        if source.kind() == std::io::ErrorKind::AlreadyExists {
            return Err(StoreError::Overtaken {
                expected: generation,
                found: generation,
            });
        }
        return Err(StoreError::Io {
            action: "name",
            path,
            source,
        });
    }
    match storage.sync_folder() {
        Ok(()) => Ok(path),
        Err(source) => Err(StoreError::NotDurable { path, source }),
    }
}
