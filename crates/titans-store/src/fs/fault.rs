//! A folder in memory that fails on demand and forgets what was not flushed.
//!
//! It keeps the list of everything that was done to it. A power loss may strike between any
//! two steps, and what survives is chosen by the weakest promises that a file system makes:
//!
//! - of the bytes written since the last flush of a file, any set of sectors, or a cut at any
//!   byte; what lies between survivors and was lost reads as zeros;
//! - of the names changed since the last flush of the folder, any set of the changes, each
//!   of them whole;
//! - after a flush that failed, some bytes are on the disk, the others never will be, though
//!   they can still be read: the next flush reports success and does nothing for them.
//!
//! It locks nothing, as a broken network file system would.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Storage, StorageFile};

/// What one step does instead of its work.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It fails with this error; a write half way, a flush after a third.
    Error(io::ErrorKind),
    /// A write accepts one byte; other steps work.
    ShortWrite,
}

/// A folder in memory. Clones are the same folder.
#[derive(Clone, Default)]
pub struct FaultyStorage(Arc<Mutex<Disk>>);

type Names = BTreeMap<String, usize>;
/// A name and the file it has now, if any.
type Change = (String, Option<usize>);

#[derive(Default)]
struct Disk {
    files: Vec<Vec<u8>>,
    names: Names,
    done: Vec<Done>,
    steps: Vec<&'static str>,
    faults: BTreeMap<usize, Fault>,
}

/// One thing that happened.
#[derive(Clone, Debug)]
enum Done {
    Wrote {
        file: usize,
        at: usize,
        bytes: Vec<u8>,
    },
    Flushed {
        file: usize,
    },
    FailedToFlush {
        file: usize,
    },
    Named(Vec<Change>),
    FlushedNames,
    Acknowledged(u64),
}

impl fmt::Debug for FaultyStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultyStorage")
            .field(&self.disk().names)
            .finish()
    }
}

impl FaultyStorage {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the `step`-th step from now on, counted from 0, go wrong.
    pub fn fail_at(&self, step: usize, fault: Fault) {
        let mut disk = self.disk();
        let step = disk.steps.len().saturating_add(step);
        disk.faults.insert(step, fault);
    }

    /// Notes that the caller was told that generation `number` is durable.
    pub fn acknowledge(&self, number: u64) {
        self.disk().done.push(Done::Acknowledged(number));
    }

