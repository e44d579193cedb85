//! Calls that not every file system has, and what is done where they are missing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::AtFlags;
use rustix::io::Errno;

/// Whether the error says that the file system or the kernel cannot do this at all. Which of
/// these numbers it is depends on the file system; a sandbox answers with the last one.
pub(super) fn is_missing(error: Errno) -> bool {
    matches!(
        error,
        Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM
    )
}

/// Renames a file; fails when the new name is taken.
///
/// Where the flag for that is missing, a hard link does the same. Where hard links are missing
/// too (FAT, many FUSE file systems), the name is looked up first: the caller holds the lock
/// of the folder, so nobody else takes the name in between.
pub(super) fn rename_new(
    (from_folder, from): (BorrowedFd<'_>, &str),
    (to_folder, to): (BorrowedFd<'_>, &str),
) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(from_folder, from, to_folder, to, flags) {
            Err(error) if is_missing(error) => {}
            renamed => return Ok(renamed?),
        }
    }
    match rustix::fs::linkat(from_folder, from, to_folder, to, AtFlags::empty()) {
        Err(error) if is_missing(error) => {}
        linked => {
            linked?;
            return Ok(rustix::fs::unlinkat(from_folder, from, AtFlags::empty())?);
        }
    }
    match rustix::fs::statat(to_folder, to, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => {}
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) => return Err(error.into()),
    }
    Ok(rustix::fs::renameat(from_folder, from, to_folder, to)?)
}

/// Flushes the names in a folder.
///
/// Some network and FUSE file systems refuse to flush a folder by itself; there the whole file
/// system is flushed. Where that is refused as well, nothing can be promised, and it is an
/// error.
pub(super) fn flush_folder(folder: impl AsFd) -> io::Result<()> {
    match rustix::fs::fsync(&folder) {
        #[cfg(target_os = "linux")]
        Err(error) if is_missing(error) || error == Errno::BADF => Ok(rustix::fs::syncfs(&folder)?),
        flushed => Ok(flushed?),
    }
}

/// Sets room aside in a file. File systems that cannot, and a signal in between, show a full
/// disk while writing.
pub(super) fn set_aside(file: impl AsFd, len: u64) -> io::Result<()> {
    let flags = rustix::fs::FallocateFlags::empty();
    match rustix::fs::fallocate(file, flags, 0, len) {
        Err(Errno::NODEV | Errno::INTR) | Ok(()) => Ok(()),
        Err(error) if is_missing(error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
