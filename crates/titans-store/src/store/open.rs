//! Opening a folder: whose it is, who has it, and what opens.

use std::path::Path;
use std::sync::Arc;

use super::lock::lock;
use super::{MemoryStore, NetworkFolders, Recovery, StoreConfig, forget, readers, recovery};
use crate::error::StoreError;
use crate::format::carried::Carried;
use crate::fs::{DiskStorage, FolderMode, Metered, Storage};
use crate::image::ShardId;
use crate::key::{Access, UserKey};

impl MemoryStore {
    /// Opens a folder for writing, creating it for the owner only, and recovers the newest
    /// generation that verifies.
    ///
    /// Leftovers of interrupted saves are removed. Damaged files move to `quarantine`, which
    /// keeps two of them, and are listed in [`Recovery::skipped`].
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another store is open on the folder,
    /// [`StoreError::WrongShard`] when a file has another owner, [`StoreError::UnknownMajor`]
    /// or [`StoreError::UnknownFeature`] when one is too new, [`StoreError::Forgotten`], and
    /// what the operating system refuses. What a crash has left of a forgotten memory is
    /// removed before [`StoreError::Forgotten`] is returned. No other error leaves anything moved or removed but
    /// leftovers and damaged files.
    pub fn open(
        dir: &Path,
        shard: ShardId,
        config: StoreConfig,
    ) -> Result<(Self, Recovery), StoreError> {
        let storage = Box::new(open_folder(dir, config.network, config.folders)?);
        finish_forgetting(dir, shard, Self::open_on(storage, shard, config))
    }

    /// [`MemoryStore::open`] for a memory that is encrypted with the key of its owner.
    ///
    /// # Errors
    /// As [`MemoryStore::open`], [`StoreError::WrongKey`], and [`StoreError::NotEncrypted`]
    /// when the folder holds files that are not.
    pub fn open_encrypted(
        dir: &Path,
        shard: ShardId,
        config: StoreConfig,
        key: UserKey,
    ) -> Result<(Self, Recovery), StoreError> {
        let storage = Box::new(open_folder(dir, config.network, config.folders)?);
        let opened = Self::open_with(storage, shard, config, Some(key));
        finish_forgetting(dir, shard, opened)
    }

    /// [`MemoryStore::open`] on any storage.
    ///
    /// # Errors
    /// As [`MemoryStore::open`].
    pub fn open_on(
        storage: Box<dyn Storage>,
        shard: ShardId,
        config: StoreConfig,
    ) -> Result<(Self, Recovery), StoreError> {
        Self::open_with(storage, shard, config, None)
    }

    fn open_with(
        storage: Box<dyn Storage>,
        shard: ShardId,
        config: StoreConfig,
        key: Option<UserKey>,
    ) -> Result<(Self, Recovery), StoreError> {
        let meter = Arc::default();
        let mut storage: Box<dyn Storage> = Box::new(Metered::new(storage, &meter));
        lock(&mut *storage)?;
        forget::refuse_forgotten(&*storage, shard)?;
        recovery::sweep_temporary(&*storage)?;
        let access = Access {
            limits: &config.limits,
            key: key.as_ref(),
        };
        let found = recovery::recover(&*storage, shard, access)?;
        let mut store = Self {
            storage,
            meter,
            shard,
            config,
            key,
            writer_epoch: found.highest_epoch.saturating_add(1),
            next_sequence: found.highest_sequence.saturating_add(1),
            parent: None,
            carried: Carried::default(),
            unknown_ro_compat: 0,
            session: None,
        };
        let mut recovery = Recovery {
            skipped: found.skipped,
            torn: found.torn,
            ..Recovery::default()
        };
        if let Some(newest) = found.newest {
            store.parent = Some((newest.generation.number(), newest.identity));
            store.unknown_ro_compat = newest.unknown_ro_compat;
            store.carried = newest.carried;
            recovery.generation = Some(newest.generation);
            recovery.image = Some(newest.image);
        }
        Ok((store, recovery))
    }
}

/// A folder that was forgotten and is tried again: the backups that a crash has left go, too.
fn finish_forgetting<T>(
    dir: &Path,
    shard: ShardId,
    opened: Result<T, StoreError>,
) -> Result<T, StoreError> {
    if let Err(StoreError::Forgotten { .. }) = &opened {
        // Whoever wants to know what remains asks for a receipt.
        let _ = forget::forget(dir, shard, None);
    }
    opened
}

pub(super) fn open_folder(
    dir: &Path,
    network: NetworkFolders,
    folders: FolderMode,
) -> Result<DiskStorage, StoreError> {
    let refused = |source| readers::open_error(dir, source);
    let storage = DiskStorage::create_for(dir, folders).map_err(refused)?;
    let mode = storage.mode().map_err(refused)?;
    if mode & folders.refused_bits() != 0 {
        return Err(StoreError::OpenToOthers {
            path: storage.path().to_owned(),
            mode,
        });
    }
    if network == NetworkFolders::Refuse
        && let Some(kind) = storage.network_file_system().map_err(refused)?
    {
        return Err(StoreError::NetworkFolder {
            path: storage.path().to_owned(),
            kind,
        });
    }
    Ok(storage)
}
