//! The real disk, with a say in it: chosen steps fail, as they do on a full disk, or panic.
#![allow(dead_code)]

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use titans_runtime::StorageHook;
use titans_store::fs::{DiskStorage, Storage, StorageFile};

/// What becomes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The error of the operating system with this number.
    Error(i32),
    Panic,
}

/// No room on the device.
pub(crate) const ENOSPC: i32 = 28;
/// Too many open files.
pub(crate) const EMFILE: i32 = 24;
/// The device fails.
pub(crate) const EIO: i32 = 5;

/// Decides which steps of all folders fail. Clones decide the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Injector(Arc<Decisions>);

#[derive(Debug, Default)]
struct Decisions {
    steps: AtomicUsize,
    /// Steps from the first number up to the second fail.
    plan: Mutex<Option<(usize, usize, Fault)>>,
}

impl Injector {
    /// A hook for the configuration of a runtime.
    pub(crate) fn hook(&self) -> StorageHook {
        let injector = self.clone();
        StorageHook::new(move |path| {
            injector.step()?;
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

    /// Steps so far.
    pub(crate) fn steps(&self) -> usize {
        self.0.steps.load(Ordering::SeqCst)
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Option<(usize, usize, Fault)>> {
        self.0.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self) -> io::Result<()> {
        let step = self.0.steps.fetch_add(1, Ordering::SeqCst);
        let plan = *self.plan();
        match plan {
            Some((from, to, fault)) if (from..to).contains(&step) => match fault {
                Fault::Error(number) => Err(io::Error::from_raw_os_error(number)),
                Fault::Panic => panic!("step {step} of the disk panics"),
            },
            _ => Ok(()),
        }
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
        self.injector.step()?;
        self.disk.try_lock(name)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.injector.step()?;
        self.disk.list(folder)
    }

    fn read(&self, name: &str, max_bytes: u64) -> io::Result<Vec<u8>> {
        self.injector.step()?;
        self.disk.read(name, max_bytes)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn StorageFile>> {
        self.injector.step()?;
        let file = self.disk.create(name, len)?;
        let injector = self.injector.clone();
        Ok(Box::new(FailingFile { file, injector }))
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.injector.step()?;
        self.disk.rename_new(from, to)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.injector.step()?;
        self.disk.link(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.injector.step()?;
        self.disk.remove(name)
    }

    fn make_folder(&self, name: &str) -> io::Result<()> {
        self.injector.step()?;
        self.disk.make_folder(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.injector.step()?;
        self.disk.sync_folder()
    }
}

#[derive(Debug)]
struct FailingFile {
    file: Box<dyn StorageFile>,
    injector: Injector,
}

impl StorageFile for FailingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.injector.step()?;
        self.file.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.injector.step()?;
        self.file.sync()
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.injector.step()?;
        self.file.sync_data()
    }
}
