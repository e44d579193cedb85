//! What a reader and a caller pay, with and without a learner at work beside them.
//!
//! `cargo bench --bench read_while_learning`. Read the numbers as ratios of one run: recall
//! with a busy learner against recall at rest, and handing rows over against learning them.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use titanmem::{Durability, Rows, Runtime, RuntimeConfig, UserMemory};

const DIM: usize = 64;
const PIECE: usize = 1024;

fn rows(tokens: usize, seed: u64) -> Vec<f32> {
    let mut words = ChaCha8Rng::seed_from_u64(seed);
    (0..tokens * DIM)
        .map(|_| (words.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0)
        .collect()
}

fn observe(memory: &UserMemory, keys: &[f32], values: &[f32]) {
    let tokens = keys.len() / DIM;
    let rows = |data| Rows::f32(data, tokens, DIM);
    let _ = memory.observe(rows(keys), rows(values)).unwrap();
}

fn open(durability: Durability) -> (tempfile::TempDir, Runtime) {
    let root = tempfile::tempdir().unwrap();
    let config = RuntimeConfig {
        durability,
        ..RuntimeConfig::default()
    };
    let runtime = Runtime::open(root.path(), config).unwrap();
    (root, runtime)
}

fn recall(criterion: &mut Criterion) {
    // Saving is left out: what is measured is reading beside learning.
    let (_root, runtime) = open(Durability::Interval(std::time::Duration::from_secs(3600)));
    let memory = runtime.user("reader").unwrap();
    let (keys, values) = (rows(PIECE, 1), rows(PIECE, 2));
    observe(&memory, &keys, &values);
    memory.flush().unwrap();

    let mut group = criterion.benchmark_group("recall one query");
    let mut recalled = vec![0.0; DIM];
    let mut once = || {
        let query = Rows::f32(black_box(&keys[..DIM]), 1, DIM);
        memory.recall_into(query, &mut recalled).unwrap()
    };
    group.bench_function("at rest", |bencher| bencher.iter(&mut once));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                observe(&memory, &keys, &values);
            }
        });
        group.bench_function("while learning", |bencher| bencher.iter(&mut once));
        done.store(true, Ordering::Release);
    });
    group.finish();
}

fn hand_over(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("1024 tokens");
    group.throughput(Throughput::Elements(PIECE as u64));
    group.sample_size(20);
    let (keys, values) = (rows(PIECE, 3), rows(PIECE, 4));
    for (name, durability) in [
        (
            "learned and durable, every chunk saved",
            Durability::EveryChunk,
        ),
        (
            "learned and durable, saves coalesced",
            Durability::Async { max_lag: 16 },
        ),
    ] {
        let (_root, runtime) = open(durability);
        let memory = runtime.user("writer").unwrap();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                observe(&memory, &keys, &values);
                memory.flush().unwrap();
            });
        });
    }
    let (_root, runtime) = open(Durability::Async { max_lag: 16 });
    let memory = runtime.user("writer").unwrap();
    group.bench_function("handed over to an empty queue", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut spent = std::time::Duration::ZERO;
            for _ in 0..iterations {
                let started = std::time::Instant::now();
                observe(&memory, &keys, &values);
                spent += started.elapsed();
                memory.flush().unwrap();
            }
            spent
        });
    });
    group.finish();
}

criterion_group!(benches, recall, hand_over);
criterion_main!(benches);
