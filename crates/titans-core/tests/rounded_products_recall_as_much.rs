//! With products in bf16 a dense memory learns nearly the same and recalls as much as in f32, and
//! its surprise gate closes; on every CPU, with or without instructions for bf16.

mod common;

use std::sync::Arc;

use burn::tensor::{Device, Distribution, Tensor};
use common::draw::{sample, seed};
use common::numbers;
use titans_core::{
    Activation, ConfigError, LearningAlgorithm, MemoryArchitecture, MemoryConfig, MemoryOps,
    MemoryState, Mlp, Momentum, NeuralMemory, NoRetention, Preset, Products, RetentionGate,
    RoundedHostOps, TensorOps, Wrap,
};

/// Errors of products whose operands have 8 bits of mantissa, as a share of the largest number:
/// up to `2^-8` for each operand and a few layers deep. The GPU kernels are held to the same.
const TOLERANCE_BF16: f64 = 2e-2;

/// f32 sums in another order: what is further away was rounded.
const TOLERANCE_F32: f64 = 5e-5;

fn rounded(products: Products) -> Arc<dyn MemoryOps> {
    Arc::new(RoundedHostOps { products })
}

/// The preset `titans` of a depth.
fn config(depth: usize, update_size: usize) -> MemoryConfig {
    let mut config = Preset::Titans.config();
    config.update.update_size = update_size;
    if let MemoryArchitecture::Mlp(mlp) = &mut config.miras.architecture {
        mlp.depth = depth;
    }
    config
}

fn memory(config: MemoryConfig, products: Products) -> NeuralMemory {
    NeuralMemory::with_ops(config, &Device::flex(), rounded(products)).expect("valid")
}

fn unit_rows(count: usize, width: usize) -> Tensor<2> {
    let normal = Distribution::Normal(0.0, 1.0);
    let rows: Tensor<2> = sample([count, width], normal);
    let norm = (rows.clone() * rows.clone()).sum_dim(1).sqrt();
    rows / norm
}

/// The largest difference of two tensors of two states, as a share of the largest number.
fn apart(ours: &MemoryState, theirs: &MemoryState) -> f64 {
    let (ours, theirs) = (ours.to_host(), theirs.to_host());
    let of_tensors = ours.tensors.iter().zip(&theirs.tensors);
    let of_tensors = of_tensors.map(|(ours, theirs)| {
        let largest = theirs.values.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
        let differences = ours.values.iter().zip(&theirs.values);
        let most = differences.fold(0.0_f32, |most, (x, y)| most.max((x - y).abs()));
        f64::from(most / largest.max(f32::MIN_POSITIVE))
    });
    of_tensors.fold(0.0, f64::max)
}

#[test]
fn an_update_stays_near_the_equations() {
    seed(1);
    // Not Relu: of a unit as near to zero as rounding reaches, the slope is one in the one and
    // zero in the other, and with it a whole row of the gradient.
    let activations = [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::Gelu,
    ];
    let mut largest = 0.0_f64;
    for (case, [key_dim, hidden, value_dim]) in
        [[7, 13, 5], [16, 64, 16], [33, 65, 31], [64, 256, 64]]
            .into_iter()
            .enumerate()
    {
        for depth in 1..=3 {
            for (update_size, tokens) in [(1, 3), (5, 23), (61, 61), (600, 600)] {
                let mut config = config(depth, update_size);
                (config.key_dim, config.value_dim) = (key_dim, value_dim);
                config.miras.architecture = MemoryArchitecture::Mlp(Mlp {
                    depth,
                    hidden,
                    activation: activations[case],
                    wrap: Wrap::Plain,
                });
                config.miras.learning_algorithm = LearningAlgorithm::Momentum(Momentum {
                    step_size: 0.01,
                    momentum_decay: 0.7,
                    second_momentum_decay: (case % 2 == 0).then_some(0.4),
                });
                let twin = NeuralMemory::with_ops(config, &Device::flex(), Arc::new(TensorOps));
                let (ours, twin) = (memory(config, Products::Bf16), twin.expect("valid"));
                let (keys, values) = (unit_rows(tokens, key_dim), unit_rows(tokens, value_dim));
                let [ours, twin] = [&ours, &twin].map(|memory| {
                    let mut state = memory.initial_state();
                    memory
                        .write(&mut state, keys.clone(), values.clone())
                        .expect("finite");
                    state
                });
                let apart = apart(&ours, &twin);
                assert!(
                    apart <= TOLERANCE_BF16,
                    "{apart:e}: depth {depth}, {hidden} hidden, updates of {update_size}"
                );
                largest = largest.max(apart);
            }
        }
    }
    println!("largest error: {largest:.1e}");
    assert!(largest > TOLERANCE_F32, "nothing was rounded");
    let products = Products::Bf16;
    assert_eq!(RoundedHostOps { products }.made_in(), products);
}

