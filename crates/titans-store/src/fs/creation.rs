//! Folders that are new: who may do what in them, and that their names are durable.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;

use super::FolderMode;
use super::disk::DiskStorage;
use super::kernel::flush_folder;

impl DiskStorage {
    /// Opens a folder, creating it and its parents for the owner only, and makes the new
    /// names durable.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::create_for(path, FolderMode::OwnerOnly)
    }

    /// [`DiskStorage::create`], where new folders may be shared with the group of the folder
    /// that they are in.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn create_for(path: &Path, mode: FolderMode) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let missing: Vec<&Path> = path.ancestors().take_while(|dir| !dir.is_dir()).collect();
        // Who died or is busy between creating a folder and flushing its name leaves one such
        // folder: the deepest that exists, and nothing is in it yet.
        let deepest = missing.last().map_or(Some(&*path), |dir| dir.parent());
        if let Some(deepest) = deepest
            && std::fs::read_dir(deepest).is_ok_and(|mut names| names.next().is_none())
        {
            match flush_parent(deepest) {
                // Somebody else's folder, which we may pass through and not read.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                flushed => flushed?,
            }
        }
        for dir in missing.iter().rev() {
            match DirBuilder::new().mode(0o700).create(dir) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
                created => {
                    created?;
                    if let (FolderMode::Group, Some(parent)) = (mode, dir.parent()) {
                        Self::open(parent)?.share(&Self::open(dir)?.folder, 0o070)?;
                    }
                }
            }
            flush_parent(dir)?;
        }
        Self::open(&path)
    }

    /// The permission bits of the folder.
    pub(crate) fn mode(&self) -> io::Result<u32> {
        mode_of(&self.folder)
    }

    /// Gives what was just created in this folder those of `rights` that the group of the
    /// folder has, if that group may write here. A file system without modes has none to give.
    pub(crate) fn share(&self, created: impl AsFd, rights: u32) -> io::Result<()> {
        let folder = self.mode()?;
        if folder & 0o020 == 0 {
            return Ok(());
        }
        let mode = mode_of(&created)? | (folder & rights);
        match rustix::fs::fchmod(&created, Mode::from_raw_mode(mode as _)) {
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            changed => Ok(changed?),
        }
    }
}

fn mode_of(file: impl AsFd) -> io::Result<u32> {
    // Its type differs between systems.
    #[allow(clippy::unnecessary_cast)]
    Ok(rustix::fs::fstat(file)?.st_mode as u32 & 0o7777)
}

/// Flushes the name of `path`.
pub(crate) fn flush_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => flush_folder(File::open(parent)?),
        None => Ok(()),
    }
}
