//! What one chunk costs: a dense memory's update and read, and a sparse one's.
//!
//! `cargo bench -p titans-bench --bench chunk`. `RAYON_NUM_THREADS` says with how many threads; the fractions of
//! what the machine can do are in `cargo run --release -p titans-bench --bin bench_cpu`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use burn::tensor::{Device, Distribution, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use titans_core::{MemoryArchitecture, NeuralMemory, Preset, Reduction};

fn rows(tokens: usize, dim: usize) -> Tensor<2> {
    let unit = Distribution::Normal(0.0, 1.0 / (dim as f64).sqrt());
    Tensor::random([tokens, dim], unit, &Device::flex())
}

fn dense(criterion: &mut Criterion) {
    const DIM: usize = 256;
    let mut group = criterion.benchmark_group("dense, width 256, two layers");
    for chunk in [1, 16, 64, 256, 1024] {
        let mut config = Preset::Titans.config();
        (config.key_dim, config.value_dim) = (DIM, DIM);
        config.update.update_size = chunk;
        config.update.reduction = Reduction::Mean;
        if let MemoryArchitecture::Mlp(mlp) = &mut config.miras.architecture {
            mlp.hidden = 4 * DIM;
        }
        let memory = NeuralMemory::new(config, &Device::flex()).unwrap();
        let mut state = memory.initial_state();
        let (keys, values) = (rows(chunk, DIM), rows(chunk, DIM));
        group.throughput(Throughput::Elements(chunk as u64));
        group.bench_function(BenchmarkId::new("write", chunk), |bencher| {
            bencher.iter(|| {
                memory
                    .write(&mut state, keys.clone(), values.clone())
                    .unwrap()
            });
        });
        group.bench_function(BenchmarkId::new("read", chunk), |bencher| {
            bencher.iter(|| memory.read(&state, black_box(keys.clone())));
        });
    }
    group.finish();
}

fn sparse(criterion: &mut Criterion) {
    const CHUNK: usize = 1024;
    let memory = NeuralMemory::new(Preset::Sparse.config(), &Device::flex()).unwrap();
    let mut group = criterion.benchmark_group("sparse, 8192 channels of which 64 are active");
    group.throughput(Throughput::Elements(CHUNK as u64));
    let mut state = memory.initial_state();
    let (keys, values) = (rows(CHUNK, 64), rows(CHUNK, 64));
    memory
        .write(&mut state, keys.clone(), values.clone())
        .unwrap();
    group.bench_function("write what is known", |bencher| {
        bencher.iter(|| {
            memory
                .write(&mut state, keys.clone(), values.clone())
                .unwrap()
        });
    });
    group.bench_function("write news", |bencher| {
        bencher.iter_batched(
            || (rows(CHUNK, 64), rows(CHUNK, 64)),
            |(keys, values)| memory.write(&mut state, keys, values).unwrap(),
            criterion::BatchSize::LargeInput,
        );
    });
    group.bench_function("read", |bencher| {
        bencher.iter(|| memory.read(&state, black_box(keys.clone())));
    });
    group.finish();
}

criterion_group!(benches, dense, sparse);
criterion_main!(benches);
