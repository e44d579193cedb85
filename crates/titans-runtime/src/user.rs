//! Who a memory belongs to, and the folder that this becomes.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use titans_store::ShardId;

use crate::error::{IoError, OpenError};
use crate::user_id::UserId;

/// Name of the folder of all users below a root.
pub(crate) const USERS: &str = "users";
/// Longest user id in bytes.
const MAX_USER_ID: usize = 1024;

/// The secret of a root folder, which turns user ids into folder names.
///
/// A keyed hash, so that neither a listing nor a file tells who a memory belongs to, and so
/// that no id can climb out of the root, collide by case or be too long for a file system.
pub(crate) struct RootKey(pub(crate) [u8; 32]);

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(..)")
    }
}

impl RootKey {
    /// The shard of a user.
    pub(crate) fn shard(&self, user: &UserId) -> Result<ShardId, OpenError> {
        let bytes = user.bytes();
        if bytes.is_empty() || bytes.len() > MAX_USER_ID {
            return Err(OpenError::UserId {
                found: bytes.len(),
                limit: MAX_USER_ID,
            });
        }
        let digest = blake3::keyed_hash(&self.0, &bytes);
        let mut id = [0; 16];
        id.copy_from_slice(&digest.as_bytes()[..16]);
        Ok(ShardId(id))
    }
}

/// The folder of a shard: `users/ab/cd/<28 hexadecimal digits>`, so that no folder holds
/// more than a few thousand names.
pub(crate) fn shard_dir(root: &Path, shard: ShardId) -> PathBuf {
    let name = shard.to_string();
    let (first, rest) = name.split_at(2);
    let (second, rest) = rest.split_at(2);
    root.join(USERS).join(first).join(second).join(rest)
}

/// Whether a root folder holds the folder of any user, with a memory in it or not.
pub(crate) fn holds_users(root: &Path) -> Result<bool, IoError> {
    Ok(!fan_out(&root.join(USERS))?.is_empty())
}

/// Every memory below a root, loaded or not, in the order of names.
pub(crate) fn shards_on_disk(root: &Path) -> Result<Vec<ShardId>, IoError> {
    let mut shards = Vec::new();
    let users = root.join(USERS);
    for first in fan_out(&users)? {
        for second in fan_out(&users.join(&first))? {
            shards.extend(shards_in(&users, &first, &second)?);
        }
    }
    Ok(shards)
}

/// The memories in one of the folders below that of all users, in the order of names.
pub(crate) fn shards_in(users: &Path, first: &str, second: &str) -> Result<Vec<ShardId>, IoError> {
    let names = names(&users.join(first).join(second))?;
    let shard = |rest: &String| {
        let name = format!("{first}{second}{rest}");
        let number = u128::from_str_radix(&name, 16).ok()?;
        // Only the exact form that is written counts.
        Some(ShardId(number.to_be_bytes())).filter(|id| id.to_string() == name)
    };
    Ok(names.iter().filter_map(shard).collect())
}

/// The names of two hexadecimal digits in a folder. Others, such as `lost+found`, are not of
/// a runtime, and may not even be readable.
pub(crate) fn fan_out(dir: &Path) -> Result<Vec<String>, IoError> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let mut names = names(dir)?;
    names.retain(|name| name.len() == 2 && name.bytes().all(is_hex));
    Ok(names)
}

/// The names in a folder in order; none when it is not there or is no folder.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, IoError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if is_no_folder(error.kind()) => return Ok(Vec::new()),
        entries => entries.map_err(IoError::of("list", dir))?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: io::Result<Vec<String>> = names.collect();
    let mut names = names.map_err(IoError::of("list", dir))?;
    names.sort_unstable();
    Ok(names)
}

fn is_no_folder(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_one_shard_per_root_and_no_name_on_disk() {
        let (one, other) = (RootKey([1; 32]), RootKey([2; 32]));
        let shard = |key: &RootKey, id: &str| key.shard(&id.into()).unwrap();
        let alice = shard(&one, "alice");
        assert_eq!(alice, shard(&one, "alice"));
        assert_ne!(alice, shard(&one, "Alice"));
        assert_ne!(alice, shard(&other, "alice"));

        let dir = shard_dir(Path::new("root"), shard(&one, "../../etc/passwd"));
        assert!(dir.starts_with("root/users"));
        assert_eq!(dir.components().count(), 5);
        assert!(!dir.to_string_lossy().contains("etc"));
    }

    #[test]
    fn an_id_keeps_its_place_on_disk() {
        let key = RootKey([1; 32]);
        for (id, name) in [
            (UserId::from("alice"), "02cb06b6470906e29f41dd7a2af4e011"),
            (UserId::from(42_u64), "c74944731e68aa09d1072a47c09b96bf"),
        ] {
            assert_eq!(key.shard(&id).unwrap().to_string(), name);
        }
    }

    #[test]
    fn an_id_must_have_a_length() {
        let key = RootKey([0; 32]);
        for id in [String::new(), "x".repeat(MAX_USER_ID + 1)] {
            let error = key.shard(&UserId::from(&id)).unwrap_err();
            assert!(matches!(error, OpenError::UserId { found, .. } if found == id.len()));
        }
    }
}
