//! Updates and reads of dense memories: the kernels beside the equations, token by token.

use burn::tensor::{Device, Tensor};
use titans_core::{
    Activation, AttentionalBias, DenseLearned, DenseOps, DenseRule, DenseTokens, Form, GateValues,
    GradientDescent, L2, L2Retention, L2Scale, LearningAlgorithm, MemoryArchitecture, MemoryConfig,
    MemoryOps, MirasConfig, Mlp, Momentum, NeuralMemory, Products, RetentionGate, RetentionTarget,
    Tail, TensorOps, TokenGates, Tokens, UpdateConfig, Wrap,
};
use titans_kernels::CubeOps;

use super::{Numbers, TOLERANCE, assert_close, device, floats, poison, tensor};

/// Errors of products whose operands have 8 bits of mantissa, as a share of the largest
/// result: `2^-8` for each operand and a few layers deep.
const TOLERANCE_BF16: f32 = 2e-2;

/// `[memories, tokens, key_dim, hidden, value_dim, depth, orders of momentum]`: ones, primes,
/// one over a block of rows and over the units of a cube.
const SIZES: [[usize; 7]; 7] = [
    [1, 1, 1, 1, 1, 1, 0],
    [2, 13, 7, 5, 3, 2, 1],
    [1, 65, 17, 31, 67, 3, 2],
    [3, 29, 33, 37, 19, 4, 1],
    [1, 64, 16, 48, 32, 2, 0],
    [2, 257, 5, 11, 300, 2, 2],
    [1, 521, 3, 2, 5, 1, 1],
];

/// A case, its numbers, and the memory that computes them by the equations on the CPU.
struct Case {
    sizes: [usize; 7],
    memory: NeuralMemory,
    rule: DenseRule,
    weights: Vec<Vec<f32>>,
    momenta: Vec<Vec<Vec<f32>>>,
    keys: Vec<f32>,
    values: Vec<f32>,
    steps: Vec<f32>,
    decays: Vec<Vec<f32>>,
    retention: Vec<f32>,
}

impl Case {
    fn new(seed: u64, sizes: [usize; 7], activation: Activation, surprise_threshold: f32) -> Self {
        let [memories, tokens, key_dim, hidden, value_dim, depth, orders] = sizes;
        let mlp = Mlp {
            depth,
            hidden,
            activation,
            wrap: Wrap::Plain,
        };
        let bias = L2 {
            scale: L2Scale::Half,
        };
        let momentum = Momentum {
            step_size: 0.1,
            momentum_decay: 0.5,
            second_momentum_decay: (orders == 2).then_some(0.25),
        };
        let config = MemoryConfig {
            key_dim,
            value_dim,
            seed,
            miras: MirasConfig {
                architecture: MemoryArchitecture::Mlp(mlp),
                attentional_bias: AttentionalBias::L2(bias),
                retention_gate: RetentionGate::L2(L2Retention {
                    retention: 0.9,
                    target: RetentionTarget::Zero,
                }),
                learning_algorithm: match orders {
                    0 => LearningAlgorithm::GradientDescent(GradientDescent { step_size: 0.1 }),
                    _ => LearningAlgorithm::Momentum(momentum),
                },
            },
            update: UpdateConfig {
                update_size: tokens,
                surprise_threshold,
                ..UpdateConfig::default()
            },
        };
        let memory =
            NeuralMemory::with_ops(config, &Device::flex(), std::sync::Arc::new(TensorOps))
                .expect("a valid configuration");
        let rule = DenseRule {
            mlp,
            key_dim,
            value_dim,
            slope: 1.0,
            surprise_threshold,
        };
        let mut numbers = Numbers::new(seed);
        let widths = rule.widths();
        let mut layers = |scale: f32| -> Vec<Vec<f32>> {
            let each = widths.windows(2).map(|pair| pair[0] * pair[1]);
            each.map(|len| {
                let layer = numbers.draw(memories * len).into_iter();
                layer.map(|x| x * scale).collect()
            })
            .collect()
        };
        let weights = layers(0.7);
        let momenta = (0..orders).map(|_| layers(0.1)).collect();
        let mut gate = |scale: f32| -> Vec<f32> {
            let drawn = numbers.draw(memories * tokens).into_iter();
            // A gate that closes now and then.
            let gate = drawn.map(|x| (1.0 - scale * (0.5 + 0.5 * x)).max(0.0));
            gate.enumerate()
                .map(|(at, gate)| if at % 101 == 77 { 0.0 } else { gate })
                .collect()
        };
        let retention = gate(0.1);
        let decays = (0..orders).map(|_| gate(0.8)).collect();
        let steps = gate(1.0).into_iter().map(|x| x * 0.2).collect();
        Self {
            sizes,
            memory,
            rule,
            weights,
            momenta,
            keys: numbers.draw(memories * tokens * key_dim),
            values: numbers.draw(memories * tokens * value_dim),
            steps,
            decays,
            retention,
        }
    }

