//! How long a store encodes and flushes, and how often a flush fails.
//!
//! Counted at the door to the disk, so that no way of saving can forget to.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Entry, Storage, StorageFile};

/// What a [`MemoryStore`](crate::MemoryStore) has spent since it was opened. Take it before
/// and after a call, and the difference is what that call spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spent {
    /// Turning images and changes into bytes, without reading them back.
    pub encode: Duration,
    /// Flushing files and folders to the device.
    pub flush: Duration,
    /// Flushes that failed, those that a retry made good among them.
    pub flush_errors: u64,
}

impl Spent {
    /// What was spent after `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            encode: self.encode.saturating_sub(earlier.encode),
            flush: self.flush.saturating_sub(earlier.flush),
            flush_errors: self.flush_errors.saturating_sub(earlier.flush_errors),
        }
    }
}

/// Sums up what is spent. Relaxed throughout: the numbers order nothing.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    encode_nanos: AtomicU64,
    flush_nanos: AtomicU64,
    flush_errors: AtomicU64,
}

impl Meter {
    pub(crate) fn encode<T>(&self, encode: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let outcome = encode();
        add(&self.encode_nanos, started);
        outcome
    }

    pub(crate) fn spent(&self) -> Spent {
        let time = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Ordering::Relaxed));
        Spent {
            encode: time(&self.encode_nanos),
            flush: time(&self.flush_nanos),
            flush_errors: self.flush_errors.load(Ordering::Relaxed),
        }
    }

    fn flush(&self, flush: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let started = Instant::now();
        let outcome = flush();
        add(&self.flush_nanos, started);
        if outcome.is_err() {
            self.flush_errors.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }
}

fn add(nanos: &AtomicU64, started: Instant) {
    let elapsed = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    nanos.fetch_add(elapsed, Ordering::Relaxed);
}

/// A storage whose flushes are measured.
#[derive(Debug)]
pub(crate) struct Metered {
    storage: Box<dyn Storage>,
    meter: Arc<Meter>,
}

impl Metered {
    pub(crate) fn new(storage: Box<dyn Storage>, meter: &Arc<Meter>) -> Self {
        Self {
            storage,
            meter: Arc::clone(meter),
        }
    }
}

impl Storage for Metered {
    fn path(&self) -> &Path {
        self.storage.path()
    }

    fn try_lock(&mut self, name: &str) -> io::Result<bool> {
        self.storage.try_lock(name)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.storage.list(folder)
    }

    fn entries(&self, folder: &str) -> io::Result<Vec<Entry>> {
        self.storage.entries(folder)
    }

    fn read(&self, name: &str, max_bytes: u64) -> io::Result<Vec<u8>> {
        self.storage.read(name, max_bytes)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(MeteredFile {
            file: self.storage.create(name, len)?,
            meter: Arc::clone(&self.meter),
        }))
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.storage.rename_new(from, to)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.storage.link(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.storage.remove(name)
    }

    fn make_folder(&self, name: &str) -> io::Result<()> {
        self.storage.make_folder(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.meter.flush(|| self.storage.sync_folder())
    }

    fn sync_names(&self, folder: &str) -> io::Result<()> {
        self.meter.flush(|| self.storage.sync_names(folder))
    }
}

#[derive(Debug)]
struct MeteredFile {
    file: Box<dyn StorageFile>,
    meter: Arc<Meter>,
}

impl StorageFile for MeteredFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.meter.flush(|| self.file.sync())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.meter.flush(|| self.file.sync_data())
    }
}
