//! A dense memory on the CPU and its twin in tensor operations learn and answer the same, and
//! neither company nor threads change a bit.

mod common;

use std::sync::Arc;

use burn::tensor::{Device, Distribution, Tensor};
use common::draw::{sample, seed};
use common::{apart, bits, numbers};
use titans_core::{
    Activation, Form, GateValues, GradientDescent, HostOps, LearningAlgorithm, MemoryArchitecture,
    MemoryConfig, MemoryOps, MemoryState, Mlp, Momentum, NeuralMemory, Preset, Products, ReadTime,
    Reading, Reduction, RoundedHostOps, Tail, TensorOps, TokenGates, Tokens, Wrap,
};

/// f32 sums in another order, through a few updates.
const TOLERANCE: f64 = 5e-5;

/// Widths of keys, hidden layers and values.
type Widths = [usize; 3];

fn config(depth: usize, [key_dim, hidden, value_dim]: Widths, update_size: usize) -> MemoryConfig {
    let mut config = Preset::Titans.config();
    (config.key_dim, config.value_dim, config.seed) = (key_dim, value_dim, 3);
    config.miras.architecture = MemoryArchitecture::Mlp(Mlp {
        depth,
        hidden,
        activation: Activation::Gelu,
        wrap: Wrap::Plain,
    });
    config.update.update_size = update_size;
    config.update.reduction = Reduction::Mean;
    config
}

fn rows(memories: usize, tokens: usize, width: usize) -> Tensor<3> {
    let unit = Distribution::Normal(0.0, 1.0 / (width as f64).sqrt());
    sample([memories, tokens, width], unit)
}

fn pair(config: MemoryConfig) -> (NeuralMemory, NeuralMemory) {
    let device = Device::flex();
    (
        NeuralMemory::with_ops(config, &device, Arc::new(HostOps)).expect("valid"),
        NeuralMemory::with_ops(config, &device, Arc::new(TensorOps)).expect("valid"),
    )
}

fn check_states(ours: &MemoryState, theirs: &MemoryState, what: &str) {
    let (ours, theirs) = (ours.to_host(), theirs.to_host());
    assert_eq!(ours.tensors.len(), theirs.tensors.len(), "{what}");
    for (ours, theirs) in ours.tensors.iter().zip(&theirs.tensors) {
        let of = |values: &[f32]| -> Vec<f64> { values.iter().map(|x| f64::from(*x)).collect() };
        let apart = apart(&of(&ours.values), &of(&theirs.values));
        assert!(apart < TOLERANCE, "{what}: {} {apart:e}", ours.name);
    }
}

/// Writes and reads some memories with both; the numbers must agree.
fn check(config: MemoryConfig, memories: usize, tokens: usize) {
    let what = format!("{memories} memories, {tokens} tokens, {config:?}");
    let (ours, twin) = pair(config);
    let mut ours_states = vec![ours.initial_state(); memories];
    let mut twin_states = vec![twin.initial_state(); memories];
    for _ in 0..2 {
        let keys = rows(memories, tokens, config.key_dim);
        let values = rows(memories, tokens, config.value_dim);
        let ours_reports = ours.write_batch(&mut ours_states, keys.clone(), values.clone());
        let twin_reports = twin.write_batch(&mut twin_states, keys, values);
        let reports = ours_reports.expect("finite").into_iter();
        for (ours, twin) in reports.zip(twin_reports.expect("finite")) {
            assert_eq!(ours.tokens_written, twin.tokens_written, "{what}");
            assert_eq!(ours.surprise.len(), twin.surprise.len(), "{what}");
            for (ours, twin) in ours.surprise.iter().zip(&twin.surprise) {
                assert!((ours - twin).abs() < 1e-4 * twin.max(1.0), "{what}");
            }
        }
    }
    for (ours, twin) in ours_states.iter().zip(&twin_states) {
        check_states(ours, twin, &what);
    }
    let queries = rows(memories, 37, config.key_dim);
    let answers = ours.read_batch(&ours_states, queries.clone());
    let expected = twin.read_batch(&twin_states, queries);
    let apart = apart(&numbers(&answers), &numbers(&expected));
    assert!(apart < TOLERANCE, "{what}: answers {apart:e}");
}

#[test]
fn every_depth_width_and_length_agrees() {
    seed(1);
    let widths = [
        [1, 1, 1],
        [7, 13, 5],
        [16, 64, 16],
        [33, 65, 31],
        [64, 256, 64],
    ];
    for depth in 1..=4 {
        for widths in widths {
            for (update_size, tokens) in [(1, 3), (2, 5), (7, 17), (16, 33), (61, 61)] {
                check(config(depth, widths, update_size), 1, tokens);
            }
        }
    }
}

