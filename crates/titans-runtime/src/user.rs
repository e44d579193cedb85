//! Who a memory belongs to, and the folder that this becomes.

use std::fmt;
use std::path::{Path, PathBuf};

use titans_store::ShardId;

use crate::error::RuntimeError;

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
    pub(crate) fn shard(&self, user: &str) -> Result<ShardId, RuntimeError> {
        if user.is_empty() || user.len() > MAX_USER_ID {
            return Err(RuntimeError::UserId {
                found: user.len(),
                limit: MAX_USER_ID,
            });
        }
        let digest = blake3::keyed_hash(&self.0, user.as_bytes());
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
    root.join("users").join(first).join(second).join(rest)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_one_shard_per_root_and_no_name_on_disk() {
        let (one, other) = (RootKey([1; 32]), RootKey([2; 32]));
        let alice = one.shard("alice").unwrap();
        assert_eq!(alice, one.shard("alice").unwrap());
        assert_ne!(alice, one.shard("Alice").unwrap());
        assert_ne!(alice, other.shard("alice").unwrap());

        let dir = shard_dir(Path::new("root"), one.shard("../../etc/passwd").unwrap());
        assert!(dir.starts_with("root/users"));
        assert_eq!(dir.components().count(), 5);
        assert!(!dir.to_string_lossy().contains("etc"));
    }

    #[test]
    fn an_id_must_have_a_length() {
        let key = RootKey([0; 32]);
        for id in [String::new(), "x".repeat(MAX_USER_ID + 1)] {
            let error = key.shard(&id).unwrap_err();
            assert!(matches!(error, RuntimeError::UserId { found, .. } if found == id.len()));
        }
    }
}
