//! Every kernel gives what the reference gives, on odd and prime sizes.
//!
//! The device is `TITANS_TEST_DEVICE`, `wgpu` where that is not set. Numbers are drawn and
//! the reference is computed on the CPU, so that a wrong driver cannot agree with itself.
#![cfg(feature = "cube")]

mod changes;
mod dense;
mod finite;
mod scan;

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use titans_core::{
    ActiveChannels, ComputeDevice, Expansion, MemoryArchitecture, MemoryConfig, MemoryOps,
    MirasConfig, NeuralMemory, NoRetention, Preset, RetentionGate, SparseChannelMlp,
    SurpriseSigmoid, TensorOps, WriteRule, Written,
};
use titans_kernels::{CubeOps, runs_on};

/// f32 sums of up to a thousand terms, added in another order.
const TOLERANCE: f32 = 2e-5;

/// `[memories, tokens, key_dim, channels, active, value_dim]`: ones, primes, more channels
/// than units, more than one column of the values for a unit.
const SIZES: [[usize; 6]; 5] = [
    [1, 1, 1, 1, 1, 1],
    [2, 13, 7, 33, 5, 3],
    [3, 29, 17, 257, 16, 67],
    [1, 7, 31, 1031, 64, 300],
    [5, 11, 5, 64, 64, 521],
];

fn device() -> Device {
    let name = std::env::var("TITANS_TEST_DEVICE").unwrap_or_else(|_| "wgpu".to_owned());
    let device: ComputeDevice = name.parse().expect("a device's name");
    let device = device.open().unwrap_or_else(|error| panic!("{error}"));
    assert!(runs_on(&device), "{name} runs no kernels");
    device
}

/// Leaves freed memory full of NaN, for the next outputs: what a kernel does not write shows.
fn poison(device: &Device, numbers: usize) {
    let poisoned: Vec<Tensor<1>> = (0..4)
        .map(|_| Tensor::from_data(TensorData::new(vec![f32::NAN; numbers], [numbers]), device))
        .collect();
    device.sync().expect("memory for NaN");
    drop(poisoned);
}

struct Numbers(ChaCha8Rng);

impl Numbers {
    fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    fn draw(&mut self, count: usize) -> Vec<f32> {
        (0..count)
            .map(|_| self.0.random_range(-1.0f32..1.0))
            .collect()
    }
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32")
}

fn integers(tensor: Tensor<2, Int>) -> Vec<i32> {
    tensor.into_data_as::<i32>().try_into_vec().expect("i32")
}

fn assert_close(ours: &[f32], reference: &[f32], what: &str) {
    assert_eq!(ours.len(), reference.len(), "{what}");
    let scale = reference.iter().fold(1.0f32, |most, x| most.max(x.abs()));
    for (place, (ours, reference)) in ours.iter().zip(reference).enumerate() {
        assert!(
            (ours - reference).abs() <= TOLERANCE * scale,
            "{what} at {place}: {ours}, reference {reference}"
        );
    }
}

/// The same active channels on the device and on the CPU, some features zero.
fn active(
    numbers: &mut Numbers,
    [tokens, channels, active]: [usize; 3],
    gpu: &Device,
) -> [ActiveChannels; 2] {
    let mut indices: Vec<i32> = Vec::new();
    for _ in 0..tokens {
        let mut all: Vec<(f32, i32)> = numbers.draw(channels).into_iter().zip(0..).collect();
        all.sort_by(|left, right| left.0.total_cmp(&right.0));
        let mut some: Vec<i32> = all[..active].iter().map(|(_, channel)| *channel).collect();
        some.sort_unstable();
        indices.extend(some);
    }
    let mut features = numbers.draw(tokens * active);
    for row in features.chunks_exact_mut(active) {
        row.iter_mut().for_each(|f| *f = f.max(0.0));
        let norm = row.iter().map(|f| f * f).sum::<f32>().sqrt();
        row.iter_mut()
            .for_each(|f| *f /= norm.max(f32::MIN_POSITIVE));
    }
    [gpu, &Device::flex()].map(|device| ActiveChannels {
        indices: Tensor::from_data(TensorData::new(indices.clone(), [tokens, active]), device),
        features: tensor(&features, [tokens, active], device),
    })
}

