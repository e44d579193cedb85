//! A memory that writes sparsely tells what a chunk has changed, and its journal holds that and
//! nothing else. A memory on a GPU is not copied for it.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{CHUNK, Stream, only_memory};
use titans_core::{
    ComputeDevice, ForgetScope, GradientDescent, LearningAlgorithm, MemoryArchitecture, Momentum,
    Preset, SparseChannelMlp, SparseGate, UpdateConfig,
};
use titans_runtime::{Runtime, RuntimeConfig};
use titans_store::{DeltaCheck, Limits, SaveMode, verify_dir};

const WIDTHS: (usize, usize) = (13, 11);
const CHUNKS: usize = 5;

fn config(preset: Preset, device: ComputeDevice, delta_check: DeltaCheck) -> RuntimeConfig {
    let mut config = RuntimeConfig::preset(preset);
    config.device = device;
    (config.memory.key_dim, config.memory.value_dim) = WIDTHS;
    config.chunk_tokens = CHUNK;
    config.queue_tokens = 4 * CHUNK;
    config.store.mode = SaveMode::Journal;
    config.store.delta_check = delta_check;
    config
}

fn gated(
    device: ComputeDevice,
    gate: SparseGate,
    learning_algorithm: LearningAlgorithm,
    delta_check: DeltaCheck,
) -> RuntimeConfig {
    let mut config = config(Preset::Article, device, delta_check);
    if let MemoryArchitecture::Mlp(mlp) = &mut config.memory.miras.architecture {
        mlp.hidden = 67;
    }
    config.memory.miras.learning_algorithm = learning_algorithm;
    config.memory.update = UpdateConfig {
        // Two updates in a chunk.
        update_size: CHUNK / 2,
        sparse_gate: gate,
        forget_scope: ForgetScope::Written,
        surprise_threshold: 0.0,
        ..config.memory.update
    };
    config
}

/// A memory that is written row by row, of which a chunk touches a few.
fn of_rows(device: ComputeDevice, delta_check: DeltaCheck) -> RuntimeConfig {
    let mut config = config(Preset::Sparse, device, delta_check);
    config.memory.miras.architecture = MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
        channels: 1031,
        active_channels: 5,
    });
    config
}

/// Learns chunk after chunk, saves each, and opens the folder again: the same answers. Gives
/// the bytes of the base and those of its journal.
fn learn_and_reopen(root: &Path, config: &RuntimeConfig) -> (u64, u64) {
    let stream = Stream::with_widths(CHUNKS * CHUNK, 3, WIDTHS);
    let runtime = Runtime::open(root, config.clone()).unwrap();
    let user = runtime.user("alice").unwrap();
    for chunk in 0..CHUNKS {
        stream
            .observe(&user, chunk * CHUNK..(chunk + 1) * CHUNK)
            .unwrap();
        runtime.flush().unwrap();
    }
    let recalled = stream.recall(&user);
    assert!(recalled.iter().any(|number| number.abs() > 1e-3));
    drop(user);
    drop(runtime);

    let dir = only_memory(root);
    let verdicts = verify_dir(&dir, &Limits::default()).unwrap();
    assert!(verdicts.iter().all(|verdict| verdict.problem.is_none()));
    let records: usize = (verdicts.iter())
        .filter_map(|verdict| verdict.records.as_ref())
        .map(Vec::len)
        .sum();
    assert_eq!(records, CHUNKS - 1, "all but the first chunk are records");
    let bytes = |suffix: &str| -> u64 {
        let files = std::fs::read_dir(&dir).unwrap().map(Result::unwrap);
        files
            .filter(|file| file.file_name().to_str().unwrap().ends_with(suffix))
            .map(|file| file.metadata().unwrap().len())
            .sum()
    };

    let runtime = Runtime::open(root, config.clone()).unwrap();
    let user = runtime.user("alice").unwrap();
    assert_eq!(stream.recall(&user), recalled);
    (bytes(".titanmem"), bytes(".titanlog"))
}

fn journals_the_rows(device: ComputeDevice) {
    for check in [DeltaCheck::Compare, DeltaCheck::Trust] {
        let root = tempfile::tempdir().unwrap();
        learn_and_reopen(root.path(), &of_rows(device, check));
    }
}

fn journals_what_a_gate_lets_through(device: ComputeDevice) {
    let descent = LearningAlgorithm::GradientDescent(GradientDescent { step_size: 0.05 });
    // A momentum changes wherever it is not zero: not told, but looked up.
    let momentum = LearningAlgorithm::Momentum(Momentum {
        step_size: 0.05,
        momentum_decay: 0.5,
        second_momentum_decay: None,
    });
    let elements = SparseGate::Elements { ratio: 0.02 };
    let channels = SparseGate::Channels {
        ratio: 0.1,
        columns: 0.5,
    };
    for (gate, algorithm) in [
        (elements, descent),
        (channels, descent),
        (elements, momentum),
    ] {
        // Compared with the whole image of each chunk, and trusted.
        for check in [DeltaCheck::Compare, DeltaCheck::Trust] {
            let root = tempfile::tempdir().unwrap();
            let config = gated(device, gate, algorithm, check);
            let (base, journal) = learn_and_reopen(root.path(), &config);
            if algorithm == descent {
                let records = CHUNKS as u64 - 1;
                assert!(journal < records * base / 2, "{journal} beside {base}");
            }
        }
    }
}

#[test]
fn a_memory_of_rows_is_journalled_by_its_rows() {
    journals_the_rows(ComputeDevice::Cpu);
}

#[test]
fn a_gated_memory_is_journalled_by_what_changes() {
    journals_what_a_gate_lets_through(ComputeDevice::Cpu);
}

/// Skips itself where no adapter is found.
#[test]
#[cfg(feature = "wgpu")]
fn so_is_each_on_a_gpu() {
    if let Err(error) = ComputeDevice::Wgpu.open() {
        eprintln!("skipped: {error}");
        return;
    }
    journals_the_rows(ComputeDevice::Wgpu);
    journals_what_a_gate_lets_through(ComputeDevice::Wgpu);
}
