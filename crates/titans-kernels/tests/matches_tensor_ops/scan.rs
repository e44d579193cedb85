//! The coefficients of an update, an affine scan: the kernel beside the plain recurrence.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use titans_core::{
    Form, MemoryArchitecture, MemoryConfig, MemoryOps, NeuralMemory, Preset, Tail, TensorOps,
    Tokens,
};
use titans_kernels::CubeOps;

use super::{Numbers, assert_close, device, floats, poison, tensor};

/// Memories and tokens: one, primes, one over the units of a cube, several tokens for each unit.
const SIZES: [(usize, usize); 7] = [
    (1, 1),
    (3, 2),
    (2, 13),
    (1, 31),
    (5, 257),
    (2, 521),
    (1, 1031),
];

/// The gates of one memory, in f64.
struct Gates {
    steps: Vec<f64>,
    decays: Vec<Vec<f64>>,
    retention: Vec<f64>,
}

impl Gates {
    /// Weights and buffers after all tokens, each a number, from those before and the gradient
    /// of one token, which is one.
    fn run(&self, start: &[f64], with_gradient: Option<usize>) -> Vec<f64> {
        let mut now = start.to_vec();
        for token in 0..self.steps.len() {
            let mut moved = match with_gradient == Some(token) {
                true => -self.steps[token],
                false => 0.0,
            };
            for (buffer, decay) in now[1..].iter_mut().zip(&self.decays) {
                *buffer = decay[token] * *buffer + moved;
                moved = *buffer;
            }
            now[0] = self.retention[token] * now[0] + moved;
        }
        now
    }
}

#[test]
fn coefficients_of_an_update_are_those_of_the_recurrence() {
    let gpu = device();
    for (seed, (memories, tokens)) in (0..).zip(SIZES) {
        for orders in 0..=2 {
            let mut drawn = Numbers::new(seed);
            // Near one, so that early tokens count, and closed now and then.
            let mut gate = |most: f32| -> Vec<f32> {
                let drawn = drawn.draw(memories * tokens).into_iter().enumerate();
                drawn
                    .map(|(at, x)| match at % 89 == 61 {
                        true => 0.0,
                        false => most * (1.0 - 0.05 * (0.5 + 0.5 * x)),
                    })
                    .collect()
            };
            let steps = gate(0.3);
            let decays: Vec<Vec<f32>> = (0..orders).map(|order| gate([0.98, 0.7][order])).collect();
            let retention = gate(1.0);
            let on_gpu = |gate: &Vec<f32>| -> Tensor<2> { tensor(gate, [memories, tokens], &gpu) };
            let given = (
                on_gpu(&steps),
                decays.iter().map(on_gpu).collect::<Vec<_>>(),
                on_gpu(&retention),
            );
            poison(&gpu, memories * tokens * (1 + orders));
            let ours = CubeOps::default().update_coefficients(&given.0, &given.1, &given.2);

            // Of each memory: weights and buffers from each of them, then from each gradient.
            let shares: Vec<Vec<f32>> = std::iter::once(&ours.weights_kept)
                .chain(&ours.momentum_into_weights)
                .chain(ours.momentum_into_momentum.iter().flatten())
                .map(|share| floats(share.clone()))
                .collect();
            let gradients: Vec<Vec<f32>> = std::iter::once(&ours.gradient_into_weights)
                .chain(&ours.gradient_into_momentum)
                .map(|gradient| floats(gradient.clone()))
                .collect();
            for memory in 0..memories {
                let span = memory * tokens..(memory + 1) * tokens;
                let wide = |gate: &Vec<f32>| -> Vec<f64> {
                    gate[span.clone()].iter().map(|x| f64::from(*x)).collect()
                };
                let gates = Gates {
                    steps: wide(&steps),
                    decays: decays.iter().map(wide).collect(),
                    retention: wide(&retention),
                };
                let nothing = vec![0.0; 1 + orders];
                let starts: Vec<Vec<f64>> = (0..=orders)
                    .map(|one| {
                        let mut start = nothing.clone();
                        start[one] = 1.0;
                        gates.run(&start, None)
                    })
                    .collect();
                // All into the weights, then into each buffer what can reach it.
                let mut expected: Vec<f32> = starts.iter().map(|end| end[0] as f32).collect();
                for buffer in 1..=orders {
                    expected.extend(starts[1..=buffer].iter().map(|end| end[buffer] as f32));
                }
                let found: Vec<f32> = shares.iter().map(|share| share[memory]).collect();
                let what = format!("{memories} x {tokens}, {orders} buffers");
                assert_close(&found, &expected, &format!("{what}: shares"));

                let ends: Vec<Vec<f64>> = (0..tokens)
                    .map(|token| gates.run(&nothing, Some(token)))
                    .collect();
                for (result, gradients) in gradients.iter().enumerate() {
                    let expected: Vec<f32> = ends.iter().map(|end| -end[result] as f32).collect();
                    assert_close(
                        &gradients[span.clone()],
                        &expected,
                        &format!("{what}: gradients into {result}"),
                    );
                }
            }
        }
    }
}

