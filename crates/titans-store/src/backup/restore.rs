//! Reading a backup, and putting it back into a folder that holds no memory.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::layout::{
    CONFIG_TYPE, Descriptor, GENERATION, Hashes, Hashing, INDEX_FILE, Index, MAX_CONFIG,
    MAX_ENTRIES, MAX_JSON, MEMORY_TYPE, MODEL_TYPE, Manifest, SHARD, blob_digest,
};
use super::{BackupSummary, ModelSummary, RestoreRequest, absolute, io_error, parent};
use crate::codec::decode::{Decoded, decode_all};
use crate::error::StoreError;
use crate::format::limits::{Limits, at_most};
use crate::fs::{DiskStorage, Storage};
use crate::image::{ShardId, hex};
use crate::key::{Access, UserKey};
use crate::store::adopt_generation;

/// Checks every digest of a backup, and unpacks the memory in it.
///
/// An encrypted memory is unpacked only with its key; without, its digest is checked.
///
/// # Errors
/// [`StoreError::BackupDigest`], [`StoreError::BackupLayout`], what is wrong with the memory,
/// and what the operating system says.
pub fn verify_backup(
    backup: &Path,
    limits: &Limits,
    key: Option<&UserKey>,
) -> Result<BackupSummary, StoreError> {
    let backup = absolute(backup)?;
    check(&backup, None, Access { limits, key }).map(|checked| checked.summary)
}

/// Puts the memory of a backup into `dir`, which must hold none, as its only generation.
///
/// Everything is verified before anything is written. Model and configuration come first and
/// the memory last, so that a folder with a memory in it is a restore that ended.
///
/// # Errors
/// [`StoreError::Locked`] while a store is open on `dir`, [`StoreError::NotEmpty`] when it
/// holds a memory, [`StoreError::WrongShard`], and as [`verify_backup`].
pub fn restore_backup(
    backup: &Path,
    dir: &Path,
    request: &RestoreRequest<'_>,
) -> Result<BackupSummary, StoreError> {
    let access = Access {
        limits: &request.limits,
        key: request.key,
    };
    let backup = &*absolute(backup)?;
    let checked = check(backup, Some(request.shard), access)?;
    let model = match (&checked.summary.model, request.model_to) {
        (Some(model), Some(to)) if model.embedded => Some((model, to)),
        (_, None) => None,
        (_, Some(to)) => {
            return Err(StoreError::BackupLayout {
                reason: format!("it has no model to write to {}", to.display()),
            });
        }
    };
    let which = (request.shard, checked.summary.generation);
    adopt_generation(dir, request.folders, which, &checked.memory, || {
        if let Some((model, to)) = model {
            extract(backup, &model.sha256, model.bytes, to)?;
        }
        if let Some(to) = request.config_to {
            let sha256 = &checked.summary.config_sha256;
            extract(backup, sha256, checked.config_bytes, to)?;
        }
        Ok(())
    })?;
    Ok(checked.summary)
}

/// A backup whose digests are right.
pub(super) struct Checked {
    pub(super) summary: BackupSummary,
    memory: Vec<u8>,
    config_bytes: u64,
}

