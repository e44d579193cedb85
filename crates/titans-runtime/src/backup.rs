//! Cold backups: which memory is due, one at a time, and what to do when it fails.
//!
//! A backup copies a generation that is on disk and never changes, so nobody who learns or
//! reads waits for it. When a memory was backed up last stands beside its files, so a
//! restart neither forgets nor repeats a backup.

mod config;
mod forgetting;
mod turns;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use titans_store::fs::DiskStorage;
use titans_store::{
    BackupRequest, BackupSchedule, BackupSummary, FolderMode, ShardId, StoreError, create_backup,
};

pub use self::config::{BackupConfig, BackupDriver};
pub(crate) use self::turns::Backups;
use crate::alert::AlertKind;
use crate::engine::{Engine, guarded};
use crate::error::{CommandError, IoError, Stopped};
use crate::user::{names, shard_dir, shards_on_disk};

/// Prefix of a backup that is being written.
const TEMPORARY: &str = ".tmp-";

/// What a [`tick`](crate::Runtime::tick) did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TickReport {
    /// Backups that were written and verified.
    pub backed_up: Vec<BackupSummary>,
    /// Backups that failed. Each is an alert, too.
    pub failed: Vec<BackupFailure>,
    /// Backups that were too old and are removed.
    pub removed: Vec<PathBuf>,
    /// Memories that are due and were left for the next tick.
    pub left: usize,
}

/// A backup that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupFailure {
    /// Of which memory.
    pub shard: ShardId,
    /// Why, in one line.
    pub reason: String,
}

/// Why a backup was not taken.
enum Failure {
    /// Something about this memory; the next one may do better.
    Memory(String),
    /// The folder of backups takes nothing, so the next one would fail alike.
    Folder(String),
}

impl Engine {
    pub(crate) fn ticks_by_itself(&self) -> bool {
        let driver = self
            .context
            .config
            .backups
            .as_ref()
            .map(|backups| backups.driver);
        matches!(driver, Some(BackupDriver::Thread { .. }))
    }

    /// Ticks until the runtime closes.
    pub(crate) fn run_backups(&self) {
        let driver = self
            .context
            .config
            .backups
            .as_ref()
            .map(|backups| backups.driver);
        let Some(BackupDriver::Thread { look_every }) = driver else {
            return;
        };
        loop {
            match guarded(|| self.tick(SystemTime::now())) {
                Ok(Ok(_)) => {}
                Ok(Err(CommandError::Stopped(Stopped::Closed))) => return,
                Ok(Err(error)) => tracing::error!("no backups: {error}"),
                Err(reason) => tracing::error!("no backups: {reason}"),
            }
            if !self.backups.wait(look_every) {
                return;
            }
        }
    }

    /// Takes the backups that are due.
    pub(crate) fn tick(&self, now: SystemTime) -> Result<TickReport, CommandError> {
        let mut report = TickReport::default();
        let _inside = self.enter()?;
        let root = self.context.root.clone();
        let Some(config) = &self.context.config.backups else {
            return Ok(report);
        };
        let mut due = self.due(&root, config, now)?;
        // Whoever has waited for an attempt longest is first, so that failures of some do
        // not keep the others out.
        {
            let attempts = self.backups.attempts.lock();
            due.sort_by_key(|shard| attempts.get(shard).copied());
        }
        for (index, shard) in due.iter().enumerate() {
            let taken = report.backed_up.len() + report.failed.len();
            if taken >= config.per_tick || self.backups.is_closed() {
                report.left = due.len() - index;
                break;
            }
            let failure = match self.back_up(&root, *shard, config, now, &mut report) {
                Ok(()) => continue,
                Err(failure) => failure,
            };
            let (reason, is_last) = match failure {
                Failure::Memory(reason) => (reason, false),
                Failure::Folder(reason) => (reason, true),
            };
            self.context.meters.backup_failures.add(1);
            let alerts = &self.context.alerts;
            alerts.raise(*shard, AlertKind::BackupFailed, reason.clone());
            report.failed.push(BackupFailure {
                shard: *shard,
                reason,
            });
            if is_last {
                report.left = due.len() - index - 1;
                break;
            }
        }
        Ok(report)
    }

