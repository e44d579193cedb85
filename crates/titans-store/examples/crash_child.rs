//! The program that `scripts/block_crash.py` cuts the power of.
//!
//! `save DIR KIND` saves snapshots and records, printing each number once it is acknowledged;
//! KIND `no-file-sync` or `no-folder-sync` leaves that flush out. `check DIR` prints the number
//! that opens, and fails if anything is torn.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use titans_store::fs::{DiskStorage, Storage, StorageFile};
use titans_store::{
    ChoiceRecord, MemoryImage, MemoryStore, ModelRecord, SaveMode, ShardId, StoreConfig,
    TensorRecord, TensorRole,
};

const SHARD: ShardId = ShardId([3; 16]);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["save", dir, broken] => save(Path::new(dir), broken),
        ["check", dir] => check(Path::new(dir)),
        _ => Err("usage: crash_child save DIR KIND | check DIR".into()),
    }
}

fn save(dir: &Path, broken: &str) -> Result<(), Box<dyn Error>> {
    // Two sessions: whole files, then a base and records.
    for mode in [SaveMode::Snapshot, SaveMode::Journal] {
        let config = StoreConfig::default().with_mode(mode);
        let storage = Lazy {
            disk: DiskStorage::create(dir)?,
            flushes_files: broken != "no-file-sync",
            flushes_folder: broken != "no-folder-sync",
        };
        let (mut store, recovery) = MemoryStore::open_on(Box::new(storage), SHARD, config)?;
        let start = recovery.image.map_or(0, |image| image.last_chunk_id);
        for chunk in start + 1..=start + 8 {
            let saved = store.save(&image(chunk))?;
            if chunk % 4 == 0 {
                store.pin_last_known_good(saved.generation)?;
            }
            println!("{}", saved.generation);
            io::stdout().flush()?;
        }
    }
    Ok(())
}

fn check(dir: &Path) -> Result<(), Box<dyn Error>> {
    if !dir.exists() {
        println!("0");
        return Ok(());
    }
    let (mut store, recovery) = MemoryStore::open(dir, SHARD, StoreConfig::default())?;
    if let Some(skipped) = recovery.skipped.first() {
        return Err(format!("torn: {skipped}").into());
    }
    let number = recovery
        .generation
        .map_or(0, |generation| generation.number());
    if let Some(found) = recovery.image {
        if found.last_chunk_id != number || found != image(number) {
            return Err(format!("generation {number} is not what was saved").into());
        }
        store.save(&image(number + 1))?;
    }
    println!("{number}");
    Ok(())
}

/// The memory after `chunk` chunks, which is also the number of its generation.
fn image(chunk: u64) -> MemoryImage {
    let choice = || ChoiceRecord {
        name: "l2".to_owned(),
        params: BTreeMap::new(),
    };
    let value = |n: u64| {
        let learned = if n % 50 < chunk {
            chunk as f32 * 1e-3
        } else {
            0.0
        };
        (n as f32 * 0.7).sin() * 0.03 + learned
    };
    MemoryImage {
        shard: SHARD,
        model: ModelRecord {
            preset: "titans".to_owned(),
            architecture: choice(),
            attentional_bias: choice(),
            retention_gate: choice(),
            learning_algorithm: choice(),
        },
        base_digest: [1; 32],
        model_digest: None,
        last_chunk_id: chunk,
        tokens_seen: 512 * chunk,
        tokens_written: 20 * chunk,
        scalars: BTreeMap::new(),
        tensors: vec![TensorRecord {
            name: "w".to_owned(),
            role: TensorRole::Weights,
            shape: vec![100, 200],
            values: (0..20_000).map(value).collect(),
        }],
        recall: None,
        created_unix: chunk,
        rolled_back_from: None,
        extra: BTreeMap::new(),
    }
}

/// A disk that leaves out one kind of flush.
struct Lazy {
    disk: DiskStorage,
    flushes_files: bool,
    flushes_folder: bool,
}

impl fmt::Debug for Lazy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lazy")
    }
}

impl Storage for Lazy {
    fn path(&self) -> &Path {
        self.disk.path()
    }

    fn try_lock(&mut self, name: &str) -> io::Result<bool> {
        self.disk.try_lock(name)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.disk.list(folder)
    }

    fn read(&self, name: &str, max_bytes: u64) -> io::Result<Vec<u8>> {
        self.disk.read(name, max_bytes)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn StorageFile>> {
        let file = self.disk.create(name, len)?;
        let flushes = self.flushes_files;
        Ok(Box::new(LazyFile { file, flushes }))
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename_new(from, to)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.link(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn make_folder(&self, name: &str) -> io::Result<()> {
        self.disk.make_folder(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        match self.flushes_folder {
            true => self.disk.sync_folder(),
            false => Ok(()),
        }
    }
}

#[derive(Debug)]
struct LazyFile {
    file: Box<dyn StorageFile>,
    flushes: bool,
}

impl StorageFile for LazyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.flushes {
            true => self.file.sync(),
            false => Ok(()),
        }
    }

    fn sync_data(&mut self) -> io::Result<()> {
        match self.flushes {
            true => self.file.sync_data(),
            false => Ok(()),
        }
    }
}