#[test]
fn many_memories_and_long_updates_agree() {
    seed(2);
    for memories in [1, 3] {
        check(config(2, [19, 40, 23], 1031), memories, 2062);
        check(config(3, [31, 64, 17], 512), memories, 1500);
        check(config(2, [64, 128, 64], 16), memories, 100);
    }
}

#[test]
fn every_activation_momentum_and_threshold_agrees() {
    seed(3);
    let base = config(3, [12, 29, 11], 9);
    for activation in [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::Relu,
    ] {
        let mut config = base;
        if let MemoryArchitecture::Mlp(mlp) = &mut config.miras.architecture {
            mlp.activation = activation;
        }
        check(config, 2, 40);
    }
    let momentum = |second| {
        LearningAlgorithm::Momentum(Momentum {
            step_size: 0.1,
            momentum_decay: 0.7,
            second_momentum_decay: second,
        })
    };
    let plain = LearningAlgorithm::GradientDescent(GradientDescent { step_size: 0.1 });
    for algorithm in [plain, momentum(None), momentum(Some(0.4))] {
        let mut config = base;
        config.miras.learning_algorithm = algorithm;
        check(config, 2, 40);
        // Some tokens are over it and some are not.
        config.update.surprise_threshold = 1.02;
        check(config, 2, 40);
    }
}

/// Under gates of each token, at the seam itself: `pass` is the twin.
#[test]
fn gates_of_each_token_agree() {
    seed(4);
    let (memories, tokens) = (3, 13);
    for second in [None, Some(0.3)] {
        let mut config = config(2, [10, 21, 9], tokens);
        config.update.reduction = Reduction::Sum;
        config.miras.learning_algorithm = LearningAlgorithm::Momentum(Momentum {
            step_size: 0.1,
            momentum_decay: 0.7,
            second_momentum_decay: second,
        });
        let memory = pair(config).1;
        let mut states = vec![memory.initial_state(); memories];
        let stacked = |of: &dyn Fn(&MemoryState) -> Vec<Tensor<2>>, states: &[MemoryState]| {
            let all: Vec<Vec<Tensor<2>>> = states.iter().map(of).collect();
            (0..all[0].len())
                .map(|tensor| Tensor::stack(all.iter().map(|m| m[tensor].clone()).collect(), 0))
                .collect::<Vec<Tensor<3>>>()
        };
        let gate = |low| sample([memories, tokens], Distribution::Uniform(low, 1.0));
        let (step, first, retention) = (gate(0.0) * 0.1, gate(0.2), gate(0.8));
        let (keys, values) = (rows(memories, tokens, 10), rows(memories, tokens, 9));
        let gates = TokenGates {
            step_size: Some(GateValues::PerToken(step.clone())),
            momentum_decay: Some(GateValues::PerToken(first.clone())),
            retention: Some(GateValues::PerToken(retention.clone())),
            ..TokenGates::default()
        };
        let orders = if second.is_some() { 2 } else { 1 };
        let mut decays = vec![first];
        if let Some(second) = second {
            decays.push(Tensor::full([memories, tokens], second, &Device::flex()));
        }
        let learned = titans_core::DenseLearned {
            weights: stacked(&MemoryState::tensors, &states),
            momenta: (0..orders)
                .map(|order| stacked(&|state| state.momenta()[order].clone(), &states))
                .collect(),
        };
        let rule = titans_core::DenseRule {
            mlp: match config.miras.architecture {
                MemoryArchitecture::Mlp(mlp) => mlp,
                _ => unreachable!("an MLP"),
            },
            key_dim: 10,
            value_dim: 9,
            slope: 2.0,
            surprise_threshold: 0.0,
        };
        let dense = HostOps.dense(&Device::flex()).expect("the CPU has them");
        let given = titans_core::DenseTokens {
            keys: keys.clone(),
            values: values.clone(),
            steps: step,
            momentum_decays: decays,
            retention,
        };
        let updated = dense.update(&rule, learned, given);

        let tokens = Tokens {
            gates,
            ..Tokens::new(keys, values)
        };
        let passed = memory
            .pass(&mut states, tokens, None, Tail::Hold, Form::Recurrent)
            .expect("finite");
        let errors = numbers(&updated.relative_error);
        assert!(apart(&errors, &numbers(&passed.relative_error)) < TOLERANCE);
        let expected = stacked(&MemoryState::tensors, &states);
        for (found, expected) in updated.learned.weights.iter().zip(&expected) {
            assert!(apart(&numbers(found), &numbers(expected)) < TOLERANCE);
        }
        for (order, found) in updated.learned.momenta.iter().enumerate() {
            let expected = stacked(&|state| state.momenta()[order].clone(), &states);
            for (found, expected) in found.iter().zip(&expected) {
                assert!(apart(&numbers(found), &numbers(expected)) < TOLERANCE);
            }
        }
    }
}

