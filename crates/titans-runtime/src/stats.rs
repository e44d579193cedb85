//! What the runtime has done and holds: for its own [`Stats`], and for the recorder of the
//! `metrics` facade, if the program has one.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::locks::{Mutex, Rank};
use crate::metric;

/// Longest duration that is told apart from longer ones, in nanoseconds.
const LONGEST: u64 = 600_000_000_000;

/// Durations of one kind of step.
#[derive(Debug)]
pub(crate) struct Timer {
    /// Name of the metric.
    metric: &'static str,
    histogram: Mutex<Histogram<u64>>,
}

impl Timer {
    fn new(metric: &'static str) -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are in order");
        Self {
            metric,
            histogram: Mutex::new(Rank::Timer, histogram),
        }
    }

    /// Runs `step` and records how long it took.
    pub(crate) fn time<T>(&self, step: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let outcome = step();
        self.record(started.elapsed());
        outcome
    }

    pub(crate) fn record(&self, elapsed: Duration) {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        metrics::histogram!(self.metric).record(elapsed);
        let mut histogram = self.histogram.lock();
        histogram.saturating_record(nanos);
    }

    pub(crate) fn latency(&self) -> Latency {
        let histogram = self.histogram.lock();
        let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
        Latency {
            count: histogram.len(),
            p50: at(0.5),
            p99: at(0.99),
            max: Duration::from_nanos(histogram.max()),
        }
    }
}

/// The timers of a runtime. Learners and savers record, readers never do: a lock, however
/// short, has no place on their way.
#[derive(Debug)]
pub(crate) struct Timers {
    pub(crate) learn: Timer,
    pub(crate) publish: Timer,
    pub(crate) save: Timer,
    /// Relaxed, as the next: both are counts that order nothing.
    chunks: AtomicU64,
    batches: AtomicU64,
    pub(crate) encode: Timer,
    pub(crate) fsync: Timer,
    pub(crate) load: Timer,
    pub(crate) backup: Timer,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self {
            learn: Timer::new(metric::LEARN_SECONDS),
            publish: Timer::new(metric::PUBLISH_SECONDS),
            save: Timer::new(metric::SAVE_SECONDS),
            encode: Timer::new(metric::ENCODE_SECONDS),
            fsync: Timer::new(metric::FSYNC_SECONDS),
            load: Timer::new(metric::LOAD_SECONDS),
            backup: Timer::new(metric::BACKUP_SECONDS),
            chunks: AtomicU64::new(0),
            batches: AtomicU64::new(0),
        }
    }

    /// Counts a batch of chunks that was learned.
    pub(crate) fn count_batch(&self, chunks: usize) {
        self.chunks.fetch_add(chunks as u64, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
    }
}

/// How often something happened. Relaxed: it orders nothing.
#[derive(Debug)]
pub(crate) struct Counter {
    metric: &'static str,
    count: AtomicU64,
}

impl Counter {
    fn new(metric: &'static str) -> Self {
        // Rates need a beginning: a recorder shows a counter from its first mention on.
        metrics::counter!(metric).increment(0);
        Self {
            metric,
            count: AtomicU64::new(0),
        }
    }

    pub(crate) fn add(&self, count: u64) {
        self.count.fetch_add(count, Ordering::Relaxed);
        metrics::counter!(self.metric).increment(count);
    }

    fn get(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// How much there is of something now. Relaxed: it orders nothing.
///
/// The recorder is told changes and not amounts: they add up in any order, over threads and
/// over the runtimes of a process.
#[derive(Debug)]
pub(crate) struct Gauge {
    metric: &'static str,
    amount: AtomicI64,
}

impl Gauge {
    fn new(metric: &'static str) -> Self {
        metrics::gauge!(metric).increment(0.0);
        Self {
            metric,
            amount: AtomicI64::new(0),
        }
    }

    pub(crate) fn set(&self, amount: usize) {
        let amount = i64::try_from(amount).unwrap_or(i64::MAX);
        let before = self.amount.swap(amount, Ordering::Relaxed);
        metrics::gauge!(self.metric).increment((amount - before) as f64);
    }

    /// Puts `after` in the place of `before`, which is part of the amount.
    fn replace(&self, before: usize, after: usize) {
        if before == after {
            return;
        }
        let signed = |amount: usize| i64::try_from(amount).unwrap_or(i64::MAX);
        let change = signed(after) - signed(before);
        self.amount.fetch_add(change, Ordering::Relaxed);
        metrics::gauge!(self.metric).increment(change as f64);
    }

    pub(crate) fn get(&self) -> usize {
        usize::try_from(self.amount.load(Ordering::Relaxed)).unwrap_or_default()
    }
}

/// What one memory takes while it is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// States of the snapshots that its writer holds, and tokens that wait.
    pub(crate) resident_bytes: usize,
    /// The part of them that a crash would take.
    pub(crate) dirty_bytes: usize,
    pub(crate) queued_tokens: usize,
    /// Snapshots that somebody holds.
    pub(crate) snapshots: usize,
    /// Something is wrong with it.
    pub(crate) is_unhealthy: bool,
}

/// What a runtime counts beside the durations.
#[derive(Debug)]
pub(crate) struct Meters {
    pub(crate) saves: Counter,
    pub(crate) rollbacks: Counter,
    pub(crate) damaged_files: Counter,
    pub(crate) fsync_errors: Counter,
    pub(crate) evictions: Counter,
    pub(crate) backups: Counter,
    pub(crate) backup_failures: Counter,
    pub(crate) resident_users: Gauge,
    resident_bytes: Gauge,
    dirty_bytes: Gauge,
    queued_tokens: Gauge,
    live_snapshots: Gauge,
    unhealthy_users: Gauge,
}

impl Meters {
    pub(crate) fn new() -> Self {
        Self {
            saves: Counter::new(metric::SAVES),
            rollbacks: Counter::new(metric::ROLLBACKS),
            damaged_files: Counter::new(metric::DAMAGED_FILES),
            fsync_errors: Counter::new(metric::FSYNC_ERRORS),
            evictions: Counter::new(metric::EVICTIONS),
            backups: Counter::new(metric::BACKUPS),
            backup_failures: Counter::new(metric::BACKUP_FAILURES),
            resident_users: Gauge::new(metric::RESIDENT_USERS),
            resident_bytes: Gauge::new(metric::RESIDENT_BYTES),
            dirty_bytes: Gauge::new(metric::DIRTY_BYTES),
            queued_tokens: Gauge::new(metric::QUEUED_TOKENS),
            live_snapshots: Gauge::new(metric::LIVE_SNAPSHOTS),
            unhealthy_users: Gauge::new(metric::UNHEALTHY_USERS),
        }
    }

