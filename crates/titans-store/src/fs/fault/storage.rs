//! The folder in memory: its steps, and which of them go wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::happened::{Change, Done, Names};
use crate::fs::{Entry, EntryKind, Storage, StorageFile};

/// What one step does instead of its work.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It fails with this error; a write half way, a flush after a third. `Other` is `EIO`, of
    /// which there is no kind.
    Error(io::ErrorKind),
    /// A write accepts one byte; other steps work.
    ShortWrite,
}

/// A folder in memory. Clones are the same folder.
#[derive(Clone, Default)]
pub struct FaultyStorage(Arc<Mutex<Disk>>);

#[derive(Default)]
pub(super) struct Disk {
    files: Vec<Vec<u8>>,
    names: Names,
    pub(super) done: Vec<Done>,
    steps: Vec<&'static str>,
    faults: BTreeMap<usize, Fault>,
    /// From which step on, and with what.
    refused: BTreeMap<&'static str, (usize, io::ErrorKind)>,
}

impl fmt::Debug for FaultyStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultyStorage")
            .field(&self.disk().names)
            .finish()
    }
}

impl FaultyStorage {
    pub(super) fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the `step`-th step from now on, counted from 0, go wrong.
    pub fn fail_at(&self, step: usize, fault: Fault) {
        let mut disk = self.disk();
        let step = disk.steps.len().saturating_add(step);
        disk.faults.insert(step, fault);
    }

    /// Lets every step of these names fail from now on, as on a full disk or a file system that
    /// cannot do them, until [`FaultyStorage::heal`].
    pub fn refuse(&self, steps: &[&'static str], kind: io::ErrorKind) {
        self.refuse_from(0, steps, kind);
    }

    /// [`FaultyStorage::refuse`] from the `step`-th step on, counted from 0.
    pub fn refuse_from(&self, step: usize, steps: &[&'static str], kind: io::ErrorKind) {
        let mut disk = self.disk();
        let step = disk.steps.len().saturating_add(step);
        let refused = steps.iter().map(|&name| (name, (step, kind)));
        disk.refused.extend(refused);
    }

    /// Lets every later step succeed.
    pub fn heal(&self) {
        let mut disk = self.disk();
        disk.refused.clear();
        disk.faults.clear();
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

    fn step(&self, name: &'static str) -> io::Result<Option<Fault>> {
        let mut disk = self.disk();
        let step = disk.steps.len();
        disk.steps.push(name);
        let refused = disk.refused.get(name).copied();
        let refused = refused.filter(|(from, _)| step >= *from);
        let refused = refused.map(|(_, kind)| Fault::Error(kind));
        match refused.or(disk.faults.get(&step).copied()) {
            Some(Fault::Error(kind)) if !matches!(name, "write" | "sync" | "sync data") => {
                Err(error_of(kind))
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

    fn entries(&self, folder: &str) -> io::Result<Vec<Entry>> {
        let prefix = match folder {
            "" => String::new(),
            folder => format!("{folder}/"),
        };
        let disk = self.disk();
        let mut entries = Vec::new();
        let mut folders = BTreeSet::new();
        for (name, &file) in &disk.names {
            let Some(name) = name.strip_prefix(&prefix) else {
                continue;
            };
            match name.split_once('/') {
                Some((folder, _)) => drop(folders.insert(folder.to_owned())),
                None => entries.push(Entry {
                    name: name.to_owned(),
                    kind: EntryKind::File,
                    bytes: disk.files.get(file).map_or(0, Vec::len) as u64,
                }),
            }
        }
        entries.extend(folders.into_iter().map(|name| Entry {
            name,
            kind: EntryKind::Folder,
            bytes: 0,
        }));
        Ok(entries)
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
            Some(Fault::Error(kind)) => (Done::FailedToFlush { file }, Err(error_of(kind))),
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
            Some(Fault::Error(kind)) => (bytes.len() / 2, Err(error_of(kind))),
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

fn error_of(kind: io::ErrorKind) -> io::Error {
    match kind {
        io::ErrorKind::Other => rustix::io::Errno::IO.into(),
        kind => kind.into(),
    }
}
