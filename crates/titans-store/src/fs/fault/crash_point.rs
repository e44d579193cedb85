//! What a power loss leaves at one moment.

use std::collections::BTreeMap;

use super::happened::{Change, Done, Names};
use super::storage::FaultyStorage;

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

impl FaultyStorage {
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
}

fn apply(names: &mut Names, changes: &[Change]) {
    for (name, file) in changes {
        match file {
            Some(file) => names.insert(name.clone(), *file),
            None => names.remove(name),
        };
    }
}
