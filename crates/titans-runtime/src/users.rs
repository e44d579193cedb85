//! Whose memories lie in a folder.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use titans_store::{FolderSummary, Limits, ShardId, StoreError, read_newest};

use crate::engine::Engine;
use crate::error::{IoError, OpenError};
use crate::user::{USERS, fan_out, shard_dir, shards_in};
use crate::user_id::UserId;

/// A user of whom something is kept.
///
/// The folder knows users by their hash alone. A program that knows their ids finds the one that
/// is meant by [`UserMemory::shard`](crate::UserMemory::shard).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredUser {
    /// Its name on disk.
    pub shard: ShardId,
    /// Its folder.
    pub path: PathBuf,
    /// Whether it is loaded in this runtime.
    pub is_open: bool,
    /// Bytes on disk, without backups.
    pub bytes: u64,
    /// When it was saved last, by the time of its newest file; `None` before the first save.
    pub last_saved: Option<SystemTime>,
    /// What is known to be damaged, a line each. Listing looks at names only: what is wrong inside
    /// a file is not here before something has read it. [`verify`](Self::verify) does.
    pub damage: Vec<String>,
}

impl StoredUser {
    /// Reads the newest generation and says what is wrong. Nothing is moved or changed, and
    /// whoever writes meanwhile is not held up.
    ///
    /// # Errors
    /// What is wrong with the newest generation that is there, if none is whole.
    pub fn verify(&self) -> Result<(), StoreError> {
        read_newest(&self.path, self.shard, &Limits::default())?;
        Ok(())
    }
}

/// The users of whom something is kept, one after the other, in the order of their names on disk.
///
/// Looks at one folder for each user that it returns, so it may be given up at any time. A
/// folder between the root and the users that cannot be listed is an error, once, and the others
/// follow behind it.
#[derive(Debug)]
pub struct Users {
    engine: Arc<Engine>,
    /// Folders to look into, the next one last.
    folders: Vec<Below>,
    /// Users found, the next one last.
    found: Vec<ShardId>,
}

/// A folder between the root and the folders of users.
#[derive(Debug)]
enum Below {
    First(String),
    Second(String, String),
}

impl Users {
    pub(crate) fn of(engine: &Arc<Engine>) -> Result<Self, OpenError> {
        let _inside = engine.enter()?;
        let first = fan_out(&engine.context.root.join(USERS))?;
        Ok(Self {
            engine: Arc::clone(engine),
            folders: first.into_iter().rev().map(Below::First).collect(),
            found: Vec::new(),
        })
    }

    fn look_into(&mut self, folder: Below) -> Result<(), IoError> {
        let users = self.engine.context.root.join(USERS);
        match folder {
            Below::First(first) => {
                let second = fan_out(&users.join(&first))?;
                let second = second.into_iter().rev();
                let below = second.map(|second| Below::Second(first.clone(), second));
                self.folders.extend(below);
            }
            Below::Second(first, second) => {
                self.found = shards_in(&users, &first, &second)?;
                self.found.reverse();
            }
        }
        Ok(())
    }
}

impl Iterator for Users {
    type Item = Result<StoredUser, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some(shard) = self.found.pop() {
                if let Some(user) = self.engine.stored(shard) {
                    return Some(Ok(user));
                }
            }
            let folder = self.folders.pop()?;
            if let Err(error) = self.look_into(folder) {
                return Some(Err(error.into()));
            }
        }
    }
}

impl Engine {
    /// Whether something is kept of a user.
    pub(crate) fn contains(&self, user: &UserId) -> Result<bool, OpenError> {
        let _inside = self.enter()?;
        let shard = self.key.shard(user)?;
        Ok(self.stored(shard).is_some())
    }

    /// What is kept of a user; `None` if nothing is.
    fn stored(&self, shard: ShardId) -> Option<StoredUser> {
        // A child of the process that opened the runtime may take no lock.
        let resident = match self.context.check_process() {
            Ok(()) => self.shards.find(shard),
            Err(_) => None,
        };
        let has_learned = resident
            .as_ref()
            .is_some_and(|resident| resident.accepted_tokens() > 0);
        let path = shard_dir(&self.context.root, shard);
        let mut user = StoredUser {
            shard,
            path,
            is_open: resident.is_some(),
            bytes: 0,
            last_saved: None,
            damage: Vec::new(),
        };
        match FolderSummary::of(&user.path) {
            Ok(summary) => {
                if summary.is_forgotten || !(has_learned || summary.holds_a_memory()) {
                    return None;
                }
                user.bytes = summary.bytes;
                user.last_saved = summary.last_saved;
                let lines = summary.damaged.iter();
                user.damage = lines
                    .map(|left| format!("{} {}", left.path.display(), left.reason))
                    .collect();
            }
            // Where there is no folder, there is no user; one that was taken away under an open
            // memory is made again.
            Err(_) if fs::symlink_metadata(&user.path).is_err() => {
                return has_learned.then_some(user);
            }
            Err(error) => user.damage.push(error.to_string()),
        }
        Some(user)
    }
}