/// Numbers near one, and zero now and then.
fn decays(drawn: &mut Numbers, count: usize) -> Vec<f32> {
    let drawn = drawn.draw(count).into_iter().enumerate();
    drawn
        .map(|(at, x)| if at % 89 == 61 { 0.0 } else { 0.97 + 0.03 * x })
        .collect()
}

#[test]
fn a_scan_is_the_plain_recurrence() {
    let gpu = device();
    for (seed, (memories, tokens)) in (0..).zip(SIZES) {
        let mut drawn = Numbers::new(seed);
        let decay = decays(&mut drawn, memories * tokens);
        let input = drawn.draw(memories * tokens);
        let before = drawn.draw(memories);
        let given: [Tensor<2>; 3] = [
            tensor(&before, [memories, 1], &gpu),
            tensor(&decay, [memories, tokens], &gpu),
            tensor(&input, [memories, tokens], &gpu),
        ];
        poison(&gpu, memories * tokens);
        let ours = CubeOps::default().affine_scan(&given[0], &given[1], &given[2]);
        let mut expected = Vec::new();
        for (memory, before) in before.iter().enumerate() {
            let mut now = f64::from(*before);
            for at in memory * tokens..(memory + 1) * tokens {
                now = f64::from(decay[at]) * now + f64::from(input[at]);
                expected.push(now as f32);
            }
        }
        assert_close(&floats(ours), &expected, &format!("{memories} x {tokens}"));
    }
}

#[test]
fn running_products_are_those_of_the_plain_loop() {
    let gpu = device();
    for (seed, (memories, tokens)) in (0..).zip([(1, 1), (3, 2), (2, 13), (5, 31), (1, 257)]) {
        let decay = decays(&mut Numbers::new(seed), memories * tokens);
        let on_gpu: Tensor<2> = tensor(&decay, [memories, tokens], &gpu);
        poison(&gpu, memories * tokens * tokens);
        let ours = floats(CubeOps::default().running_products(&on_gpu));
        let mut expected = Vec::new();
        for decay in decay.chunks_exact(tokens) {
            for to in 0..tokens {
                for from in 0..tokens {
                    let between = decay.iter().take(to + 1).skip(from + 1);
                    let product: f64 = between.map(|x| f64::from(*x)).product();
                    expected.push(if from > to { 0.0 } else { product as f32 });
                }
            }
        }
        assert_close(&ours, &expected, &format!("{memories} x {tokens}"));
    }
}

/// `yaad` is not a memory of the dense kernels: its closed form takes the coefficients.
#[test]
fn a_closed_form_on_the_device_takes_the_coefficients_of_the_kernel() {
    let gpu = device();
    let mut config = MemoryConfig {
        key_dim: 7,
        value_dim: 5,
        ..Preset::Yaad.config()
    };
    if let MemoryArchitecture::Mlp(mlp) = &mut config.miras.architecture {
        mlp.hidden = 11;
    }
    config.update.update_size = 13;
    let mut drawn = Numbers::new(9);
    let (keys, values) = (drawn.draw(2 * 13 * 7), drawn.draw(2 * 13 * 5));
    let run = |device: &Device, ops: Arc<dyn MemoryOps>, form| {
        let memory = NeuralMemory::with_ops(config, device, ops).expect("a valid configuration");
        let mut states = vec![memory.initial_state(); 2];
        let tokens = Tokens::new(
            tensor(&keys, [2, 13, 7], device),
            tensor(&values, [2, 13, 5], device),
        );
        memory
            .pass(&mut states, tokens, None, Tail::Apply, form)
            .expect("finite numbers");
        let tensors = states.iter().flat_map(|state| state.tensors());
        tensors.flat_map(floats).collect::<Vec<f32>>()
    };
    let ours = run(&gpu, Arc::new(CubeOps::default()), Form::Chunkwise);
    let cpu = Device::flex();
    let reference = run(&cpu, Arc::new(TensorOps), Form::Recurrent);
    assert_close(&ours, &reference, "weights");
}