fn rules() -> [WriteRule; 3] {
    let plain = WriteRule {
        step_size: 0.7,
        normalise: false,
        surprise_threshold: 0.0,
        retention_gate: RetentionGate::None(NoRetention),
    };
    [
        plain,
        WriteRule {
            normalise: true,
            surprise_threshold: 0.9,
            ..plain
        },
        WriteRule {
            retention_gate: RetentionGate::SurpriseSigmoid(SurpriseSigmoid {
                gain: 0.8,
                offset: 3.0,
                smoothing: 0.9,
            }),
            ..plain
        },
    ]
}

#[test]
fn activation_selects_the_channels_of_the_reference() {
    let gpu = device();
    for (seed, [_, tokens, key_dim, channels, active, _]) in (0..).zip(SIZES) {
        let mut numbers = Numbers::new(seed);
        let keys = numbers.draw(tokens * key_dim);
        let expansion = numbers.draw(key_dim * channels);
        let on = |device: &Device| {
            (
                tensor(&keys, [tokens, key_dim], device),
                Expansion::new(tensor(&expansion, [key_dim, channels], device)),
            )
        };
        let (keys_cpu, expansion_cpu) = on(&Device::flex());
        let reference = TensorOps.activate(keys_cpu, &expansion_cpu, active);
        let (keys_gpu, expansion_gpu) = on(&gpu);
        poison(&gpu, tokens * active);
        let ours = CubeOps::default().activate(keys_gpu, &expansion_gpu, active);
        assert_eq!(
            integers(ours.indices),
            integers(reference.indices),
            "{channels} channels"
        );
        assert_close(
            &floats(ours.features),
            &floats(reference.features),
            "features",
        );
    }
}

#[test]
fn equal_activations_are_selected_by_index() {
    let gpu = device();
    let (channels, active) = (601, 37);
    // Three distinct activations, and none positive for the last key.
    let keys = [1.0, 0.0, -1.0, -1.0];
    let row = |shift: usize| (0..channels).map(move |c| ((c + shift) % 3) as f32);
    let expansion: Vec<f32> = row(0).chain(row(1)).collect();
    let run = |ops: &dyn MemoryOps, device: &Device| {
        let expansion = Expansion::new(tensor(&expansion, [2, channels], device));
        let active = ops.activate(tensor(&keys, [2, 2], device), &expansion, active);
        (integers(active.indices), floats(active.features))
    };
    let (indices, features) = run(&CubeOps::default(), &gpu);
    let (reference, reference_features) = run(&TensorOps, &Device::flex());
    assert_eq!(indices, reference);
    assert_close(&features, &reference_features, "features");
    assert!(features[active..].iter().all(|feature| *feature == 0.0));
}

#[test]
fn an_activation_does_not_hang_on_the_tokens_beside_it() {
    let gpu = device();
    let mut numbers = Numbers::new(7);
    let (tokens, key_dim, channels, active) = (19, 23, 307, 31);
    let keys = numbers.draw(tokens * key_dim);
    let expansion = numbers.draw(key_dim * channels);
    let expansion = Expansion::new(tensor(&expansion, [key_dim, channels], &gpu));
    let all =
        CubeOps::default().activate(tensor(&keys, [tokens, key_dim], &gpu), &expansion, active);
    let (indices, features) = (integers(all.indices), floats(all.features));
    for token in 0..tokens {
        let key = &keys[token * key_dim..(token + 1) * key_dim];
        let alone =
            CubeOps::default().activate(tensor(key, [1, key_dim], &gpu), &expansion, active);
        let row = token * active..(token + 1) * active;
        assert_eq!(integers(alone.indices), indices[row.clone()]);
        assert_eq!(floats(alone.features), features[row]);
    }
}

#[test]
fn read_equals_the_reference() {
    let gpu = device();
    for (seed, [_, tokens, _, channels, per_token, value_dim]) in (0..).zip(SIZES) {
        let mut numbers = Numbers::new(seed);
        let [ours, reference] = active(&mut numbers, [tokens, channels, per_token], &gpu);
        let weights = numbers.draw(channels * value_dim);
        let on = |device: &Device| tensor(&weights, [channels, value_dim], device);
        let (on_gpu, on_cpu) = (on(&gpu), on(&Device::flex()));
        poison(&gpu, tokens * value_dim);
        assert_close(
            &floats(CubeOps::default().read(&on_gpu, &ours)),
            &floats(TensorOps.read(&on_cpu, &reference)),
            "prediction",
        );
    }
}

