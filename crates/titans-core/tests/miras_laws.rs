//! What every choice must obey, whatever it is combined with.

mod common;

use burn::tensor::{Device, Tensor};
use common::draw::seed;
use common::{WIDTH, bits, every_kind, memory, normed, numbers, random, small};
use titans_core::{
    ElasticNet, Form, GateValues, InputError, Kl, Lq, MemoryConfig, MemoryState, NeuralMemory,
    Preset, RetentionGate, RowNorm, Tail, TokenGates, Tokens,
};

/// Writes under gates that are the same for every token.
fn write_under(
    memory: &NeuralMemory,
    state: &mut MemoryState,
    tokens: Tokens,
    [step_size, momentum_decay, retention]: [f32; 3],
) {
    let [memories, count, _] = tokens.keys.dims();
    let gate = |value: f32| {
        let values = Tensor::full([memories, count], value, &Device::flex());
        Some(GateValues::PerToken(values))
    };
    let tokens = Tokens {
        gates: TokenGates {
            step_size: gate(step_size),
            momentum_decay: gate(momentum_decay),
            second_momentum_decay: gate(momentum_decay),
            retention: gate(retention),
            ..TokenGates::default()
        },
        ..tokens
    };
    memory
        .pass(
            std::slice::from_mut(state),
            tokens,
            None,
            Tail::Apply,
            Form::Chunkwise,
        )
        .expect("finite");
}

fn tensors(state: &MemoryState) -> Vec<Vec<u32>> {
    let of = |tensor: &Tensor<2>| {
        let values = numbers(tensor);
        values
            .iter()
            .map(|value| (*value as f32).to_bits())
            .collect()
    };
    state.tensors().iter().map(of).collect()
}

#[test]
fn a_zero_step_under_full_retention_changes_nothing() {
    seed(1);
    for (what, config) in every_kind() {
        let memory = memory(config);
        let mut state = memory.initial_state();
        let before = tensors(&state);
        let tokens = Tokens::new(random(1, 12), random(1, 12));
        write_under(&memory, &mut state, tokens, [0.0, 1.0, 1.0]);
        assert_eq!(tensors(&state), before, "{what}");
    }
}

/// The weights of a state, as the retention gate makes them of its accumulators.
fn weights(config: &MemoryConfig, state: &MemoryState) -> Vec<Tensor<3>> {
    state
        .tensors()
        .into_iter()
        .map(|tensor| config.miras.retention_gate.weights(tensor.unsqueeze_dim(0)))
        .collect()
}

fn after_writing(gate: RetentionGate) -> (MemoryConfig, MemoryState) {
    let mut config = normed(Preset::Yaad);
    config.miras.retention_gate = gate;
    config.update.gate_span = titans_core::GateSpan::PerUpdate;
    let memory = memory(config);
    let mut state = memory.initial_state();
    for _ in 0..10 {
        memory
            .write(
                &mut state,
                random(1, 15).squeeze_dim(0),
                random(1, 15).squeeze_dim(0),
            )
            .expect("finite");
    }
    (config, state)
}

#[test]
fn kl_weights_stay_on_their_simplex() {
    seed(2);
    let gate = Kl {
        retention: 0.9,
        mass: 3.0,
    };
    let (config, state) = after_writing(RetentionGate::Kl(gate));
    for weights in weights(&config, &state) {
        let [_, rows, _] = weights.dims();
        if rows == 1 {
            continue;
        }
        assert!(numbers(&weights).iter().all(|weight| *weight >= 0.0));
        for sum in numbers(&weights.sum_dim(1)) {
            assert!((sum - 3.0).abs() < 1e-5, "a slice sums to {sum}");
        }
    }
}

#[test]
fn lq_weights_are_the_accumulator_over_a_power_of_its_norm() {
    seed(3);
    let gate = Lq {
        retention: 0.9,
        power: 4.0,
    };
    let (config, state) = after_writing(RetentionGate::Lq(gate));
    for (tensor, weights) in state.tensors().iter().zip(weights(&config, &state)) {
        let accumulator = numbers(tensor);
        let norm = accumulator
            .iter()
            .map(|a| a.powi(4))
            .sum::<f64>()
            .powf(0.25);
        for (weight, accumulator) in numbers(&weights).iter().zip(&accumulator) {
            let expected = accumulator / norm.powi(2);
            assert!((weight - expected).abs() < 1e-5 * (1.0 + expected.abs()));
        }
    }
}

