//! Writing a backup, and reading it back before it gets its name.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use super::layout::{
    ARTIFACT_TYPE, CONFIG_TYPE, Descriptor, GENERATION, Hashes, Hashing, INDEX_FILE, INDEX_TYPE,
    Index, LAYOUT, LAYOUT_FILE, MANIFEST_TYPE, MAX_CONFIG, MEMORY_TYPE, MODEL_TYPE, Manifest,
    PAD_FILE, REFERENCE, SHARD, blob_name,
};
use super::restore::check;
use super::{BackupRequest, BackupSummary, ModelPart, absolute, io_error, parent};
use crate::error::StoreError;
use crate::format::limits::{Limits, at_most};
use crate::fs::{DiskStorage, FolderMode, Storage};
use crate::image::{ShardId, hex};
use crate::key::Access;
use crate::schedule::BackupSchedule;
use crate::store::export_generation;

/// The model begins at a multiple of this, so that it can be mapped into memory.
const MODEL_ALIGN: u64 = 4096;
/// Bytes of a tar header, and the unit of everything in a tar file.
const TAR_BLOCK: u64 = 512;

/// Writes a backup of the memory in `dir` to the new file `target`, verifies it, and notes it
/// in the memory's [`BackupSchedule`].
///
/// Takes no lock: generations never change, so a writer may go on meanwhile. The file gets
/// its name only after it was flushed and read back from the disk with every digest right.
///
/// # Errors
/// [`StoreError::NoSuchGeneration`], [`StoreError::WrongModel`] when the memory names another
/// model, what is wrong with the memory, and what the operating system refuses, for example
/// that `target` exists.
pub fn create_backup(
    dir: &Path,
    shard: ShardId,
    target: &Path,
    request: &BackupRequest<'_>,
) -> Result<BackupSummary, StoreError> {
    let (dir, target) = (&*absolute(dir)?, &*absolute(target)?);
    at_most("configuration", request.config.len() as u64, MAX_CONFIG)?;
    let limits = Limits::default();
    let access = Access {
        limits: &limits,
        key: request.key,
    };
    let memory = export_generation(dir, shard, request.generation, access)?;
    let model = Model::look_at(request.model)?;
    if let (Some(model), Some(expected)) = (&model, memory.model_digest) {
        model.check(expected)?;
    }
    let name = target.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| StoreError::BackupLayout {
        reason: format!("{:?} is not a file name", target.display()),
    })?;
    let temporary = target.with_file_name(format!(".tmp-{}-{name}", std::process::id()));
    let written = Writer {
        shard,
        generation: memory.generation.number(),
        memory: &memory.bytes,
        config: request.config,
        model: model.as_ref(),
        folders: request.folders,
    }
    .write(&temporary)
    .and_then(|()| {
        drop_cache(&temporary)?;
        check(&temporary, Some(shard), access)
    });
    let mut summary = match written {
        Ok(checked) => checked.summary,
        Err(error) => {
            let _ = std::fs::remove_file(&temporary);
            return Err(error);
        }
    };
    publish(&temporary, target, name)?;
    summary.path = target.to_owned();
    let taken_at = request.taken_at.unwrap_or_else(SystemTime::now);
    BackupSchedule::record(dir, target, taken_at)?;
    Ok(summary)
}

/// Gives the verified file its name, never that of another file, and flushes the name.
fn publish(temporary: &Path, target: &Path, name: &str) -> Result<(), StoreError> {
    let publish = || {
        let storage = DiskStorage::open(parent(target))?;
        let from = temporary.file_name().and_then(|name| name.to_str());
        storage.rename_new(from.unwrap_or_default(), name)?;
        storage.sync_folder()
    };
    publish().map_err(|error| {
        let _ = std::fs::remove_file(temporary);
        io_error("name", target)(error)
    })
}

/// Makes the next read come from the disk: what stands in memory would match even if the disk
/// had lost it.
fn drop_cache(path: &Path) -> Result<(), StoreError> {
    let file = File::open(path).map_err(io_error("open", path))?;
    #[cfg(target_os = "linux")]
    {
        let advice = rustix::fs::Advice::DontNeed;
        rustix::fs::fadvise(&file, 0, None, advice)
            .map_err(|error| io_error("read back", path)(error.into()))?;
    }
    drop(file);
    Ok(())
}

/// The model file, looked at once.
struct Model<'a> {
    path: &'a Path,
    hashes: Hashes,
    is_embedded: bool,
}

impl<'a> Model<'a> {
    fn look_at(part: ModelPart<'a>) -> Result<Option<Self>, StoreError> {
        let (path, is_embedded) = match part {
            ModelPart::Absent => return Ok(None),
            ModelPart::Embed(path) => (path, true),
            ModelPart::Reference(path) => (path, false),
        };
        let hash = || {
            let mut file = Hashing::new(File::open(path)?);
            io::copy(&mut file, &mut io::sink())?;
            Ok(file.finish())
        };
        Ok(Some(Self {
            path,
            hashes: hash().map_err(io_error("read", path))?,
            is_embedded,
        }))
    }

