//! Gradients: the inner ones, written by hand, against autodiff; the outer ones, through
//! whole writes and reads, against finite differences in float64.

mod common;

use burn::tensor::{DType, Distribution, Tensor};
use common::draw::{sample, seed};
use common::{WIDTH, apart, every_kind, memory, numbers, random, small};
use titans_core::{
    AttentionalBias, Form, GateValues, MemoryArchitecture, NeuralMemory, Preset, ReadTime, Reading,
    Tail, TokenGates, Tokens,
};

/// Bring a tensor onto the autodiff device and ask for its gradient.
fn tracked<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    Tensor::from_inner(tensor).require_grad()
}

#[test]
fn the_gradient_of_every_bias_is_that_of_its_loss() {
    seed(1);
    for bias in AttentionalBias::EXAMPLES {
        let prediction = tracked(random(2, 5).cast(DType::F64) * 2.0);
        let values = Tensor::from_inner(random(2, 5).cast(DType::F64));
        let threshold = bias.takes_threshold().then(|| {
            let uniform = Distribution::Uniform(0.3, 2.0);
            let drawn = sample([2, 5, 1], uniform);
            Tensor::from_inner(drawn.cast(DType::F64))
        });
        for threshold in [None, threshold] {
            let loss = bias.loss(prediction.clone(), values.clone(), threshold.clone());
            let expected = prediction
                .grad(&loss.sum().backward())
                .expect("the loss depends on the prediction");
            let ours = bias
                .gradient(prediction.clone(), values.clone(), threshold)
                .inner();
            let apart = apart(&numbers(&ours), &numbers(&expected));
            assert!(apart < 1e-12, "{bias:?}: {apart}");
        }
    }
}

#[test]
fn the_hand_written_gradient_of_every_memory_is_that_of_its_loss() {
    seed(2);
    for architecture in MemoryArchitecture::EXAMPLES {
        for bias in AttentionalBias::EXAMPLES {
            let mut config = small(Preset::Yaad);
            config.miras.architecture = *architecture;
            config.miras.attentional_bias = *bias;
            let memory = memory(config);
            // Also where the seed begins with zeros, a gradient needs something to act on.
            let weights: Vec<Tensor<2>> = memory
                .initial_state()
                .tensors()
                .into_iter()
                .map(|tensor| {
                    let noise = Distribution::Normal(0.0, 0.3);
                    let noise = sample(tensor.dims(), noise);
                    tracked((tensor + noise).cast(DType::F64))
                })
                .collect();
            let state = memory.state_from_tensors(weights.clone());
            let keys = Tensor::from_inner(random(1, 7).cast(DType::F64));
            let values = Tensor::from_inner(random(1, 7).cast(DType::F64));
            let predictions = memory.read_batch(std::slice::from_ref(&state), keys.clone());
            let step = f64::from(config_step(&memory));
            let loss = bias.loss(predictions, values.clone(), None).sum() * step;
            let gradients = loss.backward();
            let ours = memory.gradient(&state, Tokens::new(keys, values));
            for (index, (weights, ours)) in weights.iter().zip(ours).enumerate() {
                let expected = weights
                    .grad(&gradients)
                    .unwrap_or_else(|| weights.clone().inner().zeros_like());
                let apart = apart(&numbers(&ours.inner()), &numbers(&expected));
                assert!(
                    apart < 1e-10,
                    "{architecture:?} {bias:?} tensor {index}: {apart}"
                );
            }
        }
    }
}

fn config_step(memory: &NeuralMemory) -> f32 {
    match memory.config().miras.learning_algorithm {
        titans_core::LearningAlgorithm::GradientDescent(descent) => descent.step_size,
        other => panic!("expected gradient descent, found {other:?}"),
    }
}

/// What an outer loss depends on, as one list of numbers.
struct Parameters {
    weights: Vec<Tensor<2>>,
    keys: Tensor<3>,
    values: Tensor<3>,
    queries: Tensor<3>,
    gates: [Tensor<2>; 3],
}

const TOKENS: usize = 7;

impl Parameters {
    fn draw(memory: &NeuralMemory) -> Self {
        let draw = || random(1, TOKENS).cast(DType::F64);
        let gate = |low: f64, high: f64| -> Tensor<2> {
            let uniform = Distribution::Uniform(low, high);
            sample([1, TOKENS], uniform).cast(DType::F64)
        };
        let noisy = |tensor: Tensor<2>| {
            let noise = sample(tensor.dims(), Distribution::Normal(0.0, 0.3));
            (tensor + noise).cast(DType::F64)
        };
        Self {
            weights: memory
                .initial_state()
                .tensors()
                .into_iter()
                .map(noisy)
                .collect(),
            keys: draw(),
            values: draw(),
            queries: draw(),
            gates: [gate(0.02, 0.1), gate(0.2, 0.8), gate(0.7, 0.95)],
        }
    }

    fn map(
        &self,
        two: &dyn Fn(&Tensor<2>) -> Tensor<2>,
        three: &dyn Fn(&Tensor<3>) -> Tensor<3>,
    ) -> Self {
        Self {
            weights: self.weights.iter().map(two).collect(),
            keys: three(&self.keys),
            values: three(&self.values),
            queries: three(&self.queries),
            gates: self.gates.each_ref().map(two),
        }
    }

