//! The folder of a runtime: its lock and its key.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand::TryRng;
use rand::rngs::SysRng;
use titans_store::FolderMode;
use titans_store::fs::{DiskStorage, Storage};

use crate::error::{IoError, OpenError};
use crate::user::{RootKey, USERS, holds_users};

const LOCK: &str = "ROOT.LOCK";
const KEY: &str = "root.key";
const NEW_KEY: &str = ".tmp-root.key";

/// A root folder that this process owns.
#[derive(Debug)]
pub(crate) struct Root {
    /// Absolute, so that it means the same wherever the program goes.
    pub(crate) path: PathBuf,
    /// Locked as long as this exists. Never removed: a removed lock file has two owners.
    lock: File,
    /// The process that locked it.
    process: u32,
}

impl Drop for Root {
    /// Closing the file would not free the folder while a child of this process lives, which
    /// has the same open file. The child itself must not free it.
    fn drop(&mut self) {
        if self.process == std::process::id()
            && let Err(error) = self.lock.unlock()
        {
            tracing::warn!("cannot unlock {}: {error}", self.path.display());
        }
    }
}

impl Root {
    /// Opens or creates a root folder, for its owner only or shared with its group.
    pub(crate) fn open(path: &Path, mode: FolderMode) -> Result<(Self, RootKey), OpenError> {
        let folder = DiskStorage::create_for(path, mode).map_err(IoError::of("create", path))?;
        let path = folder.path().to_owned();
        let bits = bits(&path)?;
        if bits & mode.refused_bits() != 0 {
            return Err(OpenError::OpenToOthers { path, mode: bits });
        }
        let files = file_bits(bits, mode);
        let lock = lock(&path, files)?;
        let key = match read_key(&path.join(KEY), mode)? {
            Some(key) => key,
            None if holds_users(&path)? => {
                return Err(OpenError::RootKeyLost {
                    path: path.join(KEY),
                    users: path.join(USERS),
                });
            }
            None => create_key(&folder, files)?,
        };
        let root = Self {
            path,
            lock,
            process: std::process::id(),
        };
        Ok((root, key))
    }
}

/// The permission bits of a file or folder.
fn bits(path: &Path) -> Result<u32, IoError> {
    let metadata = fs::metadata(path).map_err(IoError::of("look at", path))?;
    Ok(metadata.permissions().mode() & 0o7777)
}

/// The permission bits of a new file: those of its group are the folder's, if it is shared.
fn file_bits(folder: u32, mode: FolderMode) -> u32 {
    match mode {
        FolderMode::Group if folder & 0o020 != 0 => 0o600 | (folder & 0o060),
        _ => 0o600,
    }
}

/// Gives a new file its permission bits whatever the umask; a file system without them has
/// none to give.
fn set_bits(file: &File, bits: u32) -> io::Result<()> {
    if bits == 0o600 {
        return Ok(());
    }
    match file.set_permissions(fs::Permissions::from_mode(bits)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        set => set,
    }
}

fn lock(root: &Path, files: u32) -> Result<File, OpenError> {
    let path = root.join(LOCK);
    let is_new = !path.exists();
    let lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(IoError::of("open", &path))?;
    if is_new {
        set_bits(&lock, files).map_err(IoError::of("share", &path))?;
    }
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::RootLocked {
            path: root.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(IoError::of("lock", path)(error).into()),
    }
}

fn read_key(path: &Path, mode: FolderMode) -> Result<Option<RootKey>, OpenError> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(IoError::of("look at", path))?,
    };
    // A new key would orphan every memory below, so a damaged one is an error.
    let damaged = || OpenError::RootKey {
        path: path.to_owned(),
    };
    if !metadata.is_file() {
        return Err(damaged());
    }
    let exposed = match mode {
        FolderMode::Group => 0o007,
        _ => 0o077,
    };
    if metadata.mode() & exposed != 0 {
        return Err(OpenError::RootKeyExposed {
            path: path.to_owned(),
            mode: metadata.mode() & 0o7777,
        });
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(33).read_to_end(&mut bytes))
        .map_err(IoError::of("read", path))?;
    let key = <[u8; 32]>::try_from(bytes).map_err(|_| damaged())?;
    Ok(Some(RootKey(key)))
}

/// Writes a fresh key so that a crash leaves a whole one or none.
fn create_key(root: &DiskStorage, files: u32) -> Result<RootKey, IoError> {
    let (new, path) = (root.path().join(NEW_KEY), root.path().join(KEY));
    let mut key = [0; 32];
    SysRng
        .try_fill_bytes(&mut key)
        .map_err(|error| IoError::of("draw a key for", &path)(io::Error::other(error)))?;
    let written = || {
        // What a crash has left may have other rights than a new file gets.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        set_bits(&file, files)?;
        file.write_all(&key)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        root.sync_folder()
    };
    written().map_err(IoError::of("write", &path))?;
    Ok(RootKey(key))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_key_stays_and_one_owner_holds_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root");
        let (root, key) = Root::open(&path, FolderMode::OwnerOnly).unwrap();
        assert!(matches!(
            Root::open(&path, FolderMode::OwnerOnly),
            Err(OpenError::RootLocked { .. })
        ));
        drop(root);
        let (_root, again) = Root::open(&path, FolderMode::OwnerOnly).unwrap();
        assert_eq!(key.0, again.0);
        assert_ne!(key.0, [0; 32]);
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o770)).unwrap();
        let error = Root::open(dir.path(), FolderMode::OwnerOnly).unwrap_err();
        assert!(error.to_string().contains("(mode 0770)"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_key_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        drop(Root::open(dir.path(), FolderMode::OwnerOnly).unwrap());
        let key = dir.path().join(KEY);
        fs::write(&key, [1; 31]).unwrap();
        assert!(matches!(
            Root::open(dir.path(), FolderMode::OwnerOnly),
            Err(OpenError::RootKey { .. })
        ));
        assert_eq!(fs::read(&key).unwrap(), [1; 31]);
    }
}