    /// `Ok` when the memory means this model. The digest in a memory is the host's choice;
    /// both common ones are accepted.
    fn check(&self, expected: [u8; 32]) -> Result<(), StoreError> {
        if expected == self.hashes.sha256 || expected == self.hashes.blake3 {
            return Ok(());
        }
        Err(StoreError::WrongModel {
            path: self.path.to_owned(),
            expected: hex(&expected),
            found: hex(&self.hashes.sha256),
        })
    }

    fn descriptor(&self) -> Descriptor {
        let sha256 = hex(&self.hashes.sha256);
        let mut descriptor = Descriptor::new(MODEL_TYPE, &sha256, self.hashes.bytes);
        if !self.is_embedded {
            let yes = "true".to_owned();
            descriptor.annotations.insert(REFERENCE.to_owned(), yes);
        }
        descriptor
    }
}

/// Everything that goes into one backup.
struct Writer<'a> {
    shard: ShardId,
    generation: u64,
    memory: &'a [u8],
    config: &'a [u8],
    model: Option<&'a Model<'a>>,
    folders: FolderMode,
}

impl Writer<'_> {
    fn write(&self, path: &Path) -> Result<(), StoreError> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(io_error("create", path))?;
        if self.folders == FolderMode::Group {
            let folder = DiskStorage::open(parent(path));
            let shared = folder.and_then(|folder| folder.share(&file, 0o060));
            shared.map_err(io_error("share", path))?;
        }
        let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 18, file));
        let manifest = self.manifest()?;
        let descriptor = Descriptor::of(MANIFEST_TYPE, &manifest);
        let index = to_json(&Index {
            schema_version: 2,
            media_type: INDEX_TYPE.to_owned(),
            manifests: vec![descriptor.clone()],
        })?;
        let mut position = 0;
        let mut add = |name: &str, bytes: &[u8]| {
            position += TAR_BLOCK + (bytes.len() as u64).next_multiple_of(TAR_BLOCK);
            append(&mut tar, name, bytes.len() as u64, bytes)
        };
        let memory = Descriptor::of(MEMORY_TYPE, self.memory);
        let config = Descriptor::of(CONFIG_TYPE, self.config);
        let blob = |descriptor: &Descriptor| blob_name(descriptor.sha256().unwrap_or_default());
        let written = add(LAYOUT_FILE, LAYOUT)
            .and_then(|()| add(INDEX_FILE, &index))
            .and_then(|()| add(&blob(&descriptor), &manifest))
            .and_then(|()| add(&blob(&config), self.config))
            .and_then(|()| add(&blob(&memory), self.memory));
        written.map_err(io_error("write", path))?;
        if let Some(model) = self.model.filter(|model| model.is_embedded) {
            // Behind the headers of the pad and of the model itself.
            let start = position + 2 * TAR_BLOCK;
            let pad = start.next_multiple_of(MODEL_ALIGN) - start;
            append(&mut tar, PAD_FILE, pad, io::repeat(0).take(pad))
                .map_err(io_error("write", path))?;
            append_model(&mut tar, model)?;
        }
        let finish = || {
            let file = tar.into_inner()?.into_inner().map_err(io::Error::from)?;
            file.sync_all()
        };
        finish().map_err(io_error("flush", path))
    }

    fn manifest(&self) -> Result<Vec<u8>, StoreError> {
        let mut layers = vec![Descriptor::of(MEMORY_TYPE, self.memory)];
        layers.extend(self.model.map(Model::descriptor));
        to_json(&Manifest {
            schema_version: 2,
            media_type: MANIFEST_TYPE.to_owned(),
            artifact_type: ARTIFACT_TYPE.to_owned(),
            config: Descriptor::of(CONFIG_TYPE, self.config),
            layers,
            annotations: BTreeMap::from([
                (SHARD.to_owned(), self.shard.to_string()),
                (GENERATION.to_owned(), self.generation.to_string()),
            ]),
        })
    }
}

/// Streams the model, and refuses it if it is no longer the one that was hashed.
fn append_model<W: Write>(tar: &mut tar::Builder<W>, model: &Model<'_>) -> Result<(), StoreError> {
    let name = blob_name(&hex(&model.hashes.sha256));
    let mut copy = || {
        let file = File::open(model.path)?.take(model.hashes.bytes);
        let mut hashing = Hashing::new(file);
        append(tar, &name, model.hashes.bytes, &mut hashing)?;
        Ok(hashing.finish())
    };
    let found = copy().map_err(io_error("copy", model.path))?;
    if found != model.hashes {
        return Err(StoreError::BackupDigest {
            blob: "model".to_owned(),
            expected: hex(&model.hashes.sha256),
            found: hex(&found.sha256),
        });
    }
    Ok(())
}

/// One entry, the same for the same contents on every machine.
fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    len: u64,
    contents: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(len);
    header.set_mode(0o600);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    tar.append_data(&mut header, name, contents)
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|source| StoreError::BackupLayout {
        reason: format!("cannot be written: {source}"),
    })
}
