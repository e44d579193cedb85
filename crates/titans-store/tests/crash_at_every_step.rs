//! For every step a save asks of the disk: let it fail, or lose power after it. What opens
//! afterwards is the old generation or the new one, and an acknowledged one is never lost.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use common::{SHARD, image_at};
use titans_store::fs::{Storage, StorageFile};
use titans_store::{MemoryStore, Recovery, StoreConfig, StoreError};

type File = Arc<Mutex<Contents>>;
type Names = BTreeMap<String, File>;

/// What programs see and what a power loss leaves.
#[derive(Debug, Default)]
struct Contents {
    seen: Vec<u8>,
    durable: Vec<u8>,
}

/// A folder in memory that forgets what was not flushed.
#[derive(Debug, Default)]
struct Disk {
    seen: Names,
    durable: Names,
    /// Names as they stood before each change since the last flush of the folder: a file
    /// system may have made any of these durable by itself.
    between: Vec<Names>,
    steps: usize,
    fault: Option<Fault>,
    trace: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Step `n` fails with this error; later ones work.
    Error(usize, io::ErrorKind),
    /// Step `n` and all after it fail: the machine is gone.
    PowerLoss(usize),
}

#[derive(Clone, Debug, Default)]
struct MemoryFolder(Arc<Mutex<Disk>>);

impl MemoryFolder {
    fn arm(&self, fault: Option<Fault>) {
        let mut disk = self.0.lock().unwrap();
        disk.fault = fault;
        disk.steps = 0;
        disk.trace.clear();
    }

    fn steps(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().trace.clone()
    }

    fn step(&self, name: &'static str) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.trace.push(name);
        let step = disk.steps;
        disk.steps += 1;
        match disk.fault {
            Some(Fault::Error(at, kind)) if at == step => Err(kind.into()),
            Some(Fault::PowerLoss(at)) if at <= step => Err(io::Error::other("power loss")),
            _ => Ok(()),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Names) -> io::Result<()>) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let before = disk.seen.clone();
        change(&mut disk.seen)?;
        disk.between.push(before);
        Ok(())
    }

    /// Every folder that a power loss at this moment may leave.
    fn after_power_loss(&self) -> Vec<MemoryFolder> {
        let disk = self.0.lock().unwrap();
        let mut states = disk.between.clone();
        states.extend([disk.durable.clone(), disk.seen.clone()]);
        let survived = |names: Names| {
            let names: Names = names
                .into_iter()
                .map(|(name, file)| {
                    let durable = file.lock().unwrap().durable.clone();
                    let contents = Contents {
                        seen: durable.clone(),
                        durable,
                    };
                    (name, Arc::new(Mutex::new(contents)))
                })
                .collect();
            MemoryFolder(Arc::new(Mutex::new(Disk {
                seen: names.clone(),
                durable: names,
                ..Disk::default()
            })))
        };
        states.into_iter().map(survived).collect()
    }
}

impl Storage for MemoryFolder {
    fn path(&self) -> &Path {
        Path::new("memory")
    }

    fn try_lock(&mut self, _: &str) -> io::Result<bool> {
        Ok(true)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let disk = self.0.lock().unwrap();
        let prefix = if folder.is_empty() {
            String::new()
        } else {
            format!("{folder}/")
        };
        let names = disk
            .seen
            .keys()
            .filter_map(|name| name.strip_prefix(&prefix));
        Ok(names
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
            .collect())
    }

    fn read(&self, name: &str, max_bytes: u64) -> io::Result<Vec<u8>> {
        let disk = self.0.lock().unwrap();
        let file = disk.seen.get(name).ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = file.lock().unwrap().seen.clone();
        bytes.truncate(max_bytes as usize);
        Ok(bytes)
    }

    fn create(&self, name: &str, _: u64) -> io::Result<Box<dyn StorageFile>> {
        self.step("create")?;
        let file = File::default();
        self.change(|names| match names.insert(name.to_owned(), file.clone()) {
            None => Ok(()),
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
        })?;
        Ok(Box::new(MemoryFile {
            file,
            folder: self.clone(),
        }))
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.step("rename")?;
        self.change(|names| {
            if names.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let file = names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            names.insert(to.to_owned(), file);
            Ok(())
        })
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.step("link")?;
        self.change(|names| {
            let file = names.get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
            match names.insert(to.to_owned(), file) {
                None => Ok(()),
                Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            }
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.step("remove")?;
        self.change(|names| match names.remove(name) {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        })
    }

    fn make_folder(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.step("sync folder")?;
        let mut disk = self.0.lock().unwrap();
        disk.durable = disk.seen.clone();
        disk.between.clear();
        Ok(())
    }
}

struct MemoryFile {
    file: File,
    folder: MemoryFolder,
}

impl StorageFile for MemoryFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.folder.step("write");
        // A write that fails, fails half way.
        let len = if written.is_ok() {
            bytes.len()
        } else {
            bytes.len() / 2
        };
        self.file.lock().unwrap().seen.extend(&bytes[..len]);
        written
    }

    fn sync(&mut self) -> io::Result<()> {
        let synced = self.folder.step("sync");
        let mut file = self.file.lock().unwrap();
        // A flush that fails has flushed some of it, and drops the rest for good.
        let len = if synced.is_ok() {
            file.seen.len()
        } else {
            file.seen.len() / 3
        };
        file.durable = file.seen[..len].to_vec();
        synced
    }
}