/// Reads a backup once and checks everything in it.
pub(super) fn check(
    path: &Path,
    shard: Option<ShardId>,
    access: Access<'_>,
) -> Result<Checked, StoreError> {
    let outline = Outline::read(path)?;
    let manifest = &outline.manifest;
    let config = outline.blob(&manifest.config, CONFIG_TYPE)?;
    at_most("configuration", config.bytes, MAX_CONFIG)?;
    let memory_layer = layer(manifest, MEMORY_TYPE).ok_or_else(|| bad("it names no memory"))?;
    outline.blob(memory_layer, MEMORY_TYPE)?;
    let model = layer(manifest, MODEL_TYPE);
    if let Some(model) = model.filter(|model| !model.is_reference()) {
        outline.blob(model, MODEL_TYPE)?;
    }
    let sha256 = memory_layer.sha256().unwrap_or_default();
    let memory = read_blob(path, sha256, access.limits.max_file_bytes)?;
    let preamble = crate::format::preamble::Preamble::parse(&memory)?;
    if let Some(expected) = shard.filter(|shard| *shard != preamble.shard) {
        return Err(StoreError::WrongShard {
            expected,
            found: preamble.shard,
        });
    }
    let annotation = |key: &str| manifest.annotations.get(key).map(String::as_str);
    let says = (annotation(SHARD), annotation(GENERATION));
    let is = (preamble.shard.to_string(), preamble.sequence.to_string());
    if says != (Some(is.0.as_str()), Some(is.1.as_str())) {
        return Err(bad("its manifest names another memory than it holds"));
    }
    let decoded = match decode_all(&memory, access) {
        Ok(decoded) => Some(decoded),
        Err(StoreError::KeyNeeded) => None,
        Err(error) => return Err(error.in_file(path)),
    };
    if let (Some(decoded), Some(model)) = (&decoded, model) {
        check_model(decoded, model, &outline, path)?;
    }
    Ok(Checked {
        summary: BackupSummary {
            path: path.to_owned(),
            bytes: outline.file_bytes,
            shard: is.0,
            generation: preamble.sequence,
            memory_sha256: sha256.to_owned(),
            memory_bytes: memory_layer.size,
            config_sha256: manifest.config.sha256().unwrap_or_default().to_owned(),
            model: model.map(|model| ModelSummary {
                sha256: model.sha256().unwrap_or_default().to_owned(),
                bytes: model.size,
                embedded: !model.is_reference(),
            }),
            decoded: decoded.is_some(),
        },
        memory,
        config_bytes: manifest.config.size,
    })
}

/// The model that the memory names must be the one beside it.
fn check_model(
    decoded: &Decoded,
    model: &Descriptor,
    outline: &Outline,
    path: &Path,
) -> Result<(), StoreError> {
    let sha256 = model.sha256().unwrap_or_default();
    let Some(expected) = decoded.image.model_digest else {
        return Ok(());
    };
    let blake3 = outline.blobs.get(sha256).map(|hashes| hashes.blake3);
    // A reference says nothing of the other digest, so it cannot contradict it.
    let is_unknown = model.is_reference();
    if hex(&expected) == sha256 || blake3 == Some(expected) || is_unknown {
        return Ok(());
    }
    Err(StoreError::WrongModel {
        path: path.to_owned(),
        expected: hex(&expected),
        found: sha256.to_owned(),
    })
}

fn layer<'a>(manifest: &'a Manifest, media_type: &str) -> Option<&'a Descriptor> {
    let mut layers = manifest.layers.iter();
    layers.find(|layer| layer.media_type == media_type)
}

/// The blobs of a backup by digest, and what its manifest says.
struct Outline {
    blobs: BTreeMap<String, Hashes>,
    manifest: Manifest,
    file_bytes: u64,
}

impl Outline {
    /// Hashes every blob. A blob that is not what its name says is refused, wanted or not.
    fn read(path: &Path) -> Result<Self, StoreError> {
        let mut blobs = BTreeMap::new();
        let mut small = BTreeMap::new();
        let mut index = None;
        let file_bytes = std::fs::metadata(path)
            .map_err(io_error("read", path))?
            .len();
        for_each_entry(path, |name, entry| {
            if name == INDEX_FILE {
                index = Some(read_small(entry, path)?);
            } else if let Some(expected) = blob_digest(name) {
                let mut hashing = Hashing::new(entry);
                let mut kept = Vec::new();
                let copy = (&mut hashing).take(MAX_JSON + 1).read_to_end(&mut kept);
                copy.and_then(|_| io::copy(&mut hashing, &mut io::sink()))
                    .map_err(io_error("read", path))?;
                let hashes = hashing.finish();
                let found = hex(&hashes.sha256);
                if found != expected {
                    return Err(StoreError::BackupDigest {
                        blob: expected.to_owned(),
                        expected: expected.to_owned(),
                        found,
                    });
                }
                if hashes.bytes <= MAX_JSON {
                    small.insert(found.clone(), kept);
                }
                blobs.insert(found, hashes);
            }
            Ok(())
        })?;
        let index: Index = parse(&index.ok_or_else(|| bad("it has no index"))?)?;
        let [manifest] = index.manifests.as_slice() else {
            return Err(bad("its index does not name one manifest"));
        };
        let bytes = manifest.sha256().and_then(|sha256| small.get(sha256));
        let manifest = parse(bytes.ok_or_else(|| bad("its manifest is missing"))?)?;
        Ok(Self {
            blobs,
            manifest,
            file_bytes,
        })
    }