    /// The names of the steps taken so far.
    pub fn steps(&self) -> Vec<&'static str> {
        self.disk().steps.clone()
    }

    /// Changes a byte of a file behind everyone's back, durably. `false` when there is none.
    pub fn flip(&self, name: &str, at: usize, mask: u8) -> bool {
        let mut disk = self.disk();
        let Some(file) = disk.names.get(name).copied() else {
            return false;
        };
        let byte = disk.files.get_mut(file).and_then(|bytes| bytes.get_mut(at));
        let Some(byte) = byte else {
            return false;
        };
        *byte ^= mask;
        let bytes = vec![*byte];
        disk.done.push(Done::Wrote { file, at, bytes });
        disk.done.push(Done::Flushed { file });
        true
    }

    /// A folder with these files, all durable.
    pub fn with_files(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut disk = Disk::default();
        for (name, bytes) in files {
            let file = disk.files.len();
            let at = 0;
            disk.done
                .push(Done::Named(vec![(name.clone(), Some(file))]));
            disk.done.push(Done::Wrote {
                file,
                at,
                bytes: bytes.clone(),
            });
            disk.done.push(Done::Flushed { file });
            disk.names.insert(name, file);
            disk.files.push(bytes);
        }
        disk.done.push(Done::FlushedNames);
        Self(Arc::new(Mutex::new(disk)))
    }

    /// The files as they can be read now.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let disk = self.disk();
        let contents = |&file: &usize| disk.files.get(file).cloned().unwrap_or_default();
        disk.names
            .iter()
            .map(|(name, file)| (name.clone(), contents(file)))
            .collect()
    }

    /// Every moment at which the power may go, in order.
    pub fn crash_points(&self) -> Vec<CrashPoint> {
        let disk = self.disk();
        let mut point = CrashPoint::default();
        let mut points = vec![point.clone()];
        for done in &disk.done {
            point.happen(done);
            points.push(point.clone());
        }
        points
    }

    fn step(&self, name: &'static str) -> io::Result<Option<Fault>> {
        let mut disk = self.disk();
        let step = disk.steps.len();
        disk.steps.push(name);
        match disk.faults.get(&step).copied() {
            Some(Fault::Error(kind)) if !matches!(name, "write" | "sync" | "sync data") => {
                Err(kind.into())
            }
            fault => Ok(fault),
        }
    }

    fn change(&self, changes: Vec<Change>) {
        let mut disk = self.disk();
        for (name, file) in &changes {
            match file {
                Some(file) => disk.names.insert(name.clone(), *file),
                None => disk.names.remove(name),
            };
        }
        disk.done.push(Done::Named(changes));
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.disk().names.get(name).copied()
    }

    fn free(&self, name: &str) -> io::Result<()> {
        match self.find(name) {
            None => Ok(()),
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    fn existing(&self, name: &str) -> io::Result<usize> {
        self.find(name)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// What may and what must be on the disk at one moment.
#[derive(Clone, Debug, Default)]
pub struct CrashPoint {
    durable: Vec<Vec<u8>>,
    unflushed: BTreeMap<usize, Vec<(usize, Vec<u8>)>>,
    durable_names: Names,
    unflushed_names: Vec<Vec<Change>>,
    /// The last generation that was acknowledged by then.
    pub acknowledged: Option<u64>,
}

/// Bytes that a disk writes all or none of.
const SECTOR: usize = 512;

impl CrashPoint {
    fn happen(&mut self, done: &Done) {
        match done {
            Done::Wrote { file, at, bytes } => {
                if self.durable.len() <= *file {
                    self.durable.resize(*file + 1, Vec::new());
                }
                self.unflushed
                    .entry(*file)
                    .or_default()
                    .push((*at, bytes.clone()));
            }
            Done::Flushed { file } => {
                let writes = self.unflushed.remove(file).unwrap_or_default();
                for (at, bytes) in &writes {
                    self.write(*file, *at, bytes);
                }
            }
            Done::FailedToFlush { file } => {
                let writes = self.unflushed.remove(file).unwrap_or_default();
                let total: usize = writes.iter().map(|(_, bytes)| bytes.len()).sum();
                self.write_cut(*file, &writes, total / 3);
            }
            Done::Named(changes) => self.unflushed_names.push(changes.clone()),
            Done::FlushedNames => {
                for changes in std::mem::take(&mut self.unflushed_names) {
                    apply(&mut self.durable_names, &changes);
                }
            }
            Done::Acknowledged(number) => self.acknowledged = Some(*number),
        }
    }

    /// Bytes that a power loss may take from files.
    pub fn unflushed_bytes(&self) -> usize {
        let writes = self.unflushed.values().flatten();
        writes.map(|(_, bytes)| bytes.len()).sum()
    }

    /// Changes of names that a power loss may take.
    pub fn unflushed_names(&self) -> usize {
        self.unflushed_names.len()
    }

    /// What is left when each un-flushed file is cut after `bytes` of its un-flushed bytes,
    /// and the first `names` changes of names survive.
    pub fn cut(&self, bytes: usize, names: usize) -> FaultyStorage {
        let mut after = self.clone();
        for (file, writes) in &self.unflushed {
            after.write_cut(*file, writes, bytes);
        }
        for changes in self.unflushed_names.iter().take(names) {
            apply(&mut after.durable_names, changes);
        }
        after.into_storage()
    }

    /// What is left when chance decides for every sector, every change of a name, and whether
    /// a file got its length before its contents. `random` gives any 64 bits.
    pub fn scatter(&self, mut random: impl FnMut() -> u64) -> FaultyStorage {
        let mut after = self.clone();
        for (file, writes) in &self.unflushed {
            for (at, bytes) in writes {
                if random() & 3 == 0 {
                    // The length is on the disk, whatever becomes of the contents.
                    after.write(*file, at + bytes.len(), &[]);
                }
                let mut start = 0;
                while start < bytes.len() {
                    let to_border = SECTOR - (at + start) % SECTOR;
                    let end = (start + to_border).min(bytes.len());
                    if random() & 1 == 0 {
                        after.write(*file, at + start, &bytes[start..end]);
                    }
                    start = end;
                }
            }
        }
        for changes in &self.unflushed_names {
            if random() & 1 == 0 {
                apply(&mut after.durable_names, changes);
            }
        }
        after.into_storage()
    }

    fn write_cut(&mut self, file: usize, writes: &[(usize, Vec<u8>)], mut left: usize) {
        for (at, bytes) in writes {
            let len = bytes.len().min(left);
            if len > 0 {
                self.write(file, *at, &bytes[..len]);
            }
            left -= len;
        }
    }

    fn write(&mut self, file: usize, at: usize, bytes: &[u8]) {
        let contents = &mut self.durable[file];
        let end = at + bytes.len();
        if contents.len() < end {
            contents.resize(end, 0);
        }
        contents[at..end].copy_from_slice(bytes);
    }

    fn into_storage(self) -> FaultyStorage {
        let contents = |file: usize| self.durable.get(file).cloned().unwrap_or_default();
        let names = self.durable_names.iter();
        FaultyStorage::with_files(names.map(|(name, &file)| (name.clone(), contents(file))))
    }
}

fn apply(names: &mut Names, changes: &[Change]) {
    for (name, file) in changes {
        match file {
            Some(file) => names.insert(name.clone(), *file),
            None => names.remove(name),
        };
    }
}

impl Storage for FaultyStorage {
    fn path(&self) -> &Path {
        Path::new("memory")
    }

    fn try_lock(&mut self, _: &str) -> io::Result<bool> {
        Ok(true)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let prefix = match folder {
            "" => String::new(),
            folder => format!("{folder}/"),
        };
        let disk = self.disk();
        let names = disk
            .names
            .keys()
            .filter_map(|name| name.strip_prefix(&prefix));
        let names = names.filter(|name| !name.contains('/'));
        Ok(names.map(str::to_owned).collect())
    }

    fn read(&self, name: &str, max_bytes: u64) -> io::Result<Vec<u8>> {
        let file = self.existing(name)?;
        let disk = self.disk();
        let bytes = disk.files.get(file).map(Vec::as_slice).unwrap_or_default();
        let len = usize::try_from(max_bytes)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        Ok(bytes[..len].to_vec())
    }

    fn create(&self, name: &str, _: u64) -> io::Result<Box<dyn StorageFile>> {
        self.step("create")?;
        self.free(name)?;
        let file = {
            let mut disk = self.disk();
            disk.files.push(Vec::new());
            disk.files.len() - 1
        };
        self.change(vec![(name.to_owned(), Some(file))]);
        let storage = self.clone();
        Ok(Box::new(FaultyFile { storage, file }))
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.step("rename")?;
        self.free(to)?;
        let file = self.existing(from)?;
        self.change(vec![(to.to_owned(), Some(file)), (from.to_owned(), None)]);
        Ok(())
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.step("link")?;
        self.free(to)?;
        let file = self.existing(from)?;
        self.change(vec![(to.to_owned(), Some(file))]);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.step("remove")?;
        self.existing(name)?;
        self.change(vec![(name.to_owned(), None)]);
        Ok(())
    }

    fn make_folder(&self, _: &str) -> io::Result<()> {
        self.step("make folder").map(drop)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.step("sync folder")?;
        self.disk().done.push(Done::FlushedNames);
        Ok(())
    }
}

/// A file of a [`FaultyStorage`].
#[derive(Debug)]
struct FaultyFile {
    storage: FaultyStorage,
    file: usize,
}

impl FaultyFile {
    fn flush(&mut self, name: &'static str) -> io::Result<()> {
        let file = self.file;
        let fault = self.storage.step(name)?;
        let (done, outcome) = match fault {
            Some(Fault::Error(kind)) => (Done::FailedToFlush { file }, Err(kind.into())),
            _ => (Done::Flushed { file }, Ok(())),
        };
        self.storage.disk().done.push(done);
        outcome
    }
}

impl StorageFile for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fault = self.storage.step("write")?;
        let (len, outcome) = match fault {
            None => (bytes.len(), Ok(bytes.len())),
            Some(Fault::ShortWrite) => (bytes.len().min(1), Ok(bytes.len().min(1))),
            // An interrupted write has written nothing.
            Some(Fault::Error(io::ErrorKind::Interrupted)) => {
                (0, Err(io::ErrorKind::Interrupted.into()))
            }
            Some(Fault::Error(kind)) => (bytes.len() / 2, Err(kind.into())),
        };
        let mut disk = self.storage.disk();
        let contents = &mut disk.files[self.file];
        let at = contents.len();
        contents.extend(&bytes[..len]);
        let (file, bytes) = (self.file, bytes[..len].to_vec());
        disk.done.push(Done::Wrote { file, at, bytes });
        outcome
    }

    fn sync(&mut self) -> io::Result<()> {
        self.flush("sync")
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.flush("sync data")
    }
}
