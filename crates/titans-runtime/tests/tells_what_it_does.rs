//! Every metric and span is emitted under its name, the numbers of the runtime agree with
//! them, and nobody learns from any of them who a memory belongs to.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use common::{CHUNK, KEY_DIM, Stream, VALUE_DIM, config};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use titans_runtime::{BackupConfig, Runtime, RuntimeConfig, ShardId, Stats};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// No part of a name, a message or a number.
const USER: &str = "zebedee";
const SPANS: [&str; 7] = [
    "backup", "evict", "learn", "load", "publish", "rollback", "save",
];

/// What was traced: the fields of every span and event.
#[derive(Default)]
struct Traced(Mutex<Vec<(&'static str, BTreeMap<&'static str, String>)>>);

static TRACED: Traced = Traced(Mutex::new(Vec::new()));

/// Hands over to [`TRACED`].
struct Tracer;

impl Subscriber for Tracer {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("titans_runtime")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        TRACED.add(span.metadata().name(), fields);
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        TRACED.add("event", fields);
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Traced {
    fn add(&self, name: &'static str, fields: Fields) {
        let mut traced = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        traced.push((name, fields.0));
    }
}

fn settings(place: &Path) -> RuntimeConfig {
    let mut config = config();
    config.resident_bytes = config.bytes_per_user();
    let backups = BackupConfig::new(place.join("backups"))
        .with_pause(Duration::ZERO)
        // Due at any time of day.
        .with_every(Duration::from_secs(1));
    config.backups = Some(backups);
    config
}

/// Does everything once that is counted, but for a flush that fails.
fn do_everything(place: &Path) -> (Runtime, Stats) {
    let root = place.join("memories");
    let stream = Stream::new(2 * CHUNK, 1);
    let shard = {
        let runtime = Runtime::open(&root, settings(place)).unwrap();
        let memory = runtime.user(USER).unwrap();
        stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
        memory.shard()
    };
    damage(&root, shard);
    let runtime = Runtime::open(&root, settings(place)).unwrap();
    let memory = runtime.user(USER).unwrap();
    assert_eq!(memory.skipped().len(), 1);
    stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
    memory.pin().unwrap();
    stream.observe(&memory, CHUNK..2 * CHUNK).unwrap();
    memory.flush().unwrap();
    memory.roll_back().unwrap();

    fs::write(place.join("backups"), b"no folder").unwrap();
    // A second later a backup is due however short ago the second began.
    let now = SystemTime::now() + Duration::from_secs(1);
    assert_eq!(runtime.tick(now).unwrap().failed.len(), 1);
    fs::remove_file(place.join("backups")).unwrap();
    assert_eq!(runtime.tick(now).unwrap().backed_up.len(), 1);
    drop(memory);
    let other = runtime.user(format!("{USER} the second")).unwrap();
    // An unfinished chunk waits.
    stream.observe(&other, 0..5).unwrap();
    let stats = runtime.stats();
    (runtime, stats)
}

fn damage(root: &Path, shard: ShardId) {
    let name = shard.to_string();
    let dir = root.join("users").join(&name[..2]).join(&name[2..4]);
    let file = dir.join(&name[4..]).join("g-00000000000000000001.titanmem");
    fs::write(file, b"damaged").unwrap();
}

/// What the recorder holds: counts and amounts by name, the number of samples for a histogram.
fn recorded(snapshotter: &Snapshotter) -> BTreeMap<String, f64> {
    let mut recorded = BTreeMap::new();
    for (key, _unit, description, value) in snapshotter.snapshot().into_vec() {
        let (_, key) = key.into_parts();
        assert!(description.is_some(), "{} is not described", key.name());
        for label in key.labels() {
            assert_eq!((key.name(), label.key()), ("titanmem_alerts_total", "kind"));
            assert!(!label.value().contains(USER));
        }
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(amount) => amount.into_inner(),
            DebugValue::Histogram(samples) => samples.len() as f64,
        };
        *recorded.entry(key.name().to_owned()).or_insert(0.0) += value;
    }
    recorded
}

