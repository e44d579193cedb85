//! The real disk, with a say in it: chosen steps fail, as they do on a full disk, or panic.
#![allow(dead_code)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use titans_runtime::StorageHook;
use titans_store::fs::{DiskStorage, Storage, StorageFile};

/// What becomes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The error of the operating system with this number.
    Error(i32),
    Panic,
}

/// What a step that panics says.
pub(crate) const PANIC: &str = "a step of the disk panics";

/// No room on the device.
pub(crate) const ENOSPC: i32 = 28;
/// Too many open files.
pub(crate) const EMFILE: i32 = 24;
/// The device fails.
pub(crate) const EIO: i32 = 5;
/// The device has become read-only.
pub(crate) const EROFS: i32 = 30;
/// The user's quota is used up.
pub(crate) const EDQUOT: i32 = 122;

/// Decides which steps of all folders fail. Clones decide the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Injector(Arc<Decisions>);

#[derive(Debug, Default)]
struct Decisions {
    steps: AtomicUsize,
    /// Steps from the first number up to the second fail.
    plan: Mutex<Option<(usize, usize, Fault)>>,
    /// Steps that failed.
    failed: AtomicUsize,
    /// The folders in which a step panicked, in order.
    panicked: Mutex<Vec<PathBuf>>,
    /// Whoever holds it keeps folders from being opened.
    openings: Mutex<()>,
    /// Whoever holds it keeps files from being written.
    saves: Mutex<()>,
}

impl Injector {
    /// A hook for the configuration of a runtime.
    pub(crate) fn hook(&self) -> StorageHook {
        let injector = self.clone();
        StorageHook::new(move |path| {
            drop(injector.hold_openings());
            injector.step(path)?;
            let disk = Box::new(DiskStorage::create(path)?);
            let injector = injector.clone();
            Ok(Box::new(Failing { disk, injector }) as Box<dyn Storage>)
        })
    }

    /// Every step fails from now on.
    pub(crate) fn fail(&self, fault: Fault) {
        self.fail_steps(0, usize::MAX, fault);
    }

    /// `count` steps fail after `after` more have gone well.
    pub(crate) fn fail_steps(&self, after: usize, count: usize, fault: Fault) {
        let from = self.steps().saturating_add(after);
        let plan = (from, from.saturating_add(count), fault);
        *self.plan() = Some(plan);
    }

    /// Every step goes well from now on.
    pub(crate) fn heal(&self) {
        *self.plan() = None;
    }

    /// Folders are not opened as long as this exists.
    pub(crate) fn hold_openings(&self) -> MutexGuard<'_, ()> {
        let openings = self.0.openings.lock();
        openings.unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is saved as long as this exists.
    pub(crate) fn hold_saves(&self) -> MutexGuard<'_, ()> {
        let saves = self.0.saves.lock();
        saves.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether steps fail now or will.
    pub(crate) fn is_armed(&self) -> bool {
        self.plan().is_some()
    }

    /// Steps so far.
    pub(crate) fn steps(&self) -> usize {
        self.0.steps.load(Ordering::SeqCst)
    }

    fn plan(&self) -> MutexGuard<'_, Option<(usize, usize, Fault)>> {
        self.0.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Steps that failed so far.
    pub(crate) fn failed(&self) -> usize {
        self.0.failed.load(Ordering::SeqCst)
    }

    /// The folders in which a step panicked, in order.
    pub(crate) fn panicked(&self) -> Vec<PathBuf> {
        let panicked = self.0.panicked.lock();
        panicked.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn step(&self, folder: &Path) -> io::Result<()> {
        match self.fault() {
            None => Ok(()),
            Some(Fault::Error(number)) => {
                self.0.failed.fetch_add(1, Ordering::SeqCst);
                Err(io::Error::from_raw_os_error(number))
            }
            Some(Fault::Panic) => {
                let panicked = self.0.panicked.lock();
                let mut panicked = panicked.unwrap_or_else(PoisonError::into_inner);
                panicked.push(folder.to_owned());
                drop(panicked);
                panic!("{PANIC}")
            }
        }
    }

    /// A step that reads. That the device cannot read a file is told by the same number as that
    /// it cannot write; but a file that cannot be read is a damaged one, and an older
    /// generation takes its place. That is another matter than a disk that refuses for a while.
    fn read_step(&self, folder: &Path) -> io::Result<()> {
        let plan = *self.plan();
        match plan {
            Some((_, _, Fault::Error(EIO))) => Ok(()),
            _ => self.step(folder),
        }
    }

    fn fault(&self) -> Option<Fault> {
        let step = self.0.steps.fetch_add(1, Ordering::SeqCst);
        let plan = *self.plan();
        let (from, to, fault) = plan?;
        (from..to).contains(&step).then_some(fault)
    }
}

#[derive(Debug)]
struct Failing {
    disk: Box<dyn Storage>,
    injector: Injector,
}

impl Storage for Failing {
    fn path(&self) -> &Path {
        self.disk.path()
    }

    fn try_lock(&mut self, name: &str) -> io::Result<bool> {
        self.injector.step(self.disk.path())?;
        self.disk.try_lock(name)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.injector.step(self.disk.path())?;
        self.disk.list(folder)
    }

    fn read(&self, name: &str, max_bytes: u64) -> io::Result<Vec<u8>> {
        self.injector.read_step(self.disk.path())?;
        self.disk.read(name, max_bytes)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn StorageFile>> {
        self.injector.step(self.disk.path())?;
        let file = self.disk.create(name, len)?;
        let injector = self.injector.clone();
        let folder = self.disk.path().to_owned();
        Ok(Box::new(FailingFile {
            file,
            folder,
            injector,
        }))
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.injector.step(self.disk.path())?;
        self.disk.rename_new(from, to)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.injector.step(self.disk.path())?;
        self.disk.link(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.injector.step(self.disk.path())?;
        self.disk.remove(name)
    }

    fn make_folder(&self, name: &str) -> io::Result<()> {
        self.injector.step(self.disk.path())?;
        self.disk.make_folder(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.injector.step(self.disk.path())?;
        self.disk.sync_folder()
    }
}

#[derive(Debug)]
struct FailingFile {
    file: Box<dyn StorageFile>,
    folder: PathBuf,
    injector: Injector,
}

impl StorageFile for FailingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        drop(self.injector.hold_saves());
        self.injector.step(&self.folder)?;
        self.file.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.injector.step(&self.folder)?;
        self.file.sync()
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.injector.step(&self.folder)?;
        self.file.sync_data()
    }
}