fn assert_same_write(ours: Written, reference: Written) {
    assert_eq!(ours.tokens_written, reference.tokens_written);
    assert_eq!(ours.touched_rows, reference.touched_rows);
    assert_close(&ours.surprise, &reference.surprise, "surprise");
    assert_close(
        &[ours.smoothed_surprise],
        &[reference.smoothed_surprise],
        "smoothed surprise",
    );
    assert_close(&floats(ours.weights), &floats(reference.weights), "weights");
}

#[test]
fn write_equals_the_reference_and_a_batch_equals_each_alone() {
    let gpu = device();
    for (seed, [memories, tokens, _, channels, per_token, value_dim]) in (0..).zip(SIZES) {
        for rule in rules() {
            let mut numbers = Numbers::new(seed);
            let all_tokens = memories * tokens;
            let [ours, reference] = active(&mut numbers, [all_tokens, channels, per_token], &gpu);
            let values = numbers.draw(all_tokens * value_dim);
            let smoothed = numbers.draw(memories);
            let weights: Vec<Vec<f32>> = (0..memories)
                .map(|_| numbers.draw(channels * value_dim))
                .collect();
            let on = |device: &Device| -> Vec<Tensor<2>> {
                let each = weights.iter();
                each.map(|weights| tensor(weights, [channels, value_dim], device))
                    .collect()
            };
            let shape = [memories, tokens, value_dim];
            let expected = TensorOps.write_batch(
                on(&Device::flex()),
                &smoothed,
                &reference,
                tensor(&values, shape, &Device::flex()),
                &rule,
            );
            let on_gpu = on(&gpu);
            let values_gpu: Tensor<3> = tensor(&values, shape, &gpu);
            poison(&gpu, channels * value_dim);
            let batch =
                CubeOps::default().write_batch(on_gpu, &smoothed, &ours, values_gpu.clone(), &rule);
            for (memory, (batch, expected)) in batch.into_iter().zip(expected).enumerate() {
                let alone = CubeOps::default().write(
                    tensor(&weights[memory], [channels, value_dim], &gpu),
                    smoothed[memory],
                    &ActiveChannels {
                        indices: ours.indices.clone().narrow(0, memory * tokens, tokens),
                        features: ours.features.clone().narrow(0, memory * tokens, tokens),
                    },
                    values_gpu.clone().narrow(0, memory, 1).squeeze_dim(0),
                    &rule,
                );
                assert_eq!(alone.surprise, batch.surprise);
                assert_eq!(floats(alone.weights), floats(batch.weights.clone()));
                assert_same_write(batch, expected);
            }
        }
    }
}

#[test]
fn a_snapshot_keeps_its_numbers_while_its_memory_is_written() {
    let gpu = device();
    let mut numbers = Numbers::new(3);
    let [ours, _] = active(&mut numbers, [5, 67, 8], &gpu);
    let before = numbers.draw(67 * 41);
    let values = numbers.draw(5 * 41);
    let weights: Tensor<2> = tensor(&before, [67, 41], &gpu);
    let snapshot = weights.clone();
    let written = CubeOps::default().write(
        weights,
        0.0,
        &ours,
        tensor(&values, [5, 41], &gpu),
        &rules()[0],
    );
    assert_eq!(written.tokens_written, 5);
    assert_eq!(floats(snapshot), before);
    assert_ne!(floats(written.weights), before);
}

#[test]
fn a_value_of_zeros_is_written_like_the_reference_writes_it() {
    let gpu = device();
    let mut numbers = Numbers::new(4);
    let [ours, reference] = active(&mut numbers, [3, 67, 8], &gpu);
    for weights in [vec![0.0; 67 * 5], numbers.draw(67 * 5)] {
        let run = |ops: &dyn MemoryOps, active: &ActiveChannels, device: &Device| {
            ops.write(
                tensor(&weights, [67, 5], device),
                0.0,
                active,
                Tensor::zeros([3, 5], device),
                &rules()[0],
            )
        };
        assert_same_write(
            run(&CubeOps::default(), &ours, &gpu),
            run(&TensorOps, &reference, &Device::flex()),
        );
    }
}

