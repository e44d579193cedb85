//! What readers, callers and learners pay while memories learn, beside the goals.
//!
//! `cargo bench -p titans-runtime`, with `-- observe` behind it for one part. Absolute times on
//! a shared machine say little: readers are measured idle and beside a busy learner in turn, in
//! one process, and the goal is on the ratio. The load of the machine is printed, and rows that
//! miss their goal are printed like the others. `TITANMEM_BENCH_PAIRS` says how many pairs
//! (default 9), `TITANMEM_BENCH_LOADS` how many loads look for foreign snapshots (default ten
//! million).
#![allow(clippy::unwrap_used)]

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use titans_core::{MemoryArchitecture, Preset, SparseChannelMlp};
use titans_runtime::{Durability, RecallWatch, Rows, Runtime, RuntimeConfig, UserMemory};

const MIB: f64 = (1 << 20) as f64;
const NEVER: Duration = Duration::from_secs(1 << 20);

fn main() {
    // `cargo test --benches` runs this too; then once through is enough.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let from_env = |name: &str, otherwise: usize| {
        let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
        given.unwrap_or(if is_test { 1 } else { otherwise })
    };
    let pairs = from_env("TITANMEM_BENCH_PAIRS", 9);
    let foreign_loads = from_env("TITANMEM_BENCH_LOADS", 10_000_000);
    let scale = if is_test { 1 } else { 100 };
    println!("{:<62}{:>24}  {:<14}verdict", "", "found", "goal");
    let asked = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let parts: [(&str, &dyn Fn()); 7] = [
        // First, while the process is small.
        ("memory", &|| memory(scale)),
        ("reading", &|| reading(pairs, scale)),
        ("wide", &|| wide_recall(scale)),
        ("observe", &|| handing_over(scale)),
        ("publish", &|| publishing(scale)),
        ("throughput", &|| throughput(pairs.min(5), scale)),
        ("foreign", &|| foreign(foreign_loads)),
    ];
    for (name, part) in parts {
        if asked.as_deref().is_none_or(|asked| asked == name) {
            part();
        }
    }
}

fn section(name: &str) {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    println!("\n{name} (load of the machine {})", load.join(" "));
}

/// One line of the table; `None` where there is no goal.
fn row(name: &str, found: &str, goal: &str, is_met: Option<bool>) {
    let verdict = is_met.map_or("", |is_met| if is_met { "met" } else { "MISSED" });
    println!("{name:<62}{found:>24}  {goal:<14}{verdict}");
}

