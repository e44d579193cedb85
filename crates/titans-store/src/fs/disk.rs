//! The real disk, reached through a handle of the folder.
//!
//! Names are resolved against the open folder, so a folder that is moved while it is open
//! cannot divert a write.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Storage, StorageFile};

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
const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Network file systems by the number that `statfs(2)` gives.
#[cfg(target_os = "linux")]
const NETWORK: [(u32, &str); 7] = [
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "afs"),
];

/// A folder of the real file system.
#[derive(Debug)]
pub struct DiskStorage {
    path: PathBuf,
    folder: OwnedFd,
    lock: Option<File>,
}

impl DiskStorage {
    /// Opens a folder that exists.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let folder = rustix::fs::open(path, FOLDER, Mode::empty())?;
        Ok(Self {
            path: path.to_owned(),
            folder,
            lock: None,
        })
    }

    /// Opens a folder, creating it and its parents for the owner only, and makes the new
    /// names durable.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        let missing: Vec<&Path> = path.ancestors().take_while(|dir| !dir.is_dir()).collect();
        for dir in missing
            .iter()
            .rev()
            .filter(|dir| !dir.as_os_str().is_empty())
        {
            match DirBuilder::new().mode(0o700).create(dir) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
                created => created?,
            }
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Self::open(path)
    }

    /// The kind of network file system that the folder lies on, if it does.
    pub(crate) fn network_file_system(&self) -> io::Result<Option<&'static str>> {
        #[cfg(target_os = "linux")]
        {
            let magic = rustix::fs::fstatfs(&self.folder)?.f_type;
            // The numbers are those of `statfs(2)`; the type differs between machines.
            #[allow(clippy::unnecessary_cast)]
            let kind = NETWORK.iter().find(|(number, _)| *number == magic as u32);
            Ok(kind.map(|(_, kind)| *kind))
        }
        #[cfg(not(target_os = "linux"))]
        Ok(None)
    }

    /// The permission bits of the folder.
    pub(crate) fn mode(&self) -> io::Result<u32> {
        Ok(rustix::fs::fstat(&self.folder)?.st_mode & 0o7777)
    }
}

impl Storage for DiskStorage {
    fn path(&self) -> &Path {
        &self.path
    }

    fn try_lock(&mut self, name: &str) -> io::Result<bool> {
        let mode = Mode::RUSR | Mode::WUSR;
        let file = File::from(rustix::fs::openat(&self.folder, name, LOCK, mode)?);
        match file.try_lock() {
            Ok(()) => {
                // For people only; nothing is ever decided by it.
                let owner = format!("pid {}\n", std::process::id());
                let _ = file
                    .set_len(0)
                    .and_then(|()| (&file).write_all(owner.as_bytes()));
                self.lock = Some(file);
                Ok(true)
            }
            Err(std::fs::TryLockError::WouldBlock) => Ok(false),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let name = if folder.is_empty() { "." } else { folder };
        let opened =
            rustix::fs::openat(&self.folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty());
        let dir = match opened {
            Err(Errno::NOENT) if !folder.is_empty() => return Ok(Vec::new()),
            opened => rustix::fs::Dir::new(opened?)?,
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

    fn read(&self, name: &str, max_bytes: u64) -> io::Result<Vec<u8>> {
        let fd = rustix::fs::openat(&self.folder, name, READ, Mode::empty())?;
        let file = File::from(fd);
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
        let mode = Mode::RUSR | Mode::WUSR;
        let file = File::from(rustix::fs::openat(&self.folder, name, CREATE, mode)?);
        // A full disk shows here, before any state changes. File systems that cannot set
        // room aside show it while writing.
        if len > 0 {
            let flags = rustix::fs::FallocateFlags::empty();
            match rustix::fs::fallocate(&file, flags, 0, len) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
                Err(error) => {
                    drop(file);
                    let _ = self.remove(name);
                    return Err(error.into());
                }
            }
        }
        Ok(Box::new(DiskFile { file }))
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        {
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(&self.folder, from, &self.folder, to, flags) {
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
                renamed => return Ok(renamed?),
            }
        }
        // Where the kernel or the file system lacks the flag: a link never replaces either.
        self.link(from, to)?;
        self.remove(from)
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
        Ok(rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())?)
    }

    fn make_folder(&self, name: &str) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.folder, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_folder(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.folder)?)
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
