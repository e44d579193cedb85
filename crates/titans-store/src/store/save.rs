//! One image to one durable file, or no trace of it.
//!
//! The order of the steps is the guarantee: contents are flushed before they get their name,
//! and the name is flushed before the save is acknowledged. A power loss at any point leaves
//! either the generation before or the new one, whole.

use std::path::PathBuf;

use super::files::{io_error, path_of};
use super::generation::Generation;
use super::recovery::TEMPORARY;
use crate::codec::decode::{Decoded, decode_all};
use crate::codec::encode::encode;
use crate::error::StoreError;
use crate::format::limits::Limits;
use crate::fs::Storage;
use crate::image::{MemoryImage, Stamp};

/// A generation that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// Its number.
    pub generation: Generation,
    /// Length of its file in bytes.
    pub file_bytes: u64,
    /// Its file.
    pub path: PathBuf,
}

/// The bytes of a generation, known to read back as the image they came from.
pub(super) fn encode_checked(
    image: &MemoryImage,
    stamp: &Stamp,
    limits: &Limits,
) -> Result<(Vec<u8>, [u8; 32]), StoreError> {
    let bytes = encode(image, stamp)?;
    let decoded = decode_all(&bytes, limits)?;
    same(image, stamp, &decoded)?;
    Ok((bytes, decoded.digest))
}

/// Compares by bits what equality of floats would call equal.
fn same(image: &MemoryImage, stamp: &Stamp, decoded: &Decoded) -> Result<(), StoreError> {
    let differs = |field: String| Err(StoreError::SelfCheck { field });
    for (tensor, back) in image.tensors.iter().zip(&decoded.image.tensors) {
        let bits = tensor.values.iter().map(|value| value.to_bits());
        if !bits.eq(back.values.iter().map(|value| value.to_bits())) {
            return differs(format!("{} {:?}", tensor.role, tensor.name));
        }
    }
    if image != &decoded.image || stamp != &decoded.stamp {
        return differs("the header".to_owned());
    }
    Ok(())
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
        let mut file = storage
            .create(name, bytes.len() as u64)
            .map_err(io_error(storage, "create", name))?;
        file.write_all(bytes)
            .map_err(io_error(storage, "write", name))?;
        file.sync().map_err(io_error(storage, "flush", name))
    };
    match written() {
        Ok(()) => Ok(name.to_owned()),
        Err(error) => {
            // The next open sweeps what cannot be removed now.
            let _ = storage.remove(name);
            Err(error)
        }
    }
}

/// Gives the flushed file its name and flushes the name.
pub(super) fn publish(
    storage: &dyn Storage,
    temporary: &str,
    generation: Generation,
) -> Result<PathBuf, StoreError> {
    let name = generation.file_name();
    let path = path_of(storage, &name);
    if let Err(source) = storage.rename_new(temporary, &name) {
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
