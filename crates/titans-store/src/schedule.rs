//! When a memory was backed up last, and where to: a small file beside its generations.
//!
//! It is written as generations are, so it survives what they survive. A file that does not
//! read is treated as absent: then a backup is due, which errs on the safe side.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::fs::{DiskStorage, Storage, write_whole};
use crate::image::ShardId;

/// Name of the file.
pub(crate) const FILE: &str = "backups.msgpack";
pub(crate) const NEW_FILE: &str = ".tmp-backups";
/// A list of paths; more is not one of ours.
const MAX_BYTES: u64 = 1 << 20;

/// When a memory was backed up last, and where to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSchedule {
    /// When the last backup was verified, in seconds since 1970.
    #[serde(default)]
    pub last_unix: Option<u64>,
    /// The backups that are known, oldest first. [`forget`](crate::forget) removes them.
    #[serde(default)]
    pub backups: Vec<PathBuf>,
}

impl BackupSchedule {
    /// The schedule of the memory in `dir`; empty when there is none or it does not read.
    ///
    /// # Errors
    /// What the operating system says, except that the file is absent.
    pub fn load(dir: &Path) -> Result<Self, StoreError> {
        let bytes = read(dir)?.unwrap_or_default();
        Ok(rmp_serde::from_slice(&bytes).unwrap_or_default())
    }

    /// Whether the next backup is due: `every` has passed since the last one.
    ///
    /// The first one is due at a moment of its own within `every`, which depends on the
    /// shard, so that a thousand memories do not back up at once. A last backup that lies in
    /// the future means that the clock went back, and counts as none.
    pub fn is_due(&self, shard: ShardId, every: Duration, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        match self.last_unix.map(Duration::from_secs) {
            Some(last) if last <= now => now - last >= every,
            _ => {
                let every = every.as_secs().max(1);
                let hash = blake3::hash(&shard.0);
                let hash = hash
                    .as_bytes()
                    .first_chunk()
                    .map_or(0, |hash| u64::from_le_bytes(*hash));
                // Due in the second half of each period at the latest, and from its own
                // moment on.
                now.as_secs() % every >= hash % every.div_ceil(2)
            }
        }
    }

    /// Notes a backup that was verified at `now`, durably.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn record(dir: &Path, backup: &Path, now: SystemTime) -> Result<Self, StoreError> {
        let mut schedule = Self::load(dir)?;
        let backup = std::path::absolute(backup).map_err(io_error("resolve", backup))?;
        schedule.backups.retain(|known| *known != backup);
        schedule.backups.push(backup);
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        schedule.last_unix = Some(now.as_secs());
        schedule.store(dir)?;
        Ok(schedule)
    }

    /// Backups in `folder` beyond the newest `keep` there, oldest first. What a person has
    /// put elsewhere is not counted. The caller removes the files and then calls
    /// [`BackupSchedule::take_off`].
    pub fn expired(&self, folder: &Path, keep: usize) -> Vec<PathBuf> {
        let inside = |backup: &&PathBuf| backup.parent() == Some(folder);
        let inside: Vec<_> = self.backups.iter().filter(inside).cloned().collect();
        let count = inside.len().saturating_sub(keep);
        inside.into_iter().take(count).collect()
    }

    /// Takes backups that were removed off the list, durably.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn take_off(dir: &Path, removed: &[PathBuf]) -> Result<Self, StoreError> {
        let mut schedule = Self::load(dir)?;
        schedule.backups.retain(|backup| !removed.contains(backup));
        schedule.store(dir)?;
        Ok(schedule)
    }

    fn store(&self, dir: &Path) -> Result<(), StoreError> {
        let bytes = rmp_serde::to_vec_named(self)
            .map_err(|source| StoreError::HeaderUnwritable { source })?;
        let write = || {
            let storage = DiskStorage::open(dir)?;
            match storage.remove(NEW_FILE) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = storage.create(NEW_FILE, bytes.len() as u64)?;
            write_whole(&mut *file, &bytes)?;
            file.sync()?;
            std::fs::rename(dir.join(NEW_FILE), dir.join(FILE))?;
            storage.sync_folder()
        };
        write().map_err(io_error("write", &dir.join(FILE)))
    }
}

/// The backups that the memory in `dir` knows of. Unlike for [`BackupSchedule::load`], a list
/// that does not read is an error: it may name backups.
pub(crate) fn known_backups(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let path = dir.join(FILE);
    let Some(bytes) = read(dir)? else {
        return Ok(Vec::new());
    };
    let schedule: Result<BackupSchedule, _> = rmp_serde::from_slice(&bytes);
    let schedule = schedule.map_err(|source| StoreError::HeaderEncoding { source });
    Ok(schedule.map_err(|error| error.in_file(&path))?.backups)
}

/// The bytes of the file; `None` when it is absent.
fn read(dir: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let is_absent = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    let storage = match DiskStorage::open(dir) {
        Err(error) if is_absent(&error) => return Ok(None),
        storage => storage.map_err(io_error("open", dir))?,
    };
    match storage.read(FILE, MAX_BYTES) {
        Err(error) if is_absent(&error) => Ok(None),
        bytes => bytes.map(Some).map_err(io_error("read", &dir.join(FILE))),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_due_after_its_period_and_when_the_clock_went_back() {
        let day = Duration::from_secs(86_400);
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let schedule = BackupSchedule {
            last_unix: Some(1_000_000_000),
            backups: Vec::new(),
        };
        let shard = ShardId([7; 16]);
        assert!(!schedule.is_due(shard, day, at(1_000_086_399)));
        assert!(schedule.is_due(shard, day, at(1_000_086_400)));
        // Half a period after its start, every memory is due that has no backup in the past.
        assert!(schedule.is_due(shard, day, at(86_400 * 100 + 43_200)));
        assert!(BackupSchedule::default().is_due(shard, day, at(86_400 * 20_000 + 43_200)));
        let moments = (0..100_u8).map(|n| {
            let due = |second| {
                BackupSchedule::default().is_due(
                    ShardId([n; 16]),
                    day,
                    at(86_400 * 20_000 + second),
                )
            };
            (0..43_201_u64).step_by(300).position(due)
        });
        let distinct: std::collections::BTreeSet<_> = moments.collect();
        assert!(distinct.len() > 50, "{distinct:?}");
    }

    #[test]
    fn the_schedule_survives_and_lists_what_is_too_old() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let now = UNIX_EPOCH + Duration::from_secs(5);
        for name in ["a.tar", "b.tar", "a.tar"] {
            BackupSchedule::record(dir.path(), Path::new(name), now).expect("it is written");
        }
        let schedule = BackupSchedule::load(dir.path()).expect("it reads");
        assert_eq!(schedule.last_unix, Some(5));
        assert!(schedule.backups[0].ends_with("b.tar") && schedule.backups.len() == 2);
        let elsewhere = dir.path().join("by hand.tar");
        let schedule = BackupSchedule::record(dir.path(), &elsewhere, now).expect("it is written");
        let here = schedule.backups[0]
            .parent()
            .expect("it is absolute")
            .to_owned();
        let expired = schedule.expired(&here, 1);
        assert!(expired == schedule.backups[..1] && expired[0].ends_with("b.tar"));
        let left = BackupSchedule::take_off(dir.path(), &expired).expect("it is written");
        assert!(left.backups == schedule.backups[1..]);
        assert!(left.expired(&here, 1).is_empty());
        std::fs::write(dir.path().join(FILE), b"\xc1garbage").expect("it is written");
        assert_eq!(
            BackupSchedule::load(dir.path()).expect("it reads"),
            BackupSchedule::default()
        );
    }
}
