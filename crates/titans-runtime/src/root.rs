//! The folder of a runtime: its lock and its key.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand::TryRng;
use rand::rngs::SysRng;

use crate::error::RuntimeError;
use crate::user::RootKey;

const LOCK: &str = "ROOT.LOCK";
const KEY: &str = "root.key";
const NEW_KEY: &str = ".tmp-root.key";

/// A root folder that this process owns.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) path: PathBuf,
    /// Locked as long as it is open. Never removed: a removed lock file has two owners.
    _lock: File,
}

impl Root {
    /// Opens or creates a root folder, for its owner only.
    pub(crate) fn open(path: &Path) -> Result<(Self, RootKey), RuntimeError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(RuntimeError::io("create", path))?;
        let mode = fs::metadata(path)
            .map_err(RuntimeError::io("look at", path))?
            .permissions()
            .mode()
            & 0o7777;
        if mode & 0o022 != 0 {
            return Err(RuntimeError::OpenToOthers {
                path: path.to_owned(),
                mode,
            });
        }
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(RuntimeError::io("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(RuntimeError::RootLocked {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => {
                return Err(RuntimeError::io("lock", lock_path)(error));
            }
        }
        let key = match read_key(&path.join(KEY))? {
            Some(key) => key,
            None => create_key(path)?,
        };
        let root = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        Ok((root, key))
    }
}

fn read_key(path: &Path) -> Result<Option<RootKey>, RuntimeError> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file
            .take(33)
            .read_to_end(&mut bytes)
            .map_err(RuntimeError::io("read", path))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RuntimeError::io("open", path)(error)),
    };
    // A new key would orphan every memory below, so a damaged one is an error.
    let key = <[u8; 32]>::try_from(bytes).map_err(|_| RuntimeError::RootKey {
        path: path.to_owned(),
    })?;
    Ok(Some(RootKey(key)))
}

/// Writes a fresh key so that a crash leaves a whole one or none.
fn create_key(root: &Path) -> Result<RootKey, RuntimeError> {
    let (new, path) = (root.join(NEW_KEY), root.join(KEY));
    let mut key = [0; 32];
    SysRng
        .try_fill_bytes(&mut key)
        .map_err(|error| RuntimeError::io("draw a key for", &path)(io::Error::other(error)))?;
    let written = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&key)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(root)?.sync_all()
    };
    written().map_err(RuntimeError::io("write", &path))?;
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
        let (root, key) = Root::open(&path).unwrap();
        assert!(matches!(
            Root::open(&path),
            Err(RuntimeError::RootLocked { .. })
        ));
        drop(root);
        let (_root, again) = Root::open(&path).unwrap();
        assert_eq!(key.0, again.0);
        assert_ne!(key.0, [0; 32]);
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o770)).unwrap();
        let error = Root::open(dir.path()).unwrap_err();
        assert!(error.to_string().contains("(mode 0770)"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_key_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        drop(Root::open(dir.path()).unwrap());
        let key = dir.path().join(KEY);
        fs::write(&key, [1; 31]).unwrap();
        assert!(matches!(
            Root::open(dir.path()),
            Err(RuntimeError::RootKey { .. })
        ));
        assert_eq!(fs::read(&key).unwrap(), [1; 31]);
    }
}
