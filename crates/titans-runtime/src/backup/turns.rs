//! Whose turn it is to take a backup, and when the thread that takes them goes home.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use titans_store::ShardId;

use crate::locks::{Condvar, Guard, Mutex, Rank};

/// The backups of one runtime.
///
/// The lock is held while one memory is backed up, so two ticks take turns, and whoever
/// forgets a user keeps backups from appearing meanwhile.
#[derive(Debug)]
pub(crate) struct Backups {
    pub(super) attempts: Mutex<Attempts>,
    closed: Mutex<bool>,
    wake: Condvar,
}

/// When each memory was tried last by this runtime.
pub(super) type Attempts = HashMap<ShardId, Instant>;

impl Default for Backups {
    fn default() -> Self {
        Self {
            attempts: Mutex::new(Rank::Backups, Attempts::new()),
            closed: Mutex::new(Rank::Line, false),
            wake: Condvar::default(),
        }
    }
}

impl Backups {
    /// No backup is taken while this is held.
    pub(crate) fn pause(&self) -> Guard<'_, impl Sized> {
        self.attempts.lock()
    }

    /// Sends the thread home once the backup in hand is finished.
    pub(crate) fn close(&self) {
        *self.closed.lock() = true;
        self.wake.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closed.lock()
    }

    /// Waits for `pause`; `false` when the runtime closes.
    pub(super) fn wait(&self, pause: Duration) -> bool {
        let until = Instant::now().checked_add(pause);
        let mut closed = self.closed.lock();
        while !*closed {
            closed = match until {
                None => self.wake.wait(closed),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return true;
                    }
                    self.wake.wait_timeout(closed, left)
                }
            };
        }
        false
    }
}
