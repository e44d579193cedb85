//! How long the steps of learning take.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

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
            histogram: Mutex::new(histogram),
        }
    }

    /// Runs `step` and records how long it took.
    pub(crate) fn time<T>(&self, step: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let outcome = step();
        let elapsed = started.elapsed();
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        metrics::histogram!(self.metric).record(elapsed);
        let mut histogram = self
            .histogram
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        histogram.saturating_record(nanos);
        outcome
    }

    fn latency(&self) -> Latency {
        let histogram = self
            .histogram
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
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
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self {
            learn: Timer::new("titanmem_learn_seconds"),
            publish: Timer::new("titanmem_publish_seconds"),
            save: Timer::new("titanmem_save_seconds"),
            chunks: AtomicU64::new(0),
            batches: AtomicU64::new(0),
        }
    }

    /// Counts a batch of chunks that was learned.
    pub(crate) fn count_batch(&self, chunks: usize) {
        self.chunks.fetch_add(chunks as u64, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self, live_snapshots: usize) -> Stats {
        Stats {
            learn: self.learn.latency(),
            publish: self.publish.latency(),
            save: self.save.latency(),
            chunks: self.chunks.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            live_snapshots,
        }
    }
}

/// What was done since the runtime was opened, and how long the steps took.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// One batch of chunks: from host rows to the next states.
    pub learn: Latency,
    /// The exclusive section: replacing the snapshot that readers see.
    pub publish: Latency,
    /// One generation: from a snapshot to a durable file.
    pub save: Latency,
    /// Chunks that were learned.
    pub chunks: u64,
    /// Batches that they were learned in; see
    /// [`learn_batch`](crate::RuntimeConfig::learn_batch).
    pub batches: u64,
    /// Snapshots that somebody holds, of all open memories: one for each that is idle, up to
    /// three for one that learns, more where a reader takes its time. As of the last publish
    /// or save of each.
    pub live_snapshots: usize,
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