/// Streams that are too long for the memory, so that recall is far from none and from all.
/// Both types see the same streams, and the bar is a fifth of what another stream changes: 5 %
/// of the pairs.
#[test]
fn as_many_pairs_are_recalled_and_answers_are_as_good() {
    const MOST_FEWER: f64 = 0.01;
    const PASSES: usize = 30;
    let (mut pairs_in_all, mut recalled) = (0, [0; 2]);
    let mut most_worse = 0.0_f64;
    for (depth, update_size, pairs) in [(2, 16, 128), (2, 16, 256), (2, 64, 256), (3, 16, 128)] {
        for stream in 0..2 {
            seed(stream);
            let (keys, values) = (unit_rows(pairs, 64), unit_rows(pairs, 64));
            let mut errors = [0.0; 2];
            for (at, products) in [Products::F32, Products::Bf16].into_iter().enumerate() {
                let memory = memory(config(depth, update_size), products);
                let mut state = memory.initial_state();
                for _ in 0..PASSES {
                    memory
                        .write(&mut state, keys.clone(), values.clone())
                        .expect("finite");
                }
                let answers = memory.read(&state, keys.clone());
                let nearest: Vec<i32> = answers
                    .clone()
                    .matmul(values.clone().transpose())
                    .argmax(1)
                    .to_data_as::<i32>()
                    .try_into_vec()
                    .expect("indices");
                recalled[at] += (0..).zip(&nearest).filter(|(i, n)| i == *n).count();
                let error = numbers(&(answers - values.clone()));
                errors[at] = error.iter().map(|e| e * e).sum::<f64>() / pairs as f64;
            }
            pairs_in_all += pairs;
            let ratio = (errors[1] / errors[0]).sqrt();
            most_worse = most_worse.max((ratio - 1.0).abs());
            assert!(most_worse < 1e-3, "errors of answers: {ratio}");
        }
    }
    let [in_f32, in_bf16] = recalled;
    println!("of {pairs_in_all} pairs, f32 recalls {in_f32}, bf16 {in_bf16}");
    println!("errors of answers differ by {most_worse:.1e} of themselves");
    let share = in_f32 as f64 / pairs_in_all as f64;
    assert!((0.4..0.9).contains(&share), "{share} tells nothing apart");
    let fewer = (in_f32 as f64 - in_bf16 as f64) / pairs_in_all as f64;
    assert!(fewer <= MOST_FEWER, "{in_bf16} instead of {in_f32}");
}

/// A memory that forgets nothing, under a threshold.
fn gated(depth: usize, threshold: f32) -> MemoryConfig {
    let mut config = config(depth, 16);
    config.miras.retention_gate = RetentionGate::None(NoRetention {});
    config.update.surprise_threshold = threshold;
    config
}

