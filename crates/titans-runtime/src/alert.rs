//! Telling a person.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use titans_store::ShardId;

use crate::metric;

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
    /// Learning or saving failed: the memory is read-only until it is rolled back.
    Failed,
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
            Self::DamagedFile => "damaged_file",
            Self::RolledBack => "rolled_back",
            Self::RecallDropped => "recall_dropped",
            Self::Frozen => "frozen",
            Self::BackupFailed => "backup_failed",
        }
    }
}

/// Where alerts go. Called on a thread of the runtime or of the caller, so it should return
/// soon. A panic in it is logged and goes no further.
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

    pub(crate) fn raise(&self, shard: ShardId, kind: AlertKind, message: String) {
        metrics::counter!(metric::ALERTS, "kind" => kind.name()).increment(1);
        match kind {
            AlertKind::Failed | AlertKind::Frozen | AlertKind::BackupFailed => {
                tracing::error!(%shard, kind = kind.name(), "{message}");
            }
            AlertKind::DamagedFile | AlertKind::RolledBack | AlertKind::RecallDropped => {
                tracing::warn!(%shard, kind = kind.name(), "{message}");
            }
        }
        let Some(sink) = &self.0 else { return };
        let alert = Alert {
            shard,
            kind,
            message,
        };
        // The thread serves other users, too.
        if catch_unwind(AssertUnwindSafe(|| sink.alert(&alert))).is_err() {
            tracing::error!(%shard, "the alert sink panicked");
        }
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