    fn layers(&self, of_each: &[Vec<f32>], device: &Device) -> Vec<Tensor<3>> {
        let [memories, ..] = self.sizes;
        let widths = self.rule.widths();
        (widths.windows(2).zip(of_each))
            .map(|(pair, layer)| tensor(layer, [memories, pair[0], pair[1]], device))
            .collect()
    }

    fn learned(&self, device: &Device) -> DenseLearned {
        let momenta = self.momenta.iter();
        DenseLearned {
            weights: self.layers(&self.weights, device),
            momenta: momenta.map(|order| self.layers(order, device)).collect(),
        }
    }

    fn tokens(&self, device: &Device) -> DenseTokens {
        let [memories, tokens, key_dim, _, value_dim, ..] = self.sizes;
        let gate = |gate: &[f32]| tensor(gate, [memories, tokens], device);
        DenseTokens {
            keys: tensor(&self.keys, [memories, tokens, key_dim], device),
            values: tensor(&self.values, [memories, tokens, value_dim], device),
            steps: gate(&self.steps),
            momentum_decays: self.decays.iter().map(|decay| gate(decay)).collect(),
            retention: gate(&self.retention),
        }
    }

    /// Weights, momenta and relative errors by the equations, token by token.
    fn by_equations(&self) -> (Vec<Vec<f32>>, Vec<f32>) {
        let [memories, ..] = self.sizes;
        let cpu = Device::flex();
        let learned = self.learned(&cpu);
        let of_memory = |tensors: &[Tensor<3>], memory: usize| -> Vec<Tensor<2>> {
            let one = |tensor: &Tensor<3>| tensor.clone().narrow(0, memory, 1).squeeze_dim(0);
            tensors.iter().map(one).collect()
        };
        let mut states: Vec<_> = (0..memories)
            .map(|memory| {
                let momenta = learned.momenta.iter();
                self.memory
                    .state_from_tensors(of_memory(&learned.weights, memory))
                    .with_momenta(momenta.map(|order| of_memory(order, memory)).collect())
            })
            .collect();
        let tokens = self.tokens(&cpu);
        let mut decays = tokens.momentum_decays.into_iter().map(GateValues::PerToken);
        let gates = TokenGates {
            step_size: Some(GateValues::PerToken(tokens.steps)),
            momentum_decay: decays.next(),
            second_momentum_decay: decays.next(),
            retention: Some(GateValues::PerToken(tokens.retention)),
            error_threshold: None,
        };
        let given = Tokens {
            keys: tokens.keys,
            values: tokens.values,
            gates,
        };
        let passed = self
            .memory
            .pass(&mut states, given, None, Tail::Hold, Form::Recurrent)
            .expect("finite numbers");
        let of_each = states.iter().map(|state| {
            let all = state.tensors().into_iter();
            all.chain(state.momenta().into_iter().flatten())
                .map(floats)
                .collect::<Vec<_>>()
        });
        // Layers of all memories, one after the other.
        let of_each: Vec<Vec<Vec<f32>>> = of_each.collect();
        let layers = (0..of_each[0].len())
            .map(|layer| {
                let of_each = of_each.iter().flat_map(|memory| memory[layer].clone());
                of_each.collect()
            })
            .collect();
        (layers, floats(passed.relative_error))
    }
}