fn open(folder: &MemoryFolder) -> (MemoryStore, Recovery) {
    MemoryStore::open_on(Box::new(folder.clone()), SHARD, StoreConfig::default()).unwrap()
}

/// A folder with five durable saves, so that the next one prunes too.
fn settled() -> (MemoryFolder, MemoryStore) {
    let folder = MemoryFolder::default();
    let (mut store, _) = open(&folder);
    for chunk in 1..=5 {
        store.save(&image_at(chunk)).unwrap();
    }
    folder.sync_folder().unwrap();
    folder.arm(None);
    (folder, store)
}

fn chunk_of(recovery: &Recovery) -> u64 {
    recovery
        .image
        .as_ref()
        .expect("something opens")
        .last_chunk_id
}

/// The steps of one undisturbed save.
fn steps_of_a_save() -> Vec<&'static str> {
    let (folder, mut store) = settled();
    store.save(&image_at(6)).unwrap();
    folder.steps()
}

#[test]
fn a_save_flushes_contents_before_the_name_and_the_name_before_the_acknowledgement() {
    let steps = ["create", "write", "sync", "rename", "sync folder", "remove"];
    assert_eq!(steps_of_a_save(), steps);
}

#[test]
fn power_loss_leaves_the_old_generation_or_the_new_one() {
    for at in 0..=steps_of_a_save().len() {
        let (folder, mut store) = settled();
        folder.arm(Some(Fault::PowerLoss(at)));
        let acknowledged = store.save(&image_at(6)).is_ok();
        for survivor in folder.after_power_loss() {
            let (mut store, recovery) = open(&survivor);
            let chunk = chunk_of(&recovery);
            assert!(
                chunk == 6 || chunk == 5 && !acknowledged,
                "power loss at step {at}: {chunk}"
            );
            assert!(recovery.skipped.is_empty(), "{:?}", recovery.skipped);
            store.save(&image_at(7)).unwrap();
            drop(store);
            assert_eq!(chunk_of(&open(&survivor).1), 7);
        }
    }
}

#[test]
fn one_failed_step_costs_one_save_at_most() {
    for (at, name) in steps_of_a_save().into_iter().enumerate() {
        let (folder, mut store) = settled();
        folder.arm(Some(Fault::Error(at, io::ErrorKind::Other)));
        let outcome = store.save(&image_at(6));
        match name {
            // Retried with a new file, or not worth failing for.
            "create" | "write" | "sync" | "remove" => assert!(outcome.is_ok(), "{name}"),
            "sync folder" => assert!(matches!(outcome, Err(StoreError::NotDurable { .. }))),
            _ => assert!(matches!(
                outcome,
                Err(StoreError::Io { action: "name", .. })
            )),
        }
        folder.arm(None);
        store.save(&image_at(7)).unwrap();
        let left = folder.list("").unwrap();
        assert!(
            left.iter().all(|name| !name.starts_with(".tmp-")),
            "{name}: {left:?}"
        );
        for survivor in folder.after_power_loss() {
            assert_eq!(chunk_of(&open(&survivor).1), 7, "{name}");
        }
    }
}

#[test]
fn a_file_whose_flush_failed_is_never_flushed_again() {
    let (folder, mut store) = settled();
    folder.arm(Some(Fault::Error(2, io::ErrorKind::Other)));
    store.save(&image_at(6)).unwrap();
    let steps = folder.steps();
    assert_eq!(
        steps[..7],
        [
            "create", "write", "sync", "remove", "create", "write", "sync"
        ]
    );
    for survivor in folder.after_power_loss() {
        assert_eq!(chunk_of(&open(&survivor).1), 6);
    }
}

#[test]
fn a_full_disk_gives_up_quarantined_files_first() {
    let (folder, store) = settled();
    drop(store);
    let damaged = folder.0.lock().unwrap().seen["g-00000000000000000005.titanmem"].clone();
    damaged.lock().unwrap().seen[100] ^= 1;
    let (mut store, recovery) = open(&folder);
    assert_eq!((chunk_of(&recovery), recovery.skipped.len()), (4, 1));
    assert_eq!(folder.list("quarantine").unwrap().len(), 1);
    folder.arm(Some(Fault::Error(0, io::ErrorKind::StorageFull)));
    assert_eq!(store.save(&image_at(6)).unwrap().generation.number(), 6);
    assert_eq!(folder.list("quarantine").unwrap().len(), 0);
}

#[test]
fn a_writer_that_lost_its_lock_is_refused() {
    let (folder, mut first) = settled();
    // This storage locks nothing, as a broken network file system would.
    let (mut second, _) = open(&folder);
    second.save(&image_at(60)).unwrap();
    let error = first.save(&image_at(6)).unwrap_err();
    assert!(matches!(error, StoreError::Overtaken { .. }), "{error}");
    assert_eq!(chunk_of(&open(&folder).1), 60);
}

#[test]
fn power_loss_while_pinning_leaves_a_pin() {
    for at in 0..4 {
        let (folder, mut store) = settled();
        let generations = store.generations().unwrap();
        store.pin_last_known_good(generations[0]).unwrap();
        folder.arm(Some(Fault::PowerLoss(at)));
        let _ = store.pin_last_known_good(generations[1]);
        for survivor in folder.after_power_loss() {
            let (store, _) = open(&survivor);
            let pinned = store.last_known_good().unwrap().expect("a pin survives");
            store.load(pinned).unwrap();
        }
    }
}