    /// The memories on disk whose backup is due and that may be tried.
    fn due(
        &self,
        root: &Path,
        config: &BackupConfig,
        now: SystemTime,
    ) -> Result<Vec<ShardId>, IoError> {
        let mut due = Vec::new();
        for shard in shards_on_disk(root)? {
            self.finish_forgetting(root, config, shard);
            let last = self.backups.attempts.lock().get(&shard).copied();
            let may_try = last.is_none_or(|last| last.elapsed() >= config.pause);
            if may_try && is_due(&shard_dir(root, shard), shard, config, now) {
                due.push(shard);
            }
        }
        Ok(due)
    }

    fn back_up(
        &self,
        root: &Path,
        shard: ShardId,
        config: &BackupConfig,
        now: SystemTime,
        report: &mut TickReport,
    ) -> Result<(), Failure> {
        let mut attempts = self.backups.attempts.lock();
        let dir = shard_dir(root, shard);
        // Another tick may have been here, or the user may be forgotten.
        if !is_due(&dir, shard, config, now) {
            return Ok(());
        }
        let _span = tracing::info_span!("backup", %shard).entered();
        let folder = prepare(&config.dir, shard, self.context.config.store.folders)?;
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let target = folder.join(format!("{:012}.tar", since_epoch.as_secs()));
        let request = BackupRequest {
            config: &config.attachment,
            taken_at: Some(now),
            folders: self.context.config.store.folders,
            ..BackupRequest::default()
        };
        let taken = self
            .context
            .timers
            .backup
            .time(|| create_backup(&dir, shard, &target, &request));
        match taken {
            Ok(summary) => {
                self.context.meters.backups.add(1);
                report.backed_up.push(summary);
            }
            Err(error) => {
                attempts.insert(shard, Instant::now());
                return Err(failure(&error, &folder));
            }
        }
        attempts.insert(shard, Instant::now());
        remove_expired(&dir, &folder, config.keep, &mut report.removed).map_err(Failure::Memory)
    }
}

/// A schedule that does not read says nothing against a backup. Where nothing was ever
/// saved, or everything is forgotten, there is nothing to back up.
fn is_due(dir: &Path, shard: ShardId, config: &BackupConfig, now: SystemTime) -> bool {
    let schedule = BackupSchedule::load(dir).unwrap_or_default();
    schedule.is_due(shard, config.every, now) && holds_a_memory(dir)
}

fn holds_a_memory(dir: &Path) -> bool {
    let is_memory = |name: &String| name.ends_with(".titanmem");
    names(dir).is_ok_and(|names| names.iter().any(is_memory))
}

/// The folder for the backups of one memory, rid of what a killed process left there.
fn prepare(dir: &Path, shard: ShardId, mode: FolderMode) -> Result<PathBuf, Failure> {
    let refused = |error: io::Error| {
        let dir = dir.display();
        Failure::Folder(format!("cannot write backups below {dir}: {error}"))
    };
    let folder = shard_dir(dir, shard);
    DiskStorage::create_for(&folder, mode).map_err(refused)?;
    for entry in fs::read_dir(&folder).map_err(refused)? {
        let entry = entry.map_err(refused)?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            fs::remove_file(entry.path()).map_err(refused)?;
        }
    }
    Ok(folder)
}

fn failure(error: &StoreError, folder: &Path) -> Failure {
    let reason = format!("backup failed: {error}");
    match error {
        StoreError::Io { path, .. } | StoreError::NotDurable { path, .. }
            if path.starts_with(folder) =>
        {
            Failure::Folder(reason)
        }
        _ => Failure::Memory(reason),
    }
}

/// Removes backups beyond the newest `keep`, and takes them off the memory's list.
fn remove_expired(
    dir: &Path,
    folder: &Path,
    keep: usize,
    removed: &mut Vec<PathBuf>,
) -> Result<(), String> {
    let refused = |error: &dyn std::fmt::Display| format!("an old backup stays: {error}");
    let schedule = BackupSchedule::load(dir).map_err(|error| refused(&error))?;
    let expired = schedule.expired(folder, keep);
    for backup in &expired {
        match fs::remove_file(backup) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(&error)),
            _ => removed.push(backup.clone()),
        }
    }
    if !expired.is_empty() {
        BackupSchedule::take_off(dir, &expired).map_err(|error| refused(&error))?;
    }
    Ok(())
}
