//! `titanmem users`: whose memories lie below a folder.

use std::fmt::Write;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::Serialize;
use titans_store::{FolderSummary, ShardId, UserKey};

use crate::date;
use crate::folder::{memories_below, owner, parse_shard};
use crate::outcome::{Failure, Format, Outcome};

#[derive(Debug, Serialize)]
struct Users {
    users: Vec<User>,
}

#[derive(Debug, Serialize)]
struct User {
    /// Absent where neither the folder's name nor a file tells.
    shard: Option<String>,
    folder: String,
    bytes: u64,
    generations: usize,
    /// Seconds since 1970.
    last_saved_unix: Option<u64>,
    /// What is known to be damaged.
    damaged: Vec<String>,
}

pub(crate) fn run(dir: &Path, key: Option<&UserKey>, format: Format) -> Result<Outcome, Failure> {
    let mut errors = Vec::new();
    let folders = memories_below(dir, &mut errors);
    let mut users = Vec::new();
    for folder in folders {
        match FolderSummary::of(&folder) {
            Ok(summary) if summary.holds_a_memory() => {
                users.push(User::of(&folder, &summary, key));
            }
            Ok(_) => {}
            Err(error) => errors.push(error.to_string()),
        }
    }
    if users.is_empty() && errors.is_empty() {
        return Err(Failure(format!("there is no memory in {}", dir.display())));
    }
    errors.extend(users.iter().flat_map(|user| user.damaged.clone()));
    let mut outcome = Outcome::of(&Users { users }, format, in_words);
    outcome.errors.extend(errors);
    Ok(outcome)
}

impl User {
    fn of(folder: &Path, summary: &FolderSummary, key: Option<&UserKey>) -> Self {
        let saved = summary.last_saved.and_then(|saved| {
            let since = saved.duration_since(UNIX_EPOCH).ok()?;
            Some(since.as_secs())
        });
        let damaged = summary.damaged.iter();
        let damaged = damaged.map(|left| format!("{} {}", left.path.display(), left.reason));
        let shard = named(folder).or_else(|| owner(folder, key).ok());
        Self {
            shard: shard.map(|shard| shard.to_string()),
            folder: folder.display().to_string(),
            bytes: summary.bytes,
            generations: summary.generations,
            last_saved_unix: saved,
            damaged: damaged.collect(),
        }
    }
}

/// The memory that a runtime keeps under this path: the last three names are its digits.
fn named(folder: &Path) -> Option<ShardId> {
    let mut names = folder.iter().rev();
    let mut name = || names.next()?.to_str();
    let (rest, second, first) = (name()?, name()?, name()?);
    parse_shard(&format!("{first}{second}{rest}")).ok()
}

fn in_words(users: &Users) -> String {
    let mut text = format!("{:<32}  {:>12}  last saved\n", "user", "bytes");
    for user in &users.users {
        let name = user.shard.as_ref().unwrap_or(&user.folder);
        let saved = user.last_saved_unix.map_or("-".to_owned(), date::describe);
        let damaged = match user.damaged.is_empty() {
            true => "",
            false => "  DAMAGED",
        };
        let _ = writeln!(text, "{name:<32}  {:>12}  {saved}{damaged}", user.bytes);
    }
    let bytes: u64 = users.users.iter().map(|user| user.bytes).sum();
    let plural = match users.users.len() {
        1 => "",
        _ => "s",
    };
    let _ = writeln!(text, "{} user{plural}, {bytes} bytes", users.users.len());
    text
}
