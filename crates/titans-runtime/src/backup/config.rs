//! How and when memories are backed up.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{IoError, OpenError, setting};
use crate::setters::setters;

/// How the memories of a runtime are backed up: each on its own, every day at a moment that
/// its name decides, so that a thousand do not do so at once.
///
/// A backup is the newest generation on disk as one tar file, read back and verified before
/// it counts; `titanmem restore` puts it back. It lies in a folder of its memory below
/// [`dir`](Self::dir), which belongs to the runtime:
/// [`Runtime::forget_user`](crate::Runtime::forget_user) removes it with all that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupConfig {
    /// Where backups go: another disk, at best.
    pub dir: PathBuf,
    /// Time between two backups of a memory, by the wall clock. Default 24 hours.
    pub every: Duration,
    /// Backups of a memory that stay; older ones are removed once a newer one is verified.
    /// Those that a person has put elsewhere are not touched. Default 7.
    pub keep: usize,
    /// Time between two attempts for a memory, by the monotonic clock, whatever the wall
    /// clock jumps to. Also how long a failure waits. Default one hour.
    pub pause: Duration,
    /// Backups that one [`tick`](crate::Runtime::tick) takes at most. Default 64.
    pub per_tick: usize,
    /// Who calls [`tick`](crate::Runtime::tick). Default: the program.
    pub driver: BackupDriver,
    /// What the program needs to start a memory again, put into every backup. Default empty.
    pub attachment: Vec<u8>,
}

/// Who calls [`Runtime::tick`](crate::Runtime::tick).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackupDriver {
    /// The program.
    Program,
    /// A thread of the runtime.
    Thread {
        /// Time between two looks at what is due.
        look_every: Duration,
    },
}

setters!(BackupConfig {
    with_dir => dir: impl Into<PathBuf>,
    with_every => every: Duration,
    with_keep => keep: usize,
    with_pause => pause: Duration,
    with_per_tick => per_tick: usize,
    with_driver => driver: BackupDriver,
    with_attachment => attachment: impl Into<Vec<u8>>,
});

impl BackupConfig {
    /// Daily backups below `dir`, of which the newest seven stay.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            every: Duration::from_secs(24 * 60 * 60),
            keep: 7,
            pause: Duration::from_secs(60 * 60),
            per_tick: 64,
            driver: BackupDriver::Program,
            attachment: Vec::new(),
        }
    }

    /// The same with a folder that means the same wherever the program goes.
    pub(crate) fn absolute(self) -> Result<Self, IoError> {
        let dir = std::path::absolute(&self.dir);
        let dir = dir.map_err(IoError::of("resolve", &self.dir))?;
        Ok(Self { dir, ..self })
    }

    pub(crate) fn validate(&self) -> Result<(), OpenError> {
        let at_least_one = [
            ("backups.keep", self.keep),
            ("backups.per_tick", self.per_tick),
            ("backups.every", self.every.as_secs() as usize),
        ];
        for (name, found) in at_least_one {
            if found == 0 {
                return Err(setting(name, found, "at least 1"));
            }
        }
        Ok(())
    }
}
