//! `titanmem rollback`: an older generation becomes the newest again.

use std::path::Path;

use serde::Serialize;
use titans_store::{FolderMode, Generation, MemoryStore, StoreConfig, UserKey};

use crate::folder;
use crate::outcome::{Failure, Format, Outcome};

#[derive(Debug, Serialize)]
struct RolledBack {
    to: u64,
    left_behind: Option<u64>,
    new_generation: u64,
    file: String,
}

pub(crate) fn run(
    dir: &Path,
    to: Option<u64>,
    folders: FolderMode,
    key: Option<UserKey>,
    format: Format,
) -> Result<Outcome, Failure> {
    let shard = folder::owner(dir, key.as_ref())?;
    let config = StoreConfig::default().with_folders(folders);
    let (mut store, recovery) = match key {
        Some(key) => MemoryStore::open_encrypted(dir, shard, config, key)?,
        None => MemoryStore::open(dir, shard, config)?,
    };
    let to = match to {
        Some(to) => Generation::new(to),
        None => store.last_known_good()?.ok_or_else(|| {
            Failure(format!(
                "no generation is pinned in {}; name one with --to",
                dir.display()
            ))
        })?,
    };
    let saved = store.roll_back_to(to)?;
    let done = RolledBack {
        to: to.number(),
        left_behind: recovery.generation.map(Generation::number),
        new_generation: saved.generation.number(),
        file: saved.path.display().to_string(),
    };
    let mut outcome = Outcome::of(&done, format, |done| {
        let (to, new) = (done.to, done.new_generation);
        format!(
            "generation {new} now holds what generation {to} held\n{}\n",
            done.file
        )
    });
    outcome
        .errors
        .extend(recovery.skipped.iter().map(ToString::to_string));
    Ok(outcome)
}
