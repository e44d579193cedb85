//! What several commands must find out about a folder before they can begin.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use titans_store::{Generation, Limits, ShardId, UserKey, verify_dir_with};

use crate::outcome::Failure;

/// Folders below the one given. Memories lie two or three deep; deeper is a mistake.
const MAX_DEPTH: usize = 8;
/// The sub-folder in which a memory keeps files that are known to be damaged, and the one in
/// which a repair of the file system leaves things, which only the administrator may read.
const SKIPPED: [&str; 2] = ["quarantine", "lost+found"];

/// The folders in and below a folder that hold a lock or a generation, in the order of their
/// names. What cannot be listed is told, and the rest is looked at.
pub(crate) fn memories_below(dir: &Path, errors: &mut Vec<String>) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    find_below(dir, MAX_DEPTH, &mut folders, errors);
    folders
}

fn find_below(dir: &Path, depth: usize, found: &mut Vec<PathBuf>, errors: &mut Vec<String>) {
    let mut is_memory = false;
    let mut below = Vec::new();
    let mut look = || {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let file_type = entry.file_type()?;
            if file_type.is_dir() {
                below.extend((!SKIPPED.contains(&&*name)).then(|| entry.path()));
            } else if file_type.is_file() {
                is_memory |= name == "LOCK" || Generation::from_file_name(&name).is_some();
            }
        }
        Ok(())
    };
    let looked: io::Result<()> = look();
    if let Err(error) = looked {
        errors.push(format!("cannot list {}: {error}", dir.display()));
    }
    if is_memory {
        found.push(dir.to_owned());
    }
    if depth > 0 {
        below.sort();
        for dir in below {
            find_below(&dir, depth - 1, found, errors);
        }
    }
}

/// The owner of the memory in a folder, by its first file that is whole.
pub(crate) fn owner(dir: &Path, key: Option<&UserKey>) -> Result<ShardId, Failure> {
    let verdicts = verify_dir_with(dir, &Limits::default(), key)?;
    let nothing = || Failure(format!("there is no memory in {}", dir.display()));
    if let Some(shard) = verdicts.iter().find_map(|verdict| verdict.shard) {
        return Ok(shard);
    }
    let problem = verdicts.into_iter().find_map(|verdict| verdict.problem);
    Err(problem.map_or_else(nothing, Failure::from))
}

/// A shard from 32 hexadecimal digits.
pub(crate) fn parse_shard(digits: &str) -> Result<ShardId, Failure> {
    let wrong = || Failure(format!("{digits:?} is not 32 hexadecimal digits"));
    if digits.len() != 32 || !digits.is_ascii() {
        return Err(wrong());
    }
    let number = u128::from_str_radix(digits, 16).map_err(|_| wrong())?;
    Ok(ShardId(number.to_be_bytes()))
}