/// Tokens with keys and values of one width, the same for the same seed.
struct Tokens {
    dim: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Tokens {
    fn new(count: usize, dim: usize, seed: u64) -> Self {
        let mut word = seed.wrapping_mul(2).wrapping_add(1);
        // Of about unit length, which presets without a normalised step need.
        let scale = (3.0 / dim as f32).sqrt();
        let mut rows = || -> Vec<f32> {
            let number = || {
                word = word
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                ((word >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale
            };
            std::iter::repeat_with(number).take(count * dim).collect()
        };
        Self {
            dim,
            keys: rows(),
            values: rows(),
        }
    }

    fn observe(&self, memory: &UserMemory, count: usize) {
        let rows = |data| Rows::matrix(data, self.dim);
        let (keys, values) = (
            &self.keys[..count * self.dim],
            &self.values[..count * self.dim],
        );
        memory.observe(rows(keys), rows(values)).unwrap();
    }

    fn recall(&self, memory: &UserMemory, recalled: &mut [f32]) {
        let query = Rows::row(&self.keys[..self.dim]);
        memory.recall_into(query, recalled).unwrap();
    }
}

/// The default with nothing saved: what is measured is serving beside learning.
fn unsaved() -> RuntimeConfig {
    RuntimeConfig::default().with_durability(Durability::Interval(NEVER))
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap()
}

fn timed(times: usize, histogram: &mut Histogram<u64>, mut work: impl FnMut()) {
    for _ in 0..times {
        let started = Instant::now();
        work();
        histogram.saturating_record(started.elapsed().as_nanos() as u64);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn micros(nanos: u64) -> String {
    format!("{:.3} us", nanos as f64 / 1e3)
}

/// Median and 99th percentile.
fn quantiles(times: &Histogram<u64>) -> String {
    let at = |quantile| micros(times.value_at_quantile(quantile));
    format!("{} / {}", at(0.5), at(0.99))
}

/// Bytes of this process in memory.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<f64>().unwrap() * 1024.0
}

/// What users cost in memory, and whether a budget holds.
fn memory(scale: usize) {
    section("memory");
    let users = scale.max(4);
    let config = RuntimeConfig::default();
    let tokens = Tokens::new(config.chunk_tokens, 64, 1);
    let mib = |bytes: f64| format!("{:.2} MiB", bytes / MIB);
    let estimate = config.bytes_per_user();
    {
        let root = tempfile::tempdir().unwrap();
        let runtime = Runtime::open(root.path(), config.clone()).unwrap();
        // The frozen part, the threads and their scratch are there once.
        let warm = runtime.user("warm").unwrap();
        tokens.observe(&warm, config.chunk_tokens);
        warm.flush().unwrap();
        let before = resident();
        for user in 0..users {
            let user = runtime.user(user).unwrap();
            tokens.observe(&user, config.chunk_tokens);
            user.flush().unwrap();
        }
        let each = (resident() - before) / users as f64;
        let name = format!("RSS of an idle user that has learned (n = {users})");
        row(&name, &mib(each), "", None);
        let state = config.memory.state_bytes() as f64;
        row("  its state", &mib(state), "", None);
        row(
            "  what a busy user may take, by the own estimate",
            &mib(estimate as f64),
            ">= RSS",
            Some(each <= estimate as f64),
        );
        let per_gib = format!("{:.0}", (1 << 30) as f64 / each);
        row("idle users per GiB", &per_gib, "", None);
    }
    let fit = 8;
    let config = config.with_resident_bytes(fit * estimate);
    let root = tempfile::tempdir().unwrap();
    let runtime = Runtime::open(root.path(), config.clone()).unwrap();
    let before = resident();
    let mut most = 0.0_f64;
    for user in 0..10 * fit {
        let user = runtime.user(user).unwrap();
        tokens.observe(&user, config.chunk_tokens);
        most = most.max(resident() - before);
    }
    let share = most / config.resident_bytes as f64;
    row(
        &format!(
            "RSS growth, {} users where {fit} fit, of the budget",
            10 * fit
        ),
        &format!("{share:.2}x"),
        "<= 1.05x",
        Some(share <= 1.05),
    );
}

/// Loads and recalls, idle and beside a busy learner in turn.
fn reading(pairs: usize, scale: usize) {
    let root = tempfile::tempdir().unwrap();
    let runtime = Runtime::open(root.path(), unsaved()).unwrap();
    let memory = runtime.user("reader").unwrap();
    let tokens = Tokens::new(1024, 64, 1);
    tokens.observe(&memory, 1024);
    memory.flush().unwrap();
    let bench = Beside {
        pairs,
        memory: &memory,
        tokens: &tokens,
    };
    // No query is a load and nothing else.
    bench.compare("load of a snapshot", 2000 * scale, &mut || {
        memory
            .recall_into(Rows::matrix::<f32>(&[], 64), &mut [])
            .unwrap();
    });
    let mut recalled = [0.0; 64];
    bench.compare("recall of one query, d 64", 20 * scale, &mut || {
        tokens.recall(&memory, &mut recalled);
    });
}

/// A reader beside a learner of the same memory.
struct Beside<'a> {
    pairs: usize,
    memory: &'a UserMemory,
    tokens: &'a Tokens,
}

impl Beside<'_> {
    fn compare(&self, name: &str, times: usize, work: &mut dyn FnMut()) {
        section(name);
        let (mut idle, mut busy) = (histogram(), histogram());
        let mut ratios = Vec::new();
        for pair in 0..self.pairs {
            let mut sample = |is_busy: bool| {
                let mut sample = histogram();
                match is_busy {
                    true => self.while_learning(|| timed(times, &mut sample, &mut *work)),
                    false => timed(times, &mut sample, &mut *work),
                }
                sample
            };
            // Who goes first takes turns as well.
            let (a, b) = if pair % 2 == 0 {
                let a = sample(false);
                (a, sample(true))
            } else {
                let b = sample(true);
                (sample(false), b)
            };
            let ratio = |q| b.value_at_quantile(q) as f64 / a.value_at_quantile(q) as f64;
            ratios.push((ratio(0.5), ratio(0.99)));
            idle.add(a).unwrap();
            busy.add(b).unwrap();
        }
        for (which, times) in [("idle", &idle), ("busy", &busy)] {
            let name = format!("  {which}: p50 / p99 (n = {})", times.len());
            row(&name, &quantiles(times), "", None);
        }
        let p50 = median(ratios.iter().map(|ratio| ratio.0).collect());
        let p99 = median(ratios.iter().map(|ratio| ratio.1).collect());
        for (name, ratio, limit) in [("p50", p50, 1.05), ("p99", p99, 5.0)] {
            row(
                &format!(
                    "  {name}, busy against idle, median of {} pairs",
                    self.pairs
                ),
                &format!("{ratio:.2}x"),
                &format!("<= {limit}x"),
                Some(ratio <= limit),
            );
        }
        let long = |times: &Histogram<u64>| times.count_between(1_000_001, u64::MAX);
        let (idle, busy) = (long(&idle), long(&busy));
        row(
            "  longer than 1 ms, idle and busy",
            &format!("{idle} and {busy}"),
            "<= 1.2x",
            Some(busy as f64 <= 1.2 * idle as f64),
        );
    }

    /// Runs `work` while the memory learns without pause.
    fn while_learning(&self, work: impl FnOnce()) {
        let done = AtomicBool::new(false);
        let learned = self.memory.progress().visible;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    self.tokens.observe(self.memory, 1024);
                }
            });
            while self.memory.progress().visible == learned {
                std::thread::yield_now();
            }
            work();
            done.store(true, Ordering::Release);
        });
        self.memory.flush().unwrap();
    }
}

