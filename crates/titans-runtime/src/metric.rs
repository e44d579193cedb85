//! Every metric of the runtime: its name, and what it says.

use metrics::Unit;

pub(crate) const LEARN_SECONDS: &str = "titanmem_learn_seconds";
pub(crate) const PUBLISH_SECONDS: &str = "titanmem_publish_seconds";
pub(crate) const SAVE_SECONDS: &str = "titanmem_save_seconds";
pub(crate) const ENCODE_SECONDS: &str = "titanmem_encode_seconds";
pub(crate) const FSYNC_SECONDS: &str = "titanmem_fsync_seconds";
pub(crate) const LOAD_SECONDS: &str = "titanmem_load_seconds";
pub(crate) const BACKUP_SECONDS: &str = "titanmem_backup_seconds";

pub(crate) const SAVES: &str = "titanmem_saves_total";
pub(crate) const ROLLBACKS: &str = "titanmem_rollbacks_total";
pub(crate) const DAMAGED_FILES: &str = "titanmem_damaged_files_total";
pub(crate) const FSYNC_ERRORS: &str = "titanmem_fsync_errors_total";
pub(crate) const EVICTIONS: &str = "titanmem_evictions_total";
pub(crate) const BACKUPS: &str = "titanmem_backups_total";
pub(crate) const BACKUP_FAILURES: &str = "titanmem_backup_failures_total";
pub(crate) const PROBE_RECALL: &str = "titanmem_probe_recall";
pub(crate) const ALERTS: &str = "titanmem_alerts_total";

pub(crate) const RESIDENT_USERS: &str = "titanmem_resident_users";
pub(crate) const RESIDENT_BYTES: &str = "titanmem_resident_bytes";
pub(crate) const DIRTY_BYTES: &str = "titanmem_dirty_bytes";
pub(crate) const LIVE_SNAPSHOTS: &str = "titanmem_live_snapshots";
pub(crate) const UNHEALTHY_USERS: &str = "titanmem_unhealthy_users";
pub(crate) const QUEUED_TOKENS: &str = "titanmem_queued_tokens";

/// Name and meaning of every histogram, in seconds.
const HISTOGRAMS: [(&str, &str); 7] = [
    (
        LEARN_SECONDS,
        "one chunk, from host rows to the next state, off the way of readers",
    ),
    (
        PUBLISH_SECONDS,
        "the exclusive section: replacing the snapshot that readers see",
    ),
    (
        SAVE_SECONDS,
        "one generation, from a snapshot to a durable file",
    ),
    (ENCODE_SECONDS, "the part of a save that makes the bytes"),
    (
        FSYNC_SECONDS,
        "the part of a save that waits for the device to flush",
    ),
    (
        LOAD_SECONDS,
        "opening a memory: recovering the newest generation that verifies",
    ),
    (
        BACKUP_SECONDS,
        "one cold backup: copying, flushing and reading back",
    ),
];

/// Name and meaning of every counter.
const COUNTERS: [(&str, &str); 8] = [
    (SAVES, "generations that became durable"),
    (
        ROLLBACKS,
        "memories that went back to their pinned generation",
    ),
    (
        DAMAGED_FILES,
        "damaged files that were passed over when a memory was opened: something was lost",
    ),
    (
        FSYNC_ERRORS,
        "flushes that failed while saving, those that a retry made good among them",
    ),
    (EVICTIONS, "memories that left to make room for others"),
    (BACKUPS, "cold backups that were written and verified"),
    (BACKUP_FAILURES, "cold backups that failed"),
    (ALERTS, "alerts, by kind"),
];

/// Name, unit and meaning of every gauge.
const GAUGES: [(&str, Unit, &str); 6] = [
    (
        UNHEALTHY_USERS,
        Unit::Count,
        "memories of which something is wrong: a save is tried again, or they are read-only",
    ),
    (
        RESIDENT_USERS,
        Unit::Count,
        "memories that are loaded or on their way",
    ),
    (
        RESIDENT_BYTES,
        Unit::Bytes,
        "what loaded memories hold: states of snapshots, tokens that wait, ledgers and probes",
    ),
    (
        DIRTY_BYTES,
        Unit::Bytes,
        "the part of the resident bytes that a crash would take: snapshots that are not durable, and waiting tokens",
    ),
    (
        LIVE_SNAPSHOTS,
        Unit::Count,
        "snapshots that readers, savers and learners hold, of all memories",
    ),
    (
        QUEUED_TOKENS,
        Unit::Count,
        "tokens that wait to be learned, of all users",
    ),
];

/// What the one histogram means that is not in seconds.
const PROBE_RECALL_MEANS: &str =
    "the fraction of its probes that a memory answers, each time the watch has looked";

/// Tells the recorder of the `metrics` facade what every metric means, for whoever reads
/// its output. [`Runtime::open`](crate::Runtime::open) does so by itself; a program that
/// installs its recorder later calls this after it.
pub fn describe_metrics() {
    for (name, description) in HISTOGRAMS {
        metrics::describe_histogram!(name, Unit::Seconds, description);
    }
    metrics::describe_histogram!(PROBE_RECALL, Unit::Count, PROBE_RECALL_MEANS);
    for (name, description) in COUNTERS {
        metrics::describe_counter!(name, Unit::Count, description);
    }
    for (name, unit, description) in GAUGES {
        metrics::describe_gauge!(name, unit, description);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_metric_and_no_other() {
        let text = include_str!("../../../docs/observability.md");
        let mut listed: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(name, _)| name)
            .filter(|name| name.starts_with("titanmem_"))
            .collect();
        let histograms = HISTOGRAMS.iter().map(|(name, _)| *name);
        let counters = COUNTERS.iter().map(|(name, _)| *name);
        let gauges = GAUGES.iter().map(|(name, ..)| *name);
        let mut known: Vec<&str> = histograms.chain(counters).chain(gauges).collect();
        known.push(PROBE_RECALL);
        listed.sort_unstable();
        known.sort_unstable();
        assert_eq!(listed, known);
    }
}