#[test]
fn a_memory_on_the_device_learns_what_one_on_the_cpu_learns() {
    let gpu = device();
    let config = MemoryConfig {
        key_dim: 24,
        value_dim: 20,
        miras: MirasConfig {
            architecture: MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
                channels: 331,
                active_channels: 17,
            }),
            ..Preset::Sparse.config().miras
        },
        ..Preset::Sparse.config()
    };
    let memory = |device: &Device, ops: Arc<dyn MemoryOps>| {
        NeuralMemory::with_ops(config, device, ops).expect("a valid configuration")
    };
    let on_gpu = memory(&gpu, Arc::new(CubeOps::default()));
    let on_cpu = memory(&Device::flex(), Arc::new(TensorOps));
    let mut numbers = Numbers::new(5);
    let keys = numbers.draw(2 * 9 * 24);
    let values = numbers.draw(2 * 9 * 20);
    let run = |memory: &NeuralMemory| {
        let device = memory.device();
        let mut states = vec![memory.initial_state(), memory.initial_state()];
        let reports = memory
            .write_batch(
                &mut states,
                tensor(&keys, [2, 9, 24], &device),
                tensor(&values, [2, 9, 20], &device),
            )
            .expect("finite numbers");
        let query = tensor(&keys[..9 * 24], [9, 24], &device);
        (reports, floats(memory.read(&states[0], query)))
    };
    let (ours, ours_recalled) = run(&on_gpu);
    let (reference, recalled) = run(&on_cpu);
    for (ours, reference) in ours.iter().zip(&reference) {
        assert_eq!(ours.tokens_written, reference.tokens_written);
        assert_eq!(ours.delta, reference.delta);
        assert_close(&ours.surprise, &reference.surprise, "surprise");
    }
    assert_close(&ours_recalled, &recalled, "recall");
}

#[test]
fn the_largest_coordinates_are_kept_and_no_other() {
    let gpu = device();
    // Memories, shapes of their tensors, and how many are kept. From the fifth on, several
    // cubes share the numbers of a memory; the last has more than 1024 blocks of 4096.
    let cases: [(usize, &[[usize; 2]], usize); 7] = [
        (1, &[[1, 1]], 1),
        (3, &[[7, 13], [5, 31], [1, 3]], 17),
        (2, &[[67, 257]], 1031),
        (2, &[[19, 11], [2, 3]], 215),
        (3, &[[131, 97], [17, 5], [1, 4099]], 5003),
        (2, &[[1, 4096], [4097, 1]], 8192),
        (1, &[[2053, 2081]], 40_009),
    ];
    for (seed, (memories, shapes, count)) in (0..).zip(cases) {
        for ties in [false, true] {
            let mut numbers = Numbers::new(seed);
            let values: Vec<Vec<f32>> = (shapes.iter())
                .map(|[rows, columns]| {
                    let values = numbers.draw(memories * rows * columns).into_iter();
                    // Few sizes, of both signs: most of what is kept ties with what is not.
                    values
                        .map(|x| if ties { (4.0 * x).round() } else { x })
                        .collect()
                })
                .collect();
            let on = |device: &Device| -> Vec<Tensor<3>> {
                let tensors = shapes.iter().zip(&values);
                tensors
                    .map(|([rows, columns], values)| {
                        tensor(values, [memories, *rows, *columns], device)
                    })
                    .collect()
            };
            let expected = TensorOps.keep_largest(on(&Device::flex()), count);
            let gradient = on(&gpu);
            let total: usize = shapes.iter().map(|[rows, columns]| rows * columns).sum();
            poison(&gpu, memories * total);
            let ours = CubeOps::default().keep_largest(gradient, count);
            assert_eq!(ours.len(), expected.len());
            for (ours, expected) in ours.into_iter().zip(expected) {
                let is_same = floats(ours) == floats(expected);
                assert!(is_same, "{count} of {total}, ties: {ties}");
            }
        }
    }
}