#[test]
fn the_gate_decides_alike_where_surprise_is_not_at_the_threshold() {
    const PAIRS: usize = 64;
    for depth in 1..=3 {
        seed(depth as u64);
        let (keys, values) = (unit_rows(PAIRS, 64), unit_rows(PAIRS, 64));
        // Learned halfway in f32, then judged by both.
        let learns = memory(gated(depth, 0.0), Products::F32);
        let mut state = learns.initial_state();
        for _ in 0..20 {
            learns
                .write(&mut state, keys.clone(), values.clone())
                .expect("finite");
        }
        let surprise = |products| {
            let memory = memory(gated(depth, 0.5), products);
            let mut state = state.clone();
            let report = memory.write(&mut state, keys.clone(), values.clone());
            report.expect("finite").surprise[..16].to_vec()
        };
        let (exact, rounded) = (surprise(Products::F32), surprise(Products::Bf16));
        let apart = (exact.iter().zip(&rounded)).map(|(exact, rounded)| (exact - rounded).abs());
        let apart = apart.fold(0.0, f32::max);
        println!("depth {depth}: surprises differ by at most {apart:.1e}");
        // So no decision differs but of tokens as near to a threshold.
        assert!(
            apart < Products::Bf16.least_surprise_threshold() / 2.0,
            "{apart}"
        );
    }
}

/// Where f32 knows pairs by heart, rounded products leave a rest of surprise: the floor under the
/// threshold.
#[test]
fn known_pairs_are_less_surprising_than_the_least_threshold() {
    const PAIRS: usize = 32;
    for depth in 1..=2 {
        for stream in 0..3 {
            seed(stream);
            let (keys, values) = (unit_rows(PAIRS, 64), unit_rows(PAIRS, 64));
            let [in_f32, in_bf16] = [Products::F32, Products::Bf16].map(|products| {
                let memory = memory(gated(depth, 0.0), products);
                let mut state = memory.initial_state();
                let mut pass = || {
                    let report = memory.write(&mut state, keys.clone(), values.clone());
                    let surprise = report.expect("finite").surprise;
                    surprise.into_iter().fold(0.0, f32::max)
                };
                (0..400).fold(0.0, |_, _| pass())
            });
            println!("depth {depth}: known pairs surprise by {in_f32:.1e} in f32, {in_bf16:.1e}");
            assert!(in_f32 < 1e-3, "f32 has not learned them: {in_f32}");
            assert!(in_bf16 < Products::Bf16.least_surprise_threshold());
        }
    }
}

/// What is known is not written again: the gate closes at the least threshold. Momentum may open it
/// for a token or two; what holds then is in `gated_tokens_add_nothing.rs`.
#[test]
fn the_gate_closes_at_the_least_threshold() {
    const PAIRS: usize = 32;
    let threshold = Products::Bf16.least_surprise_threshold();
    for depth in 1..=2 {
        for stream in 0..2 {
            seed(stream);
            let (keys, values) = (unit_rows(PAIRS, 64), unit_rows(PAIRS, 64));
            let memory = memory(gated(depth, threshold), Products::Bf16);
            let mut state = memory.initial_state();
            let mut write = || {
                let report = memory.write(&mut state, keys.clone(), values.clone());
                report.expect("finite").tokens_written
            };
            let passes = (0..300).take_while(|_| write() > 0).count();
            assert!(passes < 300, "written without end, depth {depth}");
            // Measured: none; and with products in f32 one, of one of the four streams.
            let again: usize = (0..20).map(|_| write()).sum();
            println!("depth {depth}: closed after {passes} passes, then {again} written in 20");
            assert!(again < 32, "{again} of 640 tokens written again");
        }
    }
}

#[test]
fn a_threshold_finer_than_the_products_is_refused() {
    let build = |threshold: f32, products| {
        let config = gated(2, threshold);
        NeuralMemory::with_ops(config, &Device::flex(), rounded(products))
    };
    for (threshold, products) in [(0.0, Products::Bf16), (0.031_25, Products::Bf16)] {
        assert!(build(threshold, products).is_ok(), "{threshold}");
    }
    assert!(build(1e-6, Products::F32).is_ok());
    for (threshold, products) in [(0.03, Products::Bf16), (0.003, Products::F16)] {
        let refused = build(threshold, products).err();
        assert!(
            matches!(
                refused,
                Some(ConfigError::OutOfRange {
                    name: "surprise_threshold",
                    ..
                })
            ),
            "{refused:?}"
        );
    }
    // A sparse memory makes no such products.
    let sparse = Preset::Sparse.config();
    assert!(NeuralMemory::with_ops(sparse, &Device::flex(), rounded(Products::Bf16)).is_ok());
}
