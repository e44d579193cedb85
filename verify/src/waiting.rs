//! What threads wait for: a shard in a line, and the end of a command.

use std::sync::Arc;

use crate::desk::Orders;
use crate::explore::{Condvar, MutexGuard};
use crate::sync::{Mutex, PoisonError};

/// What its caller learns of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    CarriedOut,
    /// It was let go of.
    Dismissed,
}

/// Where a caller waits for the end of its command.
pub(crate) struct Outcome {
    end: Mutex<Option<End>>,
    changed: Condvar,
}

impl Outcome {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            end: Mutex::new(None),
            changed: Condvar::new(),
        })
    }

    pub(crate) fn set(&self, end: End) {
        let mut known = locked(&self.end);
        *known = Some(end);
        drop(known);
        self.changed.notify_all();
    }

    pub(crate) fn is_set(&self) -> bool {
        locked(&self.end).is_some()
    }

    /// Waits without an end when nobody carries the command out or lets go of it: loom calls
    /// that a deadlock.
    pub(crate) fn wait(&self) -> End {
        let mut known = locked(&self.end);
        loop {
            if let Some(end) = *known {
                return end;
            }
            known = waited(self.changed.wait(known));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nobody may learn meanwhile.
    Quiet,
    /// Learning goes on beside it.
    Beside,
    /// As [`Quiet`](Self::Quiet), and the files are closed for good.
    Closing,
}

/// What stands in the line of a shard.
pub(crate) struct Command {
    kind: Kind,
    /// `None` once the caller knows.
    outcome: Option<Arc<Outcome>>,
}

impl Command {
    pub(crate) fn new(kind: Kind, outcome: &Arc<Outcome>) -> Self {
        Self {
            kind,
            outcome: Some(Arc::clone(outcome)),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn deliver(mut self) {
        self.tell(End::CarriedOut);
    }

    fn tell(&mut self, end: End) {
        if let Some(outcome) = self.outcome.take() {
            outcome.set(end);
        }
    }
}

impl Orders for Command {
    fn needs_quiet(&self) -> bool {
        self.kind != Kind::Beside
    }
}

/// As the sender of a channel whose receiver is told that nothing will come.
impl Drop for Command {
    fn drop(&mut self) {
        self.tell(End::Dismissed);
    }
}

/// A line with one shard, which stands in it or does not.
pub(crate) struct Line {
    standing: Mutex<Standing>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Nobody,
    Waits,
    Closed,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self {
            standing: Mutex::new(Standing::Nobody),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn push(&self) {
        let mut standing = locked(&self.standing);
        if *standing == Standing::Nobody {
            *standing = Standing::Waits;
        }
        drop(standing);
        self.changed.notify_one();
    }

    /// `false` once the line is closed.
    pub(crate) fn pop(&self) -> bool {
        let mut standing = locked(&self.standing);
        loop {
            match *standing {
                Standing::Closed => return false,
                Standing::Waits => {
                    *standing = Standing::Nobody;
                    return true;
                }
                Standing::Nobody => standing = waited(self.changed.wait(standing)),
            }
        }
    }

    pub(crate) fn close(&self) {
        *locked(&self.standing) = Standing::Closed;
        self.changed.notify_all();
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn waited<T>(outcome: Result<T, PoisonError<T>>) -> T {
    outcome.unwrap_or_else(PoisonError::into_inner)
}