/// The names in the tables of the documentation.
fn documented() -> BTreeSet<String> {
    let text = include_str!("../../../docs/observability.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.filter_map(|row| row.split_once('`').map(|(name, _)| name.to_owned()));
    names.filter(|name| name.starts_with("titanmem_")).collect()
}

/// One test, because recorder and subscriber are the process's.
#[test]
fn metrics_stats_and_spans_agree_and_name_nobody() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().unwrap();
    tracing::subscriber::set_global_default(Tracer).unwrap();

    let place = tempfile::tempdir().unwrap();
    let (runtime, stats) = do_everything(place.path());
    let open = recorded(&snapshotter);
    let names: BTreeSet<String> = open.keys().cloned().collect();
    assert_eq!(names, documented());

    // The recorder has seen an earlier runtime of one save and one load, too.
    let at = |name: &str| open[&format!("titanmem_{name}")] as u64;
    assert_eq!((at("saves_total"), stats.saves), (3, 2));
    assert_eq!((at("save_seconds"), stats.save.count), (3, 2));
    assert_eq!((at("encode_seconds"), stats.encode.count), (3, 2));
    assert_eq!((at("fsync_seconds"), stats.fsync.count), (3, 2));
    assert_eq!((at("learn_seconds"), stats.learn.count), (3, 2));
    assert_eq!((at("publish_seconds"), stats.publish.count), (3, 2));
    assert_eq!((at("load_seconds"), stats.load.count), (3, 2));
    assert_eq!((at("backup_seconds"), stats.backup.count), (1, 1));
    for (name, in_stats, expected) in [
        ("rollbacks_total", stats.rollbacks, 1),
        ("damaged_files_total", stats.damaged_files, 1),
        ("evictions_total", stats.evictions, 1),
        ("backups_total", stats.backups, 1),
        ("backup_failures_total", stats.backup_failures, 1),
        ("fsync_errors_total", stats.fsync_errors, 0),
    ] {
        assert_eq!((at(name), in_stats), (expected, expected), "{name}");
    }
    assert_eq!(
        at("alerts_total"),
        3,
        "a damaged file, a rollback, a backup"
    );
    assert!(stats.fsync.max > Duration::ZERO && stats.encode.max > Duration::ZERO);
    let row = (KEY_DIM + VALUE_DIM) * size_of::<f32>();
    assert_eq!(stats.resident_users, 1);
    // It was loaded from nothing and has learned nothing yet, so its state is what all share;
    // beside what waits there may be probes.
    let probes = stats.resident_bytes - 5 * row;
    assert!(probes <= 2 * CHUNK * 3 * row, "{probes}");
    assert_eq!((stats.dirty_bytes, stats.queued_tokens), (5 * row, 5));
    let gauges = [
        ("resident_users", stats.resident_users),
        ("resident_bytes", stats.resident_bytes),
        ("dirty_bytes", stats.dirty_bytes),
        ("queued_tokens", stats.queued_tokens),
    ];
    for (name, in_stats) in gauges {
        assert_eq!(at(name) as usize, in_stats, "{name}");
    }
    drop(runtime);
    // A snapshot of this recorder takes what it shows.
    let closed = recorded(&snapshotter);
    for (name, in_stats) in gauges {
        let change = closed[&format!("titanmem_{name}")];
        assert_eq!(change, -(in_stats as f64), "{name}");
    }

    let traced = TRACED.0.lock().unwrap();
    let spans = traced.iter().filter(|(name, _)| *name != "event");
    let names: BTreeSet<&str> = spans.clone().map(|(name, _)| *name).collect();
    assert_eq!(names, SPANS.into());
    for (name, fields) in spans {
        assert_eq!(fields.len(), 1, "{name}");
        if *name == "learn" {
            // Chunks of several users at once.
            assert_eq!(fields["chunks"], "1");
            continue;
        }
        let shard = &fields["shard"];
        let is_hash = shard.len() == 32 && shard.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_hash, "{name} {shard}");
    }
    let mut fields = traced.iter().flat_map(|(_, fields)| fields.values());
    assert!(fields.all(|field| !field.contains(USER)));
    // Two runtimes were opened; each says once how it computes.
    let plans = traced.iter().filter_map(|(_, fields)| fields.get("plan"));
    assert_eq!(plans.collect::<Vec<_>>(), ["rows"; 2]);
}