/// Weights and momenta, layer by layer, and relative errors.
fn update(ops: &CubeOps, case: &Case, gpu: &Device) -> (Vec<Vec<f32>>, Vec<f32>) {
    let updated = dense(ops, gpu).update(&case.rule, case.learned(gpu), case.tokens(gpu));
    let layers = updated.learned.weights.into_iter();
    let layers = layers.chain(updated.learned.momenta.into_iter().flatten());
    (layers.map(floats).collect(), floats(updated.relative_error))
}

fn dense<'a>(ops: &'a CubeOps, gpu: &Device) -> &'a dyn DenseOps {
    ops.dense(gpu).expect("the kernels run here")
}

/// The largest error, as a share of the largest number of the reference or of one.
fn largest_error(ours: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(ours.len(), reference.len());
    let scale = reference.iter().fold(1.0f32, |most, x| most.max(x.abs()));
    let errors = ours
        .iter()
        .zip(reference)
        .map(|(o, r)| (o - r).abs() / scale);
    errors.fold(0.0, |most, error| match error.is_nan() {
        true => f32::INFINITY,
        false => most.max(error),
    })
}

#[test]
fn an_update_equals_the_equations() {
    let gpu = device();
    let activations = [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::Relu,
    ];
    for (seed, sizes) in (0..).zip(SIZES) {
        let activation = activations[seed as usize % 4];
        let (_, errors) = Case::new(seed, sizes, activation, 0.0).by_equations();
        for threshold in [0.0, between(errors)] {
            let case = Case::new(seed, sizes, activation, threshold);
            let (expected, expected_errors) = case.by_equations();
            poison(
                &gpu,
                sizes[0] * sizes[1].max(sizes[2]) * sizes[3].max(sizes[4]),
            );
            let (layers, errors) = update(&CubeOps::default(), &case, &gpu);
            let what = format!("{sizes:?} over {threshold}");
            assert_close(
                &errors,
                &expected_errors,
                &format!("{what}: relative error"),
            );
            assert_eq!(layers.len(), expected.len());
            for (layer, (ours, expected)) in layers.iter().zip(&expected).enumerate() {
                assert_close(ours, expected, &format!("{what}: tensor {layer}"));
            }
        }
    }
}

/// A threshold that some of the errors exceed and some do not, in the widest gap between those
/// in the middle, so that none is near it.
fn between(mut errors: Vec<f32>) -> f32 {
    errors.sort_by(f32::total_cmp);
    let middle = &errors[errors.len() / 4..(3 * errors.len()).div_ceil(4)];
    let gaps = middle
        .windows(2)
        .max_by(|a, b| (a[1] - a[0]).total_cmp(&(b[1] - b[0])));
    gaps.map_or(errors[0] / 2.0, |gap| gap[0].midpoint(gap[1]))
}

#[test]
fn every_activation_has_the_slope_of_its_equation() {
    let gpu = device();
    for activation in [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::Relu,
    ] {
        let case = Case::new(11, [1, 37, 13, 41, 7, 3, 1], activation, 0.0);
        let (expected, _) = case.by_equations();
        let (layers, _) = update(&CubeOps::default(), &case, &gpu);
        for (ours, expected) in layers.iter().zip(&expected) {
            let error = largest_error(ours, expected);
            assert!(error <= TOLERANCE, "{activation:?}: {error}");
        }
    }
}