#[test]
fn an_elastic_net_sets_small_weights_to_exactly_zero() {
    seed(4);
    let gate = ElasticNet {
        retention: 0.9,
        threshold: 1.0,
    };
    let (_, state) = after_writing(RetentionGate::ElasticNet(gate));
    let weights: Vec<f64> = state.tensors().iter().flat_map(numbers).collect();
    let zeros = weights.iter().filter(|weight| **weight == 0.0).count();
    assert!(zeros > 0 && zeros < weights.len(), "{zeros} zeros");
}

#[test]
fn row_norms_stay_those_of_the_beginning() {
    seed(5);
    let (config, state) = after_writing(RetentionGate::RowNorm(RowNorm));
    let initial = memory(config).initial_state();
    for (before, after) in initial.tensors().iter().zip(state.tensors()) {
        let [rows, _] = before.dims();
        if rows == 1 {
            continue;
        }
        assert_ne!(numbers(before), numbers(&after));
        let norms = |tensor: &Tensor<2>| {
            let square = tensor.clone() * tensor.clone();
            numbers(&square.sum_dim(0).sqrt())
        };
        for (before, after) in norms(before).iter().zip(norms(&after)) {
            assert!((before - after).abs() < 1e-5);
        }
    }
}

fn is_finite(state: &MemoryState) -> bool {
    let host = state.to_host();
    let values = host.tensors.iter().flat_map(|tensor| &tensor.values);
    let scalars = host.scalars.values();
    values.copied().all(f32::is_finite) && scalars.copied().all(f64::is_finite)
}

#[test]
fn nothing_becomes_nan_on_zeros_and_saturated_gates() {
    seed(6);
    let zeros = || Tensor::<3>::zeros([1, 11, WIDTH], &Device::flex());
    for (what, config) in every_kind() {
        let memory = memory(config);
        let inputs = [
            ("zero keys", Tokens::new(zeros(), random(1, 11))),
            ("zero values", Tokens::new(random(1, 11), zeros())),
            ("zeros", Tokens::new(zeros(), zeros())),
            ("numbers", Tokens::new(random(1, 11), random(1, 11))),
        ];
        for (input, tokens) in inputs {
            let mut state = memory.initial_state();
            for _ in 0..3 {
                let rows = |rows: &Tensor<3>| rows.clone().squeeze_dim(0);
                memory
                    .write(&mut state, rows(&tokens.keys), rows(&tokens.values))
                    .expect("finite");
            }
            assert!(is_finite(&state), "{what}, {input}");
            let read = memory.read(&state, zeros().squeeze_dim(0));
            assert!(
                numbers(&read).iter().all(|x| x.is_finite()),
                "{what}, {input}"
            );
            for gates in [
                [0.0, 0.0, 0.0],
                [0.001, 1.0, 1.0],
                [0.0, 1.0, 0.0],
                [0.001, 0.0, 1.0],
            ] {
                let mut state = memory.initial_state();
                write_under(&memory, &mut state, tokens.clone(), gates);
                write_under(&memory, &mut state, tokens.clone(), gates);
                assert!(is_finite(&state), "{what}, {input}, gates {gates:?}");
            }
        }
    }
}

