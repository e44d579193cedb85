//! Forgetting a user on disk: the folder of the memory and the folder of its backups.

use std::io;
use std::path::Path;

use titans_store::fs::DiskStorage;
use titans_store::{ForgetReceipt, Place, PlaceReport, ShardId};

use super::BackupConfig;
use crate::engine::Engine;
use crate::error::{CommandError, IoError};
use crate::user::shard_dir;

impl Engine {
    /// A process that was killed between the folder of a forgotten memory and that of its
    /// backups has left the second one.
    pub(super) fn finish_forgetting(&self, root: &Path, config: &BackupConfig, shard: ShardId) {
        let dir = shard_dir(root, shard);
        let is_forgotten = titans_store::is_forgotten(&dir).unwrap_or(false);
        if is_forgotten && shard_dir(&config.dir, shard).exists() {
            let _no_backup = self.backups.pause();
            for left in self.remove_backups(shard).left {
                tracing::error!(%shard, "{} {}", left.path.display(), left.reason);
            }
        }
    }

    /// Forgets what lies on disk of a memory: its folder first, so that from then on it opens
    /// no more and a crash is made good by the next call, then the folder of its backups.
    /// `None` when there was nothing in either. The caller holds the backups back.
    ///
    /// Every place is looked at, whatever else is missing.
    pub(crate) fn forget_files(
        &self,
        root: &Path,
        shard: ShardId,
    ) -> Result<Option<ForgetReceipt>, CommandError> {
        let dir = shard_dir(root, shard);
        let mut receipt = match dir.symlink_metadata() {
            Ok(_) => titans_store::forget(&dir, shard, None)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut receipt = ForgetReceipt::new(shard);
                receipt.add(self.remove_backups(shard));
                if !receipt.found_something() {
                    return Ok(None);
                }
                // Somebody has removed the folder. Its tombstone keeps the user forgotten.
                match DiskStorage::create_for(&dir, self.context.config.store.folders) {
                    Ok(_) => {
                        let folder = titans_store::forget(&dir, shard, None)?;
                        folder
                            .places
                            .into_iter()
                            .for_each(|place| receipt.add(place));
                    }
                    Err(error) => {
                        let mut place = PlaceReport::new(Place::Folder);
                        place.leave(dir, format!("cannot be marked as forgotten: {error}"));
                        receipt.add(place);
                    }
                }
                return Ok(Some(receipt));
            }
            Err(error) => return Err(IoError::of("look at", dir)(error).into()),
        };
        receipt.add(self.remove_backups(shard));
        Ok(Some(receipt))
    }

    /// Removes the folder for the backups of a memory, and so also what a process that was
    /// killed had not noted yet. The caller holds the backups back.
    pub(crate) fn remove_backups(&self, shard: ShardId) -> PlaceReport {
        match &self.context.config.backups {
            Some(config) => titans_store::remove_backup_folder(&shard_dir(&config.dir, shard)),
            None => PlaceReport::new(Place::BackupFolder),
        }
    }
}