/// A query of a memory with wide keys and values.
fn wide_recall(scale: usize) {
    section("recall of one query, d 1024, idle");
    for channels in [8192, 1024] {
        let mut config = unsaved();
        (config.memory.key_dim, config.memory.value_dim) = (1024, 1024);
        config.memory.miras.architecture = MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
            channels,
            active_channels: 64,
        });
        (config.chunk_tokens, config.queue_tokens) = (256, 1024);
        let root = tempfile::tempdir().unwrap();
        let runtime = Runtime::open(root.path(), config).unwrap();
        let memory = runtime.user("wide").unwrap();
        let tokens = Tokens::new(256, 1024, 1);
        tokens.observe(&memory, 256);
        memory.flush().unwrap();
        let mut recalled = vec![0.0; 1024];
        let mut times = histogram();
        timed(20 * scale, &mut times, || {
            tokens.recall(&memory, &mut recalled);
        });
        row(
            &format!(
                "sparse, {channels} channels: p50 / p99 (n = {})",
                times.len()
            ),
            &quantiles(&times),
            "p99 < 1 ms",
            Some(times.value_at_quantile(0.99) < 1_000_000),
        );
    }
}

/// What `observe` costs its caller while there is room in the queue.
fn handing_over(scale: usize) {
    section("observe, d 64, a learner at work whenever a chunk is whole");
    for (rows, times) in [(1, 400 * scale), (512, 20 * scale)] {
        let root = tempfile::tempdir().unwrap();
        let runtime = Runtime::open(root.path(), unsaved()).unwrap();
        let memory = runtime.user("caller").unwrap();
        let tokens = Tokens::new(rows, 64, 1);
        let (mut taken, mut work) = (histogram(), histogram());
        for _ in 0..times {
            let progress = memory.progress();
            if progress.accepted - progress.visible > 2 * 4096 {
                // Who is faster than learning waits in the end; that is no enqueueing.
                memory.flush().unwrap();
            }
            let own = clock_gettime(ClockId::ThreadCPUTime);
            timed(1, &mut taken, || tokens.observe(&memory, rows));
            let own = clock_gettime(ClockId::ThreadCPUTime) - own;
            work.record(own.tv_nsec as u64 + 1_000_000_000 * own.tv_sec as u64)
                .unwrap();
        }
        row(
            &format!("{rows} rows: p50 / p99 (n = {})", taken.len()),
            &quantiles(&taken),
            "p99 < 50 us",
            Some(taken.value_at_quantile(0.99) < 50_000),
        );
        // Without the time that other threads had the processor.
        row("  of it the caller's own", &quantiles(&work), "", None);
    }
}

/// The exclusive section against what it takes to get there.
fn publishing(scale: usize) {
    section("publish, every chunk saved");
    let root = tempfile::tempdir().unwrap();
    let config = RuntimeConfig::default();
    let runtime = Runtime::open(root.path(), config.clone()).unwrap();
    let memory = runtime.user("writer").unwrap();
    let tokens = Tokens::new(config.chunk_tokens, 64, 1);
    for _ in 0..4 * scale {
        tokens.observe(&memory, config.chunk_tokens);
    }
    memory.flush().unwrap();
    let stats = runtime.stats();
    let micro = |time: Duration| micros(time.as_nanos() as u64);
    row(
        &format!("publish: p50 / p99 (n = {})", stats.publish.count),
        &format!(
            "{} / {}",
            micro(stats.publish.p50),
            micro(stats.publish.p99)
        ),
        "p99 < 100 us",
        Some(stats.publish.p99 < Duration::from_micros(100)),
    );
    for (name, latency) in [
        ("learning a chunk of 4096 tokens: p50 / p99", stats.learn),
        ("saving a generation: p50 / p99", stats.save),
    ] {
        let times = format!("{} / {}", micro(latency.p50), micro(latency.p99));
        row(name, &times, "", None);
    }
    let share = 100.0 * stats.publish.p50.as_secs_f64() / stats.learn.p50.as_secs_f64();
    row(
        "publish against learning, p50",
        &format!("{share:.4} %"),
        "<= 0.5 %",
        Some(share <= 0.5),
    );
}

