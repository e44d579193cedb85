//! The chunk form and the token-by-token twin are the same memory: weights, momentum and
//! reads, for every kind of memory, at lengths that fill updates and that do not.

mod common;

use burn::tensor::{DType, Device, Tensor};
use common::draw::{sample, seed};
use common::{apart, every_kind, in_f64, memory, numbers, random, small, state_in_f64};
use titans_core::{
    DecayOrder, DeltaChunk, Form, GateValues, GradientDescent, L2Retention, LearningAlgorithm,
    MemoryConfig, MemoryState, Momentum, NoRetention, Preset, ReadTime, Reading, RetentionGate,
    RetentionTarget, Tail, TokenGates, Tokens, delta_chunk,
};

const READ_TIMES: [ReadTime; 4] = [
    ReadTime::UpdateStart,
    ReadTime::UpdateEnd,
    ReadTime::Token,
    ReadTime::FullUpdates,
];

/// Everything that a pass leaves, as numbers.
fn outcome(
    config: MemoryConfig,
    tokens: &Tokens,
    reading: Option<Reading>,
    form: Form,
) -> Vec<f64> {
    let memory = memory(config);
    let [memories, _, _] = tokens.keys.dims();
    let mut states: Vec<MemoryState> = (0..memories).map(|_| state_in_f64(&memory)).collect();
    let passed = memory
        .pass(&mut states, tokens.clone(), reading, Tail::Apply, form)
        .expect("finite");
    let mut all = numbers(&passed.loss);
    all.extend(numbers(&passed.relative_error));
    all.extend(numbers(&passed.gradient_norm));
    all.extend(numbers(&passed.update_norm));
    if let Some(retrieved) = &passed.retrieved {
        all.extend(numbers(retrieved));
    }
    for state in &states {
        for tensor in state
            .tensors()
            .iter()
            .chain(state.momenta().iter().flatten())
        {
            all.extend(numbers(tensor));
        }
    }
    all
}

#[test]
fn for_every_kind_of_memory_and_every_read() {
    seed(1);
    for (what, config) in every_kind() {
        for count in [1, 5, 7, 13] {
            let tokens = in_f64(&Tokens::new(random(2, count), random(2, count)));
            let queries = random(2, count).cast(DType::F64);
            for when in READ_TIMES {
                let reading = Reading {
                    queries: queries.clone(),
                    when,
                };
                let chunkwise = outcome(config, &tokens, Some(reading.clone()), Form::Chunkwise);
                let recurrent = outcome(config, &tokens, Some(reading), Form::Recurrent);
                let apart = apart(&chunkwise, &recurrent);
                // Orthogonalisation raises what rounding leaves by about 500 per update.
                let tolerance = if what.contains("NewtonSchulz") || what == "lact" {
                    1e-8
                } else {
                    1e-10
                };
                assert!(
                    apart < tolerance,
                    "{what}, {count} tokens, {when:?}: {apart}"
                );
            }
        }
    }
}

#[test]
fn under_gates_of_their_own() {
    seed(2);
    let gate = |low: f64, high: f64, count: usize| -> Tensor<2> {
        let unit = burn::tensor::Distribution::Uniform(low, high);
        sample([2, count], unit).cast(DType::F64)
    };
    for (what, config) in every_kind() {
        let tokens = Tokens {
            gates: TokenGates {
                step_size: Some(GateValues::PerToken(gate(0.0, 0.2, 13))),
                momentum_decay: Some(GateValues::PerToken(gate(0.0, 1.0, 13))),
                second_momentum_decay: Some(GateValues::PerToken(gate(0.0, 0.5, 13))),
                retention: Some(GateValues::PerToken(gate(0.0, 1.0, 13))),
                error_threshold: Some(GateValues::PerToken(gate(0.3, 2.0, 13))),
            },
            ..in_f64(&Tokens::new(random(2, 13), random(2, 13)))
        };
        let reading = Reading {
            queries: random(2, 13).cast(DType::F64),
            when: ReadTime::Token,
        };
        let chunkwise = outcome(config, &tokens, Some(reading.clone()), Form::Chunkwise);
        let recurrent = outcome(config, &tokens, Some(reading), Form::Recurrent);
        let apart = apart(&chunkwise, &recurrent);
        assert!(apart < 1e-8, "{what}: {apart}");
    }
}

/// The vector of the papers' notes: two writes of one key, values 2 and 4.
fn read_after_two_writes(update_size: usize, momentum_decay: Option<f32>) -> f64 {
    let mut config = small(Preset::Delta);
    config.key_dim = 2;
    config.value_dim = 2;
    config.update.update_size = update_size;
    config.miras.retention_gate = RetentionGate::None(NoRetention);
    config.miras.learning_algorithm = match momentum_decay {
        Some(momentum_decay) => LearningAlgorithm::Momentum(Momentum {
            step_size: 1.0,
            momentum_decay,
            second_momentum_decay: None,
        }),
        None => LearningAlgorithm::GradientDescent(GradientDescent { step_size: 1.0 }),
    };
    let memory = memory(config);
    let device = Device::flex();
    let tokens = Tokens::new(
        Tensor::from_data([[[1.0, 0.0], [1.0, 0.0]]], &device),
        Tensor::from_data([[[2.0, 0.0], [4.0, 0.0]]], &device),
    );
    let reading = Reading {
        queries: tokens.keys.clone(),
        when: ReadTime::Token,
    };
    let mut states = [memory.initial_state()];
    let passed = memory
        .pass(
            &mut states,
            tokens,
            Some(reading),
            Tail::Apply,
            Form::Chunkwise,
        )
        .expect("finite");
    numbers(&passed.retrieved.expect("there were queries"))[2]
}

