//! The real disk, reached through a handle of the folder.
//!
//! Names are resolved against the open folder, so a folder that is moved while it is open
//! cannot divert a write, and no symbolic link below it is followed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::kernel::{flush_folder, rename_new, set_aside};
use super::{Entry, EntryKind, Storage, StorageFile};

const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    // A pipe in the place of a file must not stall the reader; regular files ignore this.
    .union(OFlags::NONBLOCK);
const CREATE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const LOCK: OFlags = OFlags::RDWR
    .union(OFlags::CREATE)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// A lock that exists, where nothing can be written.
const LOCK_ONLY: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// A folder of the real file system.
#[derive(Debug)]
pub struct DiskStorage {
    path: PathBuf,
    pub(super) folder: OwnedFd,
    /// The locked file, and the process that locked it.
    lock: Option<(File, u32)>,
}

impl Drop for DiskStorage {
    /// Closing the file would not free the folder while a child of this process lives, which
    /// has the same open file. The child itself must not free it.
    fn drop(&mut self) {
        if let Some((file, process)) = &self.lock
            && *process == std::process::id()
        {
            // Closing it is all that is left if this fails.
            let _ = file.unlock();
        }
    }
}

impl DiskStorage {
    /// Opens a folder that exists. A relative path is resolved here, once.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let folder = rustix::fs::open(&path, FOLDER, Mode::empty())?;
        Ok(Self {
            path,
            folder,
            lock: None,
        })
    }

    /// The folder that `name` lies in, and its name there. Each folder on the way is opened by
    /// itself, so that none can be a symbolic link.
    fn place<'a>(&self, name: &'a str) -> io::Result<(Place<'_>, &'a str)> {
        let mut place = Place::Here(self.folder.as_fd());
        let mut rest = name;
        while let Some((folder, below)) = rest.split_once('/') {
            let flags = FOLDER | OFlags::NOFOLLOW;
            let opened = rustix::fs::openat(&place, folder, flags, Mode::empty())?;
            place = Place::Below(opened);
            rest = below;
        }
        Ok((place, rest))
    }

    fn open_at(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let (place, name) = self.place(name)?;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(File::from(rustix::fs::openat(&place, name, flags, mode)?))
    }

    /// The sub-folder `folder`, or the folder itself; `None` where there is no such sub-folder.
    fn read_folder(&self, folder: &str) -> io::Result<Option<(OwnedFd, rustix::fs::Dir)>> {
        let (place, name) = match self.place(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        let name = if name.is_empty() { "." } else { name };
        let flags = FOLDER | OFlags::NOFOLLOW;
        let opened = match rustix::fs::openat(&place, name, flags, Mode::empty()) {
            Err(Errno::NOENT) if !folder.is_empty() => return Ok(None),
            opened => opened?,
        };
        let dir = rustix::fs::Dir::read_from(&opened)?;
        Ok(Some((opened, dir)))
    }
}

/// The folder itself, or one below it.
enum Place<'a> {
    Here(BorrowedFd<'a>),
    Below(OwnedFd),
}

impl AsFd for Place<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Here(folder) => *folder,
            Self::Below(folder) => folder.as_fd(),
        }
    }
}

impl Storage for DiskStorage {
    fn path(&self) -> &Path {
        &self.path
    }

    fn try_lock(&mut self, name: &str) -> io::Result<bool> {
        let file = match self.open_at(name, LOCK) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                self.open_at(name, LOCK_ONLY).map_err(|_| error)?
            }
            opened => opened?,
        };
        match file.try_lock() {
            Ok(()) => {
                // For people only; nothing is ever decided by it.
                let owner = format!("pid {}\n", std::process::id());
                let _ = self.share(&file, 0o060);
                let _ = file
                    .set_len(0)
                    .and_then(|()| (&file).write_all(owner.as_bytes()));
                self.lock = Some((file, std::process::id()));
                Ok(true)
            }
            Err(std::fs::TryLockError::WouldBlock) => Ok(false),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let Some((_, dir)) = self.read_folder(folder)? else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in dir {
            let entry = entry?;
            let is_file = matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown);
            let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_str();
            // Names of this store are ASCII; anything else is somebody else's.
            if let (true, Some(name)) = (is_file, name) {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn entries(&self, folder: &str) -> io::Result<Vec<Entry>> {
        let Some((opened, dir)) = self.read_folder(folder)? else {
            return Ok(Vec::new());
        };
        let mut entries = Vec::new();
        for entry in dir {
            let entry = entry?;
            let raw = entry.file_name();
            if matches!(raw.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match rustix::fs::statat(&opened, raw, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            let name = OsStr::from_bytes(raw.to_bytes());
            entries.push(Entry {
                kind: match (name.to_str(), FileType::from_raw_mode(stat.st_mode)) {
                    (None, _) => EntryKind::Unnameable,
                    (_, FileType::RegularFile) => EntryKind::File,
                    (_, FileType::Directory) => EntryKind::Folder,
                    (_, FileType::Symlink) => EntryKind::Link,
                    _ => EntryKind::Other,
                },
                name: name.to_string_lossy().into_owned(),
                bytes: u64::try_from(stat.st_size).unwrap_or_default(),
            });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn read(&self, name: &str, max_bytes: u64) -> io::Result<Vec<u8>> {
        let file = self.open_at(name, READ)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let room = usize::try_from(metadata.len().min(max_bytes)).unwrap_or_default();
        let mut bytes = Vec::with_capacity(room);
        file.take(max_bytes).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn StorageFile>> {
        let file = self.open_at(name, CREATE)?;
        let prepare = || {
            self.share(&file, 0o060)?;
            // A full disk shows here, before any state changes.
            match len {
                0 => Ok(()),
                len => set_aside(&file, len),
            }
        };
        if let Err(error) = prepare() {
            drop(file);
            let _ = self.remove(name);
            return Err(error);
        }
        Ok(Box::new(DiskFile { file }))
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        let ((from_place, from), (to_place, to)) = (self.place(from)?, self.place(to)?);
        rename_new((from_place.as_fd(), from), (to_place.as_fd(), to))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let flags = AtFlags::empty();
        Ok(rustix::fs::linkat(
            &self.folder,
            from,
            &self.folder,
            to,
            flags,
        )?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let (place, name) = self.place(name)?;
        Ok(rustix::fs::unlinkat(&place, name, AtFlags::empty())?)
    }

    fn make_folder(&self, name: &str) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.folder, name, Mode::RWXU) {
            Ok(()) => {
                let flags = FOLDER | OFlags::NOFOLLOW;
                let made = rustix::fs::openat(&self.folder, name, flags, Mode::empty())?;
                self.share(made, 0o070)?;
                self.sync_folder()
            }
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_folder(&self) -> io::Result<()> {
        flush_folder(&self.folder)
    }

    fn sync_names(&self, folder: &str) -> io::Result<()> {
        match self.read_folder(folder)? {
            Some((opened, _)) => flush_folder(opened),
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
struct DiskFile {
    file: File,
}

impl StorageFile for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        // On Apple systems this also flushes the cache of the drive, which `fsync` does not.
        self.file.sync_all()
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}
