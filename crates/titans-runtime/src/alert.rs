//! Telling a person.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use titans_store::ShardId;

use crate::locks::{Condvar, Mutex, Rank, assert_none_held};
use crate::metric;

/// Alerts that may wait for a slow sink. Of more, the oldest are left to the log.
const MOST_WAITING: usize = 1024;

/// Something that a person should know. Each is also a `tracing` event and a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Alert {
    /// The memory, by its name on disk: no user id leaves the runtime.
    pub shard: ShardId,
    /// What happened.
    pub kind: AlertKind,
    /// The details, in one line.
    pub message: String,
}

/// What happened to a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AlertKind {
    /// A step panicked or failed in a way that trying again does not mend: the memory is
    /// read-only until it is [resumed](crate::UserMemory::resume) or rolled back.
    Failed,
    /// A save failed for a reason that may pass. It is tried again; there is one alert for all
    /// attempts.
    Unavailable,
    /// A save succeeded after one or more had failed, or a memory that had failed goes on.
    Recovered,
    /// A chunk could not be learned, because its numbers left the finite ones. The memory goes
    /// on without it.
    ChunkDropped,
    /// A damaged file was passed over: something was lost.
    DamagedFile,
    /// The memory went back to its last known good generation.
    RolledBack,
    /// The memory recalls clearly less of what it has written than it did.
    RecallDropped,
    /// Recall dropped again soon after a rollback: the memory is read-only until it is rolled
    /// back by hand.
    Frozen,
    /// A backup that is due could not be taken.
    BackupFailed,
}

impl AlertKind {
    /// The word for metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Unavailable => "unavailable",
            Self::Recovered => "recovered",
            Self::ChunkDropped => "chunk_dropped",
            Self::DamagedFile => "damaged_file",
            Self::RolledBack => "rolled_back",
            Self::RecallDropped => "recall_dropped",
            Self::Frozen => "frozen",
            Self::BackupFailed => "backup_failed",
        }
    }
}

/// Where alerts go.
///
/// Called on a thread of its own, one alert after the other, while the runtime holds no lock:
/// a sink may wait, and may call any method of the runtime. A panic in it is logged and goes
/// no further.
pub trait AlertSink: Send + Sync {
    /// Takes one alert.
    fn alert(&self, alert: &Alert);
}

/// The sink of a configuration, or none.
#[derive(Clone, Default)]
pub struct Alerts(Option<Arc<dyn AlertSink>>);

impl Alerts {
    /// Alerts go to `sink`, beside the log and the metrics.
    pub fn to(sink: Arc<dyn AlertSink>) -> Self {
        Self(Some(sink))
    }

    /// Whether there is a sink.
    pub(crate) fn have_sink(&self) -> bool {
        self.0.is_some()
    }

    fn deliver(&self, alert: &Alert) {
        let Some(sink) = &self.0 else { return };
        assert_none_held();
        if catch_unwind(AssertUnwindSafe(|| sink.alert(alert))).is_err() {
            tracing::error!(shard = %alert.shard, "the alert sink panicked");
        }
    }
}

/// Alerts on their way to the sink.
#[derive(Debug)]
pub(crate) struct AlertLine {
    alerts: Alerts,
    line: Mutex<Line>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Alert>,
    closed: bool,
    /// The thread that delivers has ended.
    ended: bool,
}

impl AlertLine {
    pub(crate) fn new(alerts: Alerts) -> Self {
        Self {
            alerts,
            line: Mutex::new(Rank::Line, Line::default()),
            changed: Condvar::default(),
        }
    }

    /// Tells the log, the metrics and, by and by, the sink. The caller holds no lock.
    pub(crate) fn raise(&self, shard: ShardId, kind: AlertKind, message: String) {
        assert_none_held();
        metrics::counter!(metric::ALERTS, "kind" => kind.name()).increment(1);
        match kind {
            AlertKind::Failed
            | AlertKind::Frozen
            | AlertKind::BackupFailed
            | AlertKind::Unavailable => {
                tracing::error!(%shard, kind = kind.name(), "{message}");
            }
            AlertKind::DamagedFile
            | AlertKind::RolledBack
            | AlertKind::RecallDropped
            | AlertKind::ChunkDropped => {
                tracing::warn!(%shard, kind = kind.name(), "{message}");
            }
            AlertKind::Recovered => tracing::info!(%shard, kind = kind.name(), "{message}"),
        }
        if !self.alerts.have_sink() {
            return;
        }
        let alert = Alert {
            shard,
            kind,
            message,
        };
        let mut line = self.line.lock();
        line.waiting.push_back(alert);
        let surplus = match line.waiting.len() > MOST_WAITING {
            true => line.waiting.pop_front(),
            false => None,
        };
        drop(line);
        self.changed.notify_all();
        if let Some(alert) = surplus {
            tracing::error!(shard = %alert.shard, "the alert sink is too slow: {}", alert.message);
        }
    }

    /// Delivers alerts until the line is closed and empty.
    pub(crate) fn run(&self) {
        let mut line = self.line.lock();
        loop {
            if let Some(alert) = line.waiting.pop_front() {
                drop(line);
                self.alerts.deliver(&alert);
                line = self.line.lock();
            } else if line.closed {
                line.ended = true;
                drop(line);
                return self.changed.notify_all();
            } else {
                line = self.changed.wait(line);
            }
        }
    }

    /// Takes nothing more, and waits until what waits is delivered, at most until `deadline`;
    /// says whether it is.
    pub(crate) fn close(&self, deadline: Option<Instant>) -> bool {
        let mut line = self.line.lock();
        line.closed = true;
        self.changed.notify_all();
        while !line.ended {
            line = match deadline {
                None => self.changed.wait(line),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.changed.wait_timeout(line, left)
                }
            };
        }
        true
    }
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "Alerts(sink)",
            None => "Alerts(log)",
        })
    }
}