#[test]
fn the_test_vector_reads_four_six_and_seven() {
    assert_eq!(read_after_two_writes(1, None), 4.0);
    assert_eq!(read_after_two_writes(2, None), 6.0);
    assert_eq!(read_after_two_writes(2, Some(0.5)), 7.0);
}

#[test]
fn a_token_never_changes_a_read_before_it() {
    seed(3);
    for (what, config) in every_kind() {
        let memory = memory(config);
        let (keys, values, queries) = (random(1, 13), random(1, 13), random(1, 13));
        let read = |keys: Tensor<3>, when: ReadTime| {
            let reading = Reading {
                queries: queries.clone(),
                when,
            };
            let mut states = [memory.initial_state()];
            let passed = memory
                .pass(
                    &mut states,
                    Tokens::new(keys, values.clone()),
                    Some(reading),
                    Tail::Hold,
                    Form::Chunkwise,
                )
                .expect("finite");
            numbers(&passed.retrieved.expect("there were queries"))
        };
        // Another key at token 8, in the middle of an update.
        let other = Tensor::cat(
            vec![
                keys.clone().narrow(1, 0, 8),
                random(1, 1),
                keys.clone().narrow(1, 9, 4),
            ],
            1,
        );
        for when in [
            ReadTime::UpdateStart,
            ReadTime::Token,
            ReadTime::FullUpdates,
        ] {
            let (before, after) = (read(keys.clone(), when), read(other.clone(), when));
            let until = 8 * common::WIDTH;
            assert_eq!(before[..until], after[..until], "{what} {when:?}");
        }
    }
}

fn delta_config(retention: f32) -> MemoryConfig {
    let mut config = small(Preset::Delta);
    config.miras.retention_gate = RetentionGate::L2(L2Retention {
        retention,
        target: RetentionTarget::Zero,
    });
    config
}

#[test]
fn the_chunk_of_the_delta_rule_is_exact_for_repeated_keys_and_any_length() {
    seed(4);
    let few = random(2, 3);
    for count in [1usize, 2, 63, 64, 65, 131] {
        // The same three keys again and again: the worst case for a triangular inverse.
        let keys = few
            .clone()
            .repeat_dim(1, count.div_ceil(3))
            .narrow(1, 0, count);
        let tokens = in_f64(&Tokens::new(keys.clone(), random(2, count)));
        let reading = Reading {
            queries: keys.cast(DType::F64),
            when: ReadTime::Token,
        };
        for retention in [1.0, 0.9] {
            let config = delta_config(retention);
            let exact = outcome(config, &tokens, Some(reading.clone()), Form::Chunkwise);
            let twin = outcome(config, &tokens, Some(reading.clone()), Form::Recurrent);
            let apart = apart(&exact, &twin);
            assert!(
                apart < 1e-11,
                "{count} tokens, retention {retention}: {apart}"
            );
        }
    }
}

#[test]
fn the_decay_of_gated_delta_net_comes_before_the_error() {
    seed(5);
    let count = 9;
    let draw = || random(1, count).cast(DType::F64);
    let (keys, values, queries) = (draw(), draw(), draw());
    let gate = |low, high| -> Tensor<2> {
        let unit = burn::tensor::Distribution::Uniform(low, high);
        sample([1, count], unit).cast(DType::F64)
    };
    let (step_size, retention) = (gate(0.0, 0.3), gate(0.5, 1.0));
    let mut weights = random(1, common::WIDTH).cast(DType::F64);
    let result = delta_chunk(
        weights.clone(),
        DeltaChunk {
            keys: keys.clone(),
            values: values.clone(),
            step_size: step_size.clone(),
            retention: retention.clone(),
            decay_order: DecayOrder::BeforeGradient,
        },
        Some(queries.clone()),
    );
    let mut reads = Vec::new();
    for token in 0..count {
        let row = |rows: &Tensor<3>| rows.clone().narrow(1, token, 1);
        let at = |gate: &Tensor<2>| gate.clone().narrow(1, token, 1).unsqueeze_dim::<3>(2);
        weights = weights * at(&retention);
        let error = row(&values) - row(&keys).matmul(weights.clone());
        weights = weights + row(&keys).swap_dims(1, 2).matmul(error) * at(&step_size);
        reads.push(row(&queries).matmul(weights.clone()));
    }
    let reads = numbers(&Tensor::cat(reads, 1));
    let chunk_reads = numbers(&result.reads.expect("there were queries"));
    assert!(apart(&chunk_reads, &reads) < 1e-12);
    assert!(apart(&numbers(&result.weights), &numbers(&weights)) < 1e-12);
}