#[test]
fn answers_beside_a_stream_agree() {
    seed(5);
    let config = config(2, [12, 24, 10], 8);
    let (ours, twin) = pair(config);
    for when in [
        ReadTime::UpdateStart,
        ReadTime::UpdateEnd,
        ReadTime::FullUpdates,
        ReadTime::Token,
    ] {
        let (keys, values) = (rows(2, 29, 12), rows(2, 29, 10));
        let reading = Reading {
            queries: rows(2, 29, 12),
            when,
        };
        let [ours, twin] = [&ours, &twin].map(|memory| {
            let mut states = vec![memory.initial_state(); 2];
            let tokens = Tokens::new(keys.clone(), values.clone());
            let form = Form::Chunkwise;
            let passed = memory.pass(&mut states, tokens, Some(reading.clone()), Tail::Hold, form);
            numbers(
                &passed
                    .expect("finite")
                    .retrieved
                    .expect("queries were given"),
            )
        });
        assert!(apart(&ours, &twin) < TOLERANCE, "{when:?}");
    }
}

#[test]
fn threads_company_and_sharing_change_no_bit() {
    seed(6);
    for (update_size, tokens) in [(1, 5), (16, 50), (100, 230), (1100, 1100)] {
        for products in [Products::F32, Products::Bf16] {
            no_bit_changes(update_size, tokens, products);
        }
    }
}

fn no_bit_changes(update_size: usize, tokens: usize, products: Products) {
    let config = config(3, [24, 70, 19], update_size);
    let built = || {
        let ops = Arc::new(RoundedHostOps { products });
        NeuralMemory::with_ops(config, &Device::flex(), ops).expect("valid")
    };
    let (keys, values) = (rows(3, tokens, 24), rows(3, tokens, 19));
    let queries = rows(3, 41, 24);
    let run = |threads: usize, shared: bool| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("threads").install(|| {
            let memory = built();
            let mut states: Vec<_> = (0..3).map(|_| memory.initial_state()).collect();
            let mut held = Vec::new();
            for from in (0..tokens).step_by(37) {
                // A snapshot that somebody holds must stay what it was.
                held.extend(shared.then(|| states.clone()));
                let piece = 37.min(tokens - from);
                let of = |rows: &Tensor<3>| rows.clone().narrow(1, from, piece);
                memory
                    .write_batch(&mut states, of(&keys), of(&values))
                    .expect("finite");
            }
            let all: Vec<_> = states.iter().map(bits).collect();
            let answers = numbers(&memory.read_batch(&states, queries.clone()));
            (all, answers, states)
        })
    };
    let (one, answers, states) = run(1, false);
    for (threads, shared) in [(1, true), (2, false), (2, true), (3, false)] {
        let (found, found_answers, _) = run(threads, shared);
        assert_eq!(found, one, "{threads} threads, updates of {update_size}");
        assert_eq!(found_answers, answers, "{threads} threads");
    }
    let memory = built();
    for (index, together) in one.iter().enumerate() {
        let mut alone = memory.initial_state();
        let of = |rows: &Tensor<3>| rows.clone().narrow(0, index, 1).squeeze_dim::<2>(0);
        memory
            .write(&mut alone, of(&keys), of(&values))
            .expect("finite");
        assert_eq!(&bits(&alone), together, "memory {index} alone");
        for query in [0, 13, 40] {
            let one_query = of(&queries).narrow(0, query, 1);
            let answer = numbers(&memory.read(&states[index], one_query));
            let place = (index * 41 + query) * 19;
            assert_eq!(answer, answers[place..place + 19]);
        }
    }
}

#[test]
fn what_leaves_the_finite_numbers_is_refused_and_changes_nothing() {
    let mut config = config(2, [8, 16, 8], 4);
    config.miras.learning_algorithm = LearningAlgorithm::Momentum(Momentum {
        step_size: f32::MAX,
        momentum_decay: 0.5,
        second_momentum_decay: None,
    });
    let memory = pair(config).0;
    let mut states: Vec<_> = (0..2).map(|_| memory.initial_state()).collect();
    let before: Vec<_> = states.iter().map(bits).collect();
    seed(7);
    let huge = rows(2, 8, 8) * 1e3;
    let refused = memory.write_batch(&mut states, huge.clone(), huge.clone());
    assert!(refused.is_err());
    assert_eq!(states.iter().map(bits).collect::<Vec<_>>(), before);
    let one = huge.narrow(0, 0, 1).squeeze_dim::<2>(0).narrow(0, 0, 4);
    assert!(memory.write(&mut states[0], one.clone(), one).is_err());
    assert_eq!(bits(&states[0]), before[0]);
}
