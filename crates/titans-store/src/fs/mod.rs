//! The one door to the disk.
//!
//! Everything the store asks of a file system is in [`Storage`], one method per step that can
//! fail or be lost by itself. So a test can stand in for the disk and fail each step in turn.

mod creation;
mod disk;
#[cfg(feature = "fault-injection")]
mod fault;
mod folder_mode;
mod kernel;
mod metered;
mod network;

use std::fmt;
use std::io;
use std::path::Path;

pub(crate) use creation::flush_parent;
pub use disk::DiskStorage;
#[cfg(feature = "fault-injection")]
pub use fault::{CrashPoint, Fault, FaultyStorage};
pub use folder_mode::FolderMode;
pub use metered::Spent;
pub(crate) use metered::{Meter, Metered};

/// One folder, seen as names. A name may carry sub-folders in front: `quarantine/x`.
pub trait Storage: fmt::Debug + Send + Sync {
    /// The folder, for messages.
    fn path(&self) -> &Path;

    /// Takes the exclusive lock on the file `name`, creating it if needed. `false` when
    /// another storage holds it. The lock lasts as long as the storage.
    fn try_lock(&mut self, name: &str) -> io::Result<bool>;

    /// The names of the regular files in the sub-folder `folder`, or in the folder itself
    /// when that is empty. An absent sub-folder has none.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Everything in the sub-folder `folder`, or in the folder itself when that is empty, in
    /// the order of names. An absent sub-folder has nothing in it.
    fn entries(&self, folder: &str) -> io::Result<Vec<Entry>> {
        let names = self.list(folder)?.into_iter();
        let file = |name| Entry {
            name,
            kind: EntryKind::File,
            bytes: 0,
        };
        Ok(names.map(file).collect())
    }

    /// At most the first `max_bytes` of a regular file; symbolic links are not followed.
    fn read(&self, name: &str, max_bytes: u64) -> io::Result<Vec<u8>>;

    /// Creates a file that must not exist, for its owner only unless the folder is shared with
    /// a group, with room for `len` bytes set aside.
    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn StorageFile>>;

    /// Renames a file within the folder; fails when the new name is taken.
    fn rename_new(&self, from: &str, to: &str) -> io::Result<()>;

    /// Gives a file a second name; fails when that is taken.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Creates a sub-folder, with the rights that a file would get, and flushes its name;
    /// nothing is done where it exists.
    fn make_folder(&self, name: &str) -> io::Result<()>;

    /// Flushes the names in the folder to the device.
    fn sync_folder(&self) -> io::Result<()>;

    /// Flushes the names in a sub-folder, or in the folder itself when `folder` is empty.
    fn sync_names(&self, folder: &str) -> io::Result<()> {
        let _ = folder;
        self.sync_folder()
    }
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, without the folder.
    pub name: String,
    /// What it names.
    pub kind: EntryKind,
    /// The length of a file.
    pub bytes: u64,
}

/// What a name in a folder names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, which nothing here follows.
    Link,
    /// A pipe, a socket or a device.
    Other,
    /// Anything whose name is not UTF-8, so that it cannot be told by it.
    Unnameable,
}

/// A file being written.
pub trait StorageFile: fmt::Debug + Send + Sync {
    /// Appends some of `bytes` and says how many, as [`io::Write::write`] does.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Flushes the contents to the device. After a failure the file must be given up: the
    /// kernel may have dropped the bytes and would report success the second time.
    fn sync(&mut self) -> io::Result<()>;

    /// [`StorageFile::sync`] without what is not needed to read the contents back.
    fn sync_data(&mut self) -> io::Result<()> {
        self.sync()
    }
}

/// Appends all of `bytes`, going on after short writes and interruptions.
pub(crate) fn write_whole(file: &mut dyn StorageFile, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