#[test]
fn a_prediction_depends_on_its_key_and_an_update_on_its_memory_alone() {
    let gpu = device();
    let ops = CubeOps::default();
    let case = Case::new(5, [3, 71, 23, 29, 31, 2, 1], Activation::Gelu, 0.5);
    let [memories, tokens, _, _, value_dim, ..] = case.sizes;
    let learned = case.learned(&gpu);
    let all = case.tokens(&gpu);
    let (rule, keys) = (&case.rule, all.keys.clone());
    let together = floats(dense(&ops, &gpu).read(rule, &learned.weights, keys.clone()));
    let errors_alone =
        dense(&ops, &gpu).relative_error(rule, &learned.weights, keys.clone(), all.values.clone());
    let batch = dense(&ops, &gpu).update(rule, learned.clone(), all.clone());
    assert_eq!(floats(errors_alone), floats(batch.relative_error.clone()));

    for memory in 0..memories {
        let one = |tensor: &Tensor<3>| tensor.clone().narrow(0, memory, 1);
        let row = |tensor: &Tensor<2>| tensor.clone().narrow(0, memory, 1);
        let weights: Vec<Tensor<3>> = learned.weights.iter().map(one).collect();
        for token in [0, 17, tokens - 1] {
            let key = one(&keys).narrow(1, token, 1);
            let start = (memory * tokens + token) * value_dim;
            let answer = floats(dense(&ops, &gpu).read(rule, &weights, key));
            assert_eq!(answer, together[start..start + value_dim]);
        }
        let momenta = learned.momenta.iter();
        let alone = dense(&ops, &gpu).update(
            rule,
            DenseLearned {
                weights,
                momenta: momenta
                    .map(|order| order.iter().map(one).collect())
                    .collect(),
            },
            DenseTokens {
                keys: one(&all.keys),
                values: one(&all.values),
                steps: row(&all.steps),
                momentum_decays: all.momentum_decays.iter().map(row).collect(),
                retention: row(&all.retention),
            },
        );
        for (alone, batch) in alone.learned.weights.iter().zip(&batch.learned.weights) {
            assert_eq!(floats(alone.clone()), floats(one(batch)));
        }
        let momenta = alone.learned.momenta[0].iter();
        for (alone, batch) in momenta.zip(&batch.learned.momenta[0]) {
            assert_eq!(floats(alone.clone()), floats(one(batch)));
        }
    }
}

#[test]
fn what_somebody_else_holds_is_not_written_over() {
    let gpu = device();
    let case = Case::new(6, [1, 19, 7, 11, 5, 2, 1], Activation::Silu, 0.0);
    let learned = case.learned(&gpu);
    let held = learned.clone();
    let ops = CubeOps::default();
    let updated = dense(&ops, &gpu).update(&case.rule, learned, case.tokens(&gpu));
    for (layer, (held, updated)) in held
        .weights
        .iter()
        .zip(&updated.learned.weights)
        .enumerate()
    {
        assert_eq!(floats(held.clone()), case.weights[layer]);
        assert_ne!(floats(updated.clone()), case.weights[layer]);
    }
    for (layer, held) in held.momenta[0].iter().enumerate() {
        assert_eq!(floats(held.clone()), case.momenta[0][layer]);
    }
}

/// The products in fewer bits, where the device has them: near the equations, not on them.
#[test]
fn products_of_fewer_bits_stay_near_the_equations() {
    let gpu = device();
    let case = Case::new(7, [2, 128, 64, 96, 48, 2, 1], Activation::Gelu, 0.0);
    let (expected, _) = case.by_equations();
    let mut names = Vec::new();
    for products in [Products::Bf16, Products::F16] {
        let dtype = match products {
            Products::Bf16 => burn::tensor::DType::BF16,
            _ => burn::tensor::DType::F16,
        };
        let (layers, _) = update(&CubeOps { products }, &case, &gpu);
        let errors = layers
            .iter()
            .zip(&expected)
            .map(|(o, e)| largest_error(o, e));
        let error = errors.fold(0.0, f32::max);
        let has = gpu.supports_dtype(dtype);
        names.push(format!(
            "{products:?}: {error:.1e}{}",
            if has { "" } else { ", in f32" }
        ));
        assert!(error <= TOLERANCE_BF16, "{products:?}: {error}");
        assert_eq!(has, error > TOLERANCE, "{products:?}: {error}");
    }
    println!("{}", names.join("; "));
}