/// Chunks of many users, alone and together.
fn throughput(pairs: usize, scale: usize) {
    for (preset, chunk, most) in [
        (Preset::Sparse, 4096, scale),
        (Preset::Titans, 128, 2 * scale),
        (Preset::Titans, 16, 2 * scale),
    ] {
        section(&format!(
            "chunks of {chunk} tokens, {preset}, nothing saved"
        ));
        for users in [1, 8, 64] {
            let each = most.div_ceil(users);
            let watch = Some(RecallWatch::default());
            let rate = |learn_batch, watch| {
                let config = RuntimeConfig::preset(preset)
                    .with_durability(Durability::Interval(NEVER))
                    .with_chunk_tokens(chunk)
                    .with_queue_tokens(each * chunk)
                    .with_learn_batch(learn_batch)
                    .with_recall_watch(watch)
                    .with_resident_bytes(usize::MAX);
                learn(config, users, each)
            };
            let rates: Vec<_> = (0..pairs)
                .map(|_| [rate(1, watch), rate(16, watch), rate(1, None)])
                .collect();
            let of = |index: usize| median(rates.iter().map(|rates| rates[index]).collect());
            let against_first =
                |index: usize| median(rates.iter().map(|rates| rates[index] / rates[0]).collect());
            row(
                &format!("{users} users, {each} each"),
                &format!("{:.1} /s", of(0)),
                "",
                None,
            );
            for (index, name) in [(1, "in batches of 16"), (2, "without the recall watch")] {
                row(
                    &format!("  {name}"),
                    &format!("{:.1} /s = {:.2}x", of(index), against_first(index)),
                    "",
                    None,
                );
            }
        }
    }
}

/// Chunks in a second, for users who hand over `each` chunks at once.
fn learn(config: RuntimeConfig, users: usize, each: usize) -> f64 {
    let root = tempfile::tempdir().unwrap();
    let chunk = config.chunk_tokens;
    let tokens = Tokens::new(chunk, config.memory.key_dim, 1);
    let runtime = Runtime::open(root.path(), config).unwrap();
    let handles: Vec<_> = (0..users).map(|user| runtime.user(user).unwrap()).collect();
    let started = Instant::now();
    for _ in 0..each {
        for user in &handles {
            tokens.observe(user, chunk);
        }
    }
    let end = (each * chunk) as u64;
    while handles.iter().any(|user| user.progress().visible < end) {
        std::thread::sleep(Duration::from_micros(200));
    }
    (users * each) as f64 / started.elapsed().as_secs_f64()
}

/// Loads while shards come and go and their memory is used again.
fn foreign(loads: usize) {
    section("foreign snapshots under churn");
    let mut config = RuntimeConfig::default();
    config.memory.miras.architecture = MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
        channels: 256,
        active_channels: 8,
    });
    (config.chunk_tokens, config.queue_tokens) = (32, 128);
    config.resident_bytes = 4 * config.bytes_per_user();
    let root = tempfile::tempdir().unwrap();
    let runtime = Runtime::open(root.path(), config).unwrap();
    let tokens = Tokens::new(32, 64, 1);
    let done = AtomicBool::new(false);
    let (refused, opened) = std::thread::scope(|scope| {
        let churn = scope.spawn(|| {
            let mut opened = 0_u64;
            while !done.load(Ordering::Acquire) {
                opened += 1;
                let user = runtime.user((opened % 64).to_string()).unwrap();
                tokens.observe(&user, 32);
            }
            opened
        });
        let mut refused = 0;
        for turn in 0..loads.div_ceil(1000) {
            let user = runtime.user((turn % 16).to_string()).unwrap();
            for _ in 0..1000 {
                let load = user.recall_into(Rows::matrix::<f32>(&[], 64), &mut []);
                refused += usize::from(load.is_err());
            }
        }
        done.store(true, Ordering::Release);
        (refused, churn.join().unwrap())
    });
    row(
        &format!("of {loads} loads while memories were opened {opened} times"),
        &refused.to_string(),
        "0",
        Some(refused == 0),
    );
}
