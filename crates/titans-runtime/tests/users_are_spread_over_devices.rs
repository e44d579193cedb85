//! Users are spread over the devices of a configuration, and none notices.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{CHUNK, Stream};
use titans_core::{ComputeDevice, Preset};
use titans_runtime::{Rows, Runtime, RuntimeConfig};

const USERS: usize = 6;

fn config(more_devices: Vec<ComputeDevice>) -> RuntimeConfig {
    RuntimeConfig::preset(Preset::Titans)
        .with_more_devices(more_devices)
        .with_learners(2)
        .with_chunk_tokens(CHUNK)
        .with_queue_tokens(64 * CHUNK)
}

/// Learns a stream of each user, or opens what was learned; gives what each recalls of its own
/// first keys.
fn recall(root: &Path, config: RuntimeConfig, learn: bool) -> Vec<Vec<f32>> {
    let widths = (config.memory.key_dim, config.memory.value_dim);
    let runtime = Runtime::open(root, config).unwrap();
    let users: Vec<_> = (0..USERS).map(|user| runtime.user(user).unwrap()).collect();
    let streams: Vec<_> = (0..USERS)
        .map(|user| Stream::with_widths(3 * CHUNK, user as u64, widths))
        .collect();
    if learn {
        for (user, stream) in users.iter().zip(&streams) {
            stream.observe(user, 0..stream.tokens()).unwrap();
        }
        runtime.flush().unwrap();
    }
    (users.iter().zip(&streams))
        .map(|(user, stream)| {
            let keys = &stream.keys[..CHUNK * widths.0];
            user.recall(Rows::matrix(keys, widths.0)).unwrap().into()
        })
        .collect()
}

#[cfg(feature = "wgpu")]
fn largest_difference(left: &[Vec<f32>], right: &[Vec<f32>]) -> f32 {
    assert_eq!(left.len(), right.len());
    let pairs = left.iter().flatten().zip(right.iter().flatten());
    pairs.fold(0.0, |most, (l, r)| most.max((l - r).abs()))
}

#[test]
fn on_two_devices_everybody_recalls_what_they_recall_on_one() {
    let one = tempfile::tempdir().unwrap();
    let on_one = recall(one.path(), config(Vec::new()), true);
    assert!(on_one.iter().flatten().any(|number| number.abs() > 0.05));
    // Two of a kind are two places, too: nobody's chunk is learned beside another place's.
    let two = tempfile::tempdir().unwrap();
    let on_two = recall(two.path(), config(vec![ComputeDevice::Cpu]), true);
    assert_eq!(on_two, on_one);
    // And what was saved on two is read on one.
    assert_eq!(recall(two.path(), config(Vec::new()), false), on_one);
}

#[test]
fn a_device_that_is_not_there_is_an_error_that_names_it() {
    let root = tempfile::tempdir().unwrap();
    let missing = ComputeDevice::Cuda(1_000_000);
    let error = Runtime::open(root.path(), config(vec![missing])).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("cuda:1000000"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

/// Skips itself where no adapter is found.
#[test]
#[cfg(feature = "wgpu")]
fn the_cpu_and_a_gpu_serve_users_beside_each_other() {
    if let Err(error) = ComputeDevice::Wgpu.open() {
        eprintln!("skipped: {error}");
        return;
    }
    let one = tempfile::tempdir().unwrap();
    let on_cpu = recall(one.path(), config(Vec::new()), true);
    let two = tempfile::tempdir().unwrap();
    let on_both = recall(two.path(), config(vec![ComputeDevice::Wgpu]), true);
    // Sums in another order.
    let difference = largest_difference(&on_both, &on_cpu);
    assert!(difference > 0.0, "nobody was on the GPU");
    assert!(difference < 1e-3, "{difference}");
}
