//! The lock of a folder: one writer, in this process or another.

use super::files::{io_error, path_of};
use super::names::LOCK;
use crate::error::StoreError;
use crate::fs::Storage;

/// Takes the lock, for as long as the storage lasts.
pub(super) fn lock(storage: &mut dyn Storage) -> Result<(), StoreError> {
    let locked = match storage.try_lock(LOCK) {
        Err(source) if is_without_locks(&source) => {
            return Err(StoreError::NoLocks {
                path: storage.path().to_owned(),
                source,
            });
        }
        locked => locked,
    };
    match locked.map_err(io_error(storage, "lock", LOCK))? {
        true => Ok(()),
        false => Err(StoreError::Locked {
            path: path_of(storage, LOCK),
        }),
    }
}

/// Whether the file system has no locks at all.
fn is_without_locks(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let number = error.raw_os_error().map(Errno::from_raw_os_error);
    let is_missing = matches!(
        number,
        Some(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL)
    );
    is_missing || error.kind() == std::io::ErrorKind::Unsupported
}