    /// The blob that a descriptor means, once both agree.
    fn blob(&self, descriptor: &Descriptor, media_type: &str) -> Result<&Hashes, StoreError> {
        let name = descriptor
            .sha256()
            .ok_or_else(|| bad("a digest is malformed"))?;
        let hashes = self
            .blobs
            .get(name)
            .ok_or_else(|| bad(&format!("blob {name} is missing")))?;
        if hashes.bytes != descriptor.size || descriptor.media_type != media_type {
            return Err(bad(&format!("blob {name} is not what its manifest says")));
        }
        Ok(hashes)
    }
}

fn bad(reason: &str) -> StoreError {
    StoreError::BackupLayout {
        reason: reason.to_owned(),
    }
}

fn parse<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(json).map_err(|error| bad(&format!("malformed JSON: {error}")))
}

fn read_small(entry: impl Read, path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    let mut entry = entry.take(MAX_JSON + 1);
    entry
        .read_to_end(&mut bytes)
        .map_err(io_error("read", path))?;
    at_most("index of a backup", bytes.len() as u64, MAX_JSON)?;
    Ok(bytes)
}

/// Calls `visit` with the name and contents of every regular file. Nothing is ever written
/// to a path that an entry names.
fn for_each_entry(
    path: &Path,
    mut visit: impl FnMut(&str, &mut dyn Read) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let file = File::open(path).map_err(io_error("open", path))?;
    let mut tar = tar::Archive::new(BufReader::with_capacity(1 << 18, file));
    let entries = tar.entries().map_err(io_error("read", path))?;
    for (count, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|error| bad(&format!("malformed tar: {error}")))?;
        at_most("entries of a backup", count as u64, MAX_ENTRIES as u64)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        match entry.header().entry_type() {
            tar::EntryType::Regular => visit(&name, &mut entry)?,
            tar::EntryType::Directory => {}
            _ => return Err(bad(&format!("entry {name:?} is no regular file"))),
        }
    }
    Ok(())
}

/// The bytes of a blob that has been checked; they are checked again, because the file may
/// have changed.
fn read_blob(path: &Path, sha256: &str, most: u64) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    let hashes = copy_blob(path, sha256, most, &mut bytes)?;
    at_most("memory of a backup", hashes.bytes, most)?;
    Ok(bytes)
}

fn copy_blob(
    path: &Path,
    sha256: &str,
    most: u64,
    to: &mut dyn Write,
) -> Result<Hashes, StoreError> {
    let mut found = None;
    for_each_entry(path, |name, entry| {
        if blob_digest(name) == Some(sha256) && found.is_none() {
            let mut hashing = Hashing::new(&mut *to);
            let copied = io::copy(&mut entry.take(most.saturating_add(1)), &mut hashing);
            copied.map_err(io_error("copy", path))?;
            found = Some(hashing.finish());
        }
        Ok(())
    })?;
    match found {
        Some(hashes) if hex(&hashes.sha256) == sha256 => Ok(hashes),
        found => Err(StoreError::BackupDigest {
            blob: sha256.to_owned(),
            expected: sha256.to_owned(),
            found: found.map_or("nothing".to_owned(), |hashes| hex(&hashes.sha256)),
        }),
    }
}

/// Writes a blob to a new file: temporary name, flush, rename, flush of the folder.
fn extract(backup: &Path, sha256: &str, bytes: u64, to: &Path) -> Result<(), StoreError> {
    let name = to.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| bad(&format!("{:?} is not a file name", to.display())))?;
    let temporary_name = format!(".tmp-{}-{name}", std::process::id());
    let temporary = to.with_file_name(&temporary_name);
    let write = || {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary);
        let mut file = file.map_err(io_error("create", &temporary))?;
        copy_blob(backup, sha256, bytes, &mut file)?;
        file.sync_all().map_err(io_error("flush", &temporary))?;
        let publish = || {
            let storage = DiskStorage::open(parent(to))?;
            storage.rename_new(&temporary_name, name)?;
            storage.sync_folder()
        };
        publish().map_err(io_error("name", to))
    };
    write().inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}