#[test]
fn input_that_is_not_finite_is_refused_and_the_state_is_as_it_was() {
    seed(7);
    for (what, config) in every_kind() {
        let memory = memory(config);
        let mut state = memory.initial_state();
        let rows = |count: usize| -> Tensor<2> { random(1, count).squeeze_dim(0) };
        memory.write(&mut state, rows(7), rows(7)).expect("finite");
        let before = bits(&state);
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let bad = || {
                let row = Tensor::<2>::full([1, WIDTH], poison, &Device::flex());
                Tensor::cat(vec![rows(4), row, rows(2)], 0)
            };
            let expected = |what| {
                Err(InputError::NotFinite {
                    what,
                    memory: 0,
                    token: 4,
                })
            };
            let keys = memory.write(&mut state, bad(), rows(7)).map(|_| ());
            assert_eq!(keys, expected("keys"), "{what}");
            let values = memory.write(&mut state, rows(7), bad()).map(|_| ());
            assert_eq!(values, expected("values"), "{what}");
            let gates = TokenGates {
                retention: Some(GateValues::PerToken(bad().sum_dim(1).transpose())),
                ..TokenGates::default()
            };
            let tokens = Tokens {
                gates,
                ..Tokens::new(random(1, 7), random(1, 7))
            };
            let states = std::slice::from_mut(&mut state);
            let gate = memory
                .pass(states, tokens, None, Tail::Hold, Form::Chunkwise)
                .map(|_| ());
            assert_eq!(gate, expected("retention"), "{what}");
            assert_eq!(bits(&state), before, "{what}");
        }
    }
}

#[test]
fn an_update_that_would_diverge_is_refused_and_the_state_is_as_it_was() {
    let mut config = small(Preset::Titans);
    config.miras.learning_algorithm =
        titans_core::LearningAlgorithm::GradientDescent(titans_core::GradientDescent {
            step_size: 1e20,
        });
    let memory = memory(config);
    let mut state = memory.initial_state();
    let rows = |count: usize| -> Tensor<2> { random(1, count).squeeze_dim(0) };
    let before = bits(&state);
    let error = memory.write(&mut state, rows(20), rows(20)).map(|_| ());
    assert_eq!(error, Err(InputError::Diverges { memory: 0 }));
    assert_eq!(bits(&state), before);

    // Nor when the tokens that wait are the ones that diverge.
    memory
        .write(&mut state, rows(3) * 1e15, rows(3))
        .expect("they wait");
    let waiting = bits(&state);
    let error = memory.finish_update(&mut state).map(|_| ());
    assert_eq!(error, Err(InputError::Diverges { memory: 0 }));
    assert_eq!(bits(&state), waiting);
}

#[test]
fn one_bad_memory_of_a_batch_leaves_all_of_them_as_they_were() {
    seed(8);
    for preset in Preset::ALL {
        let memory = memory(small(*preset));
        let mut states = [memory.initial_state(), memory.initial_state()];
        let before: Vec<_> = states.iter().map(bits).collect();
        let values = Tensor::cat(
            vec![
                random(1, 3),
                Tensor::full([1, 3, WIDTH], f32::NAN, &Device::flex()),
            ],
            0,
        );
        let error = memory
            .write_batch(&mut states, random(2, 3), values)
            .expect_err("NaN");
        assert!(
            matches!(error, InputError::NotFinite { memory: 1, .. }),
            "{error}"
        );
        let after: Vec<_> = states.iter().map(bits).collect();
        assert_eq!(after, before, "{preset}");
    }
}

#[test]
fn one_that_diverges_leaves_also_those_that_are_not_equally_far() {
    let mut config = small(Preset::Titans);
    config.miras.learning_algorithm =
        titans_core::LearningAlgorithm::GradientDescent(titans_core::GradientDescent {
            step_size: 1e20,
        });
    let memory = memory(config);
    let mut states = [memory.initial_state(), memory.initial_state()];
    let nothing = |count: usize| Tensor::<3>::zeros([1, count, WIDTH], &Device::flex());
    let few: Tensor<2> = nothing(3).squeeze_dim(0);
    memory
        .write(&mut states[0], few.clone(), few)
        .expect("finite");
    let before: Vec<_> = states.iter().map(bits).collect();
    // Keys of zero move nothing, whatever the step.
    let keys = Tensor::cat(vec![nothing(20), random(1, 20)], 0);
    let error = memory.write_batch(&mut states, keys, random(2, 20));
    assert_eq!(error.map(|_| ()), Err(InputError::Diverges { memory: 1 }));
    let after: Vec<_> = states.iter().map(bits).collect();
    assert!(after == before);
}