    /// A weighted sum of causal reads, reads at the end, and losses.
    fn outer_loss(&self, memory: &NeuralMemory, weighting: &Tensor<3>) -> Tensor<1> {
        let [step_size, momentum_decay, retention] = self.gates.clone();
        let tokens = Tokens {
            keys: self.keys.clone(),
            values: self.values.clone(),
            gates: TokenGates {
                step_size: Some(GateValues::PerToken(step_size)),
                momentum_decay: Some(GateValues::PerToken(momentum_decay)),
                retention: Some(GateValues::PerToken(retention)),
                ..TokenGates::default()
            },
        };
        let reading = Reading {
            queries: self.queries.clone(),
            when: ReadTime::Token,
        };
        let mut states = [memory.state_from_tensors(self.weights.clone())];
        let passed = memory
            .pass(
                &mut states,
                tokens,
                Some(reading),
                Tail::Apply,
                Form::Chunkwise,
            )
            .expect("finite");
        let reads = passed.retrieved.expect("there were queries");
        let after = memory.read_batch(&states, self.queries.clone());
        (reads * weighting.clone()).sum()
            + (after * weighting.clone()).sum() * 0.5
            + passed.loss.sum() * 0.1
    }
}

/// Derivative of the outer loss along `direction`, by differences in float64, with the
/// square of the step extrapolated away: orthogonalisation bends sharply.
fn difference(
    memory: &NeuralMemory,
    at: &Parameters,
    direction: &Parameters,
    weighting: &Tensor<3>,
) -> f64 {
    let wide = central(memory, at, direction, weighting, 1e-5);
    let narrow = central(memory, at, direction, weighting, 5e-6);
    (4.0 * narrow - wide) / 3.0
}

fn central(
    memory: &NeuralMemory,
    at: &Parameters,
    direction: &Parameters,
    weighting: &Tensor<3>,
    step: f64,
) -> f64 {
    let moved = |sign: f64| {
        let mut moved = at.map(&Tensor::clone, &Tensor::clone);
        let two = |x: &Tensor<2>, d: &Tensor<2>| x.clone() + d.clone() * (sign * step);
        let three = |x: &Tensor<3>, d: &Tensor<3>| x.clone() + d.clone() * (sign * step);
        for (x, d) in moved.weights.iter_mut().zip(&direction.weights) {
            *x = two(x, d);
        }
        moved.keys = three(&moved.keys, &direction.keys);
        moved.values = three(&moved.values, &direction.values);
        moved.queries = three(&moved.queries, &direction.queries);
        for (x, d) in moved.gates.iter_mut().zip(&direction.gates) {
            *x = two(x, d);
        }
        let loss = moved.outer_loss(memory, weighting);
        numbers(&loss)[0]
    };
    (moved(1.0) - moved(-1.0)) / (2.0 * step)
}

#[test]
fn outer_gradients_through_writes_and_reads_are_finite_differences() {
    seed(3);
    let mut checked = 0;
    for (what, config) in every_kind() {
        let memory = memory(config);
        let at = Parameters::draw(&memory);
        let weighting = random(1, TOKENS).cast(DType::F64);

        let two = |tensor: &Tensor<2>| tracked(tensor.clone());
        let three = |tensor: &Tensor<3>| tracked(tensor.clone());
        let on_tape = at.map(&two, &three);
        let tape_weighting = Tensor::from_inner(weighting.clone());
        let loss = on_tape.outer_loss(&memory, &tape_weighting);
        let gradients = loss.backward();
        let two = |tensor: &Tensor<2>| {
            let found = tensor.grad(&gradients);
            found.unwrap_or_else(|| tensor.clone().inner().zeros_like())
        };
        let three = |tensor: &Tensor<3>| {
            let found = tensor.grad(&gradients);
            found.unwrap_or_else(|| tensor.clone().inner().zeros_like())
        };
        let gradient = on_tape.map(&two, &three);

        // Along each parameter in turn, in a random direction.
        let zero = at.map(&Tensor::zeros_like, &Tensor::zeros_like);
        let mut directions = Vec::new();
        for index in 0..at.weights.len() {
            let mut direction = zero.map(&Tensor::clone, &Tensor::clone);
            direction.weights[index] = noise(&at.weights[index]);
            directions.push((format!("weights {index}"), direction));
        }
        for index in 0..3 {
            let mut direction = zero.map(&Tensor::clone, &Tensor::clone);
            direction.gates[index] = noise(&at.gates[index]);
            directions.push((format!("gate {index}"), direction));
        }
        for name in ["keys", "values", "queries"] {
            let mut direction = zero.map(&Tensor::clone, &Tensor::clone);
            let target = match name {
                "keys" => &mut direction.keys,
                "values" => &mut direction.values,
                _ => &mut direction.queries,
            };
            *target = noise(target);
            directions.push((name.to_owned(), direction));
        }
        for (name, direction) in directions {
            let ours = inner_product(&gradient, &direction);
            let expected = difference(&memory, &at, &direction, &weighting);
            let scale = expected.abs().max(1.0);
            let apart = (ours - expected).abs() / scale;
            assert!(
                apart < 1e-5,
                "{what}, along the {name}: autodiff {ours}, difference {expected}"
            );
            checked += 1;
        }
    }
    assert!(checked > 300, "only {checked} derivatives were checked");
}

fn noise<const D: usize>(like: &Tensor<D>) -> Tensor<D> {
    let normal = Distribution::Normal(0.0, 1.0);
    sample(like.dims(), normal).cast(DType::F64)
}

fn inner_product(left: &Parameters, right: &Parameters) -> f64 {
    let flat = |parameters: &Parameters| -> Vec<f64> {
        let mut all: Vec<f64> = parameters.weights.iter().flat_map(numbers).collect();
        for tensor in [&parameters.keys, &parameters.values, &parameters.queries] {
            all.extend(numbers(tensor));
        }
        all.extend(parameters.gates.iter().flat_map(numbers));
        all
    };
    let (left, right) = (flat(left), flat(right));
    assert_eq!(left.len(), right.len());
    assert!(left.len() > 3 * WIDTH * TOKENS);
    left.iter().zip(right).map(|(l, r)| l * r).sum()
}