    /// Puts what a memory takes now in the place of what it took before.
    pub(crate) fn replace(&self, before: Footprint, after: Footprint) {
        self.resident_bytes
            .replace(before.resident_bytes, after.resident_bytes);
        self.dirty_bytes
            .replace(before.dirty_bytes, after.dirty_bytes);
        self.queued_tokens
            .replace(before.queued_tokens, after.queued_tokens);
        self.live_snapshots
            .replace(before.snapshots, after.snapshots);
        self.unhealthy_users
            .replace(before.is_unhealthy.into(), after.is_unhealthy.into());
    }

    pub(crate) fn stats(&self, timers: &Timers, latency: impl Fn(&Timer) -> Latency) -> Stats {
        Stats {
            learn: latency(&timers.learn),
            publish: latency(&timers.publish),
            save: latency(&timers.save),
            encode: latency(&timers.encode),
            fsync: latency(&timers.fsync),
            load: latency(&timers.load),
            backup: latency(&timers.backup),
            saves: self.saves.get(),
            rollbacks: self.rollbacks.get(),
            damaged_files: self.damaged_files.get(),
            fsync_errors: self.fsync_errors.get(),
            evictions: self.evictions.get(),
            backups: self.backups.get(),
            backup_failures: self.backup_failures.get(),
            resident_users: self.resident_users.get(),
            resident_bytes: self.resident_bytes.get(),
            dirty_bytes: self.dirty_bytes.get(),
            queued_tokens: self.queued_tokens.get(),
            chunks: timers.chunks.load(Ordering::Relaxed),
            batches: timers.batches.load(Ordering::Relaxed),
            live_snapshots: self.live_snapshots.get(),
            unhealthy_users: self.unhealthy_users.get(),
        }
    }
}

/// What a runtime has done since it was opened, and what it holds now: the same as its
/// metrics say, without a recorder.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// One batch of chunks: from host rows to the next states.
    pub learn: Latency,
    /// The exclusive section: replacing the snapshot that readers see.
    pub publish: Latency,
    /// One generation: from a snapshot to a durable file. Failures count.
    pub save: Latency,
    /// Chunks that were learned.
    pub chunks: u64,
    /// Batches that they were learned in; see
    /// [`learn_batch`](field@crate::RuntimeConfig::learn_batch).
    pub batches: u64,
    /// Snapshots that somebody holds, of all open memories: one for each that is idle, up to
    /// three for one that learns, more where a reader takes its time. As of the last publish
    /// or save of each.
    pub live_snapshots: usize,
    /// The part of a save that makes the bytes.
    pub encode: Latency,
    /// The part of a save that waits for the device to flush.
    pub fsync: Latency,
    /// Opening a memory. Failures count.
    pub load: Latency,
    /// One cold backup. Failures count.
    pub backup: Latency,
    /// Generations that became durable.
    pub saves: u64,
    /// Memories that went back to their pinned generation.
    pub rollbacks: u64,
    /// Damaged files that were passed over: something was lost.
    pub damaged_files: u64,
    /// Flushes that failed while saving, those that a retry made good among them.
    pub fsync_errors: u64,
    /// Memories that left to make room for others.
    pub evictions: u64,
    /// Cold backups that were written and verified.
    pub backups: u64,
    /// Cold backups that failed.
    pub backup_failures: u64,
    /// Memories of which something is wrong: see [`Health`](crate::Health).
    pub unhealthy_users: usize,
    /// Memories that are loaded or on their way.
    pub resident_users: usize,
    /// Bytes of the states that loaded memories hold for readers and savers, of the tokens that
    /// wait, of ledgers and probes. Frozen parameters, which all memories share, are not counted.
    pub resident_bytes: usize,
    /// The part of them that a crash would take.
    pub dirty_bytes: usize,
    /// Tokens that wait to be learned, of all users.
    pub queued_tokens: usize,
}

/// The distribution of a duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Half were at most this long.
    pub p50: Duration,
    /// 99 of 100 were at most this long.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}
