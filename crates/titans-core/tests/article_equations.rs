//! The preset `article` is the five equations of the article, against a loop of its own
//! in float64: backward pass, selection and all.

mod common;

use common::draw::seed;
use common::{WIDTH, memory, numbers, random, small, state_in_f64};
use titans_core::{Form, MemoryState, Preset, Tail, Tokens};

/// `rows x columns`, row-major.
struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

fn times(input: &[f64], matrix: &Matrix) -> Vec<f64> {
    (0..matrix.columns)
        .map(|j| {
            (0..matrix.rows)
                .map(|i| input[i] * matrix.values[i * matrix.columns + j])
                .sum()
        })
        .collect()
}

/// Abramowitz and Stegun 7.1.5, summed until nothing changes.
fn erf(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / 2f64.sqrt()))
}

fn gelu_slope(x: f64) -> f64 {
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    0.5 * (1.0 + erf(x / 2f64.sqrt())) + x * density
}

struct Article {
    layers: Vec<Matrix>,
    smoothed: f64,
}

impl Article {
    /// One chunk: surprise, momentum, gate, update.
    fn write(&mut self, keys: &[f64], values: &[f64]) {
        let tokens = keys.len() / WIDTH;
        let mut gradient: Vec<Vec<f64>> = self
            .layers
            .iter()
            .map(|m| vec![0.0; m.values.len()])
            .collect();
        for token in 0..tokens {
            let key = &keys[token * WIDTH..][..WIDTH];
            let value = &values[token * WIDTH..][..WIDTH];
            let mut inputs = vec![key.to_vec()];
            let mut outputs = vec![times(key, &self.layers[0])];
            for layer in 1..3 {
                let input: Vec<f64> = outputs[layer - 1].iter().map(|x| gelu(*x)).collect();
                outputs.push(times(&input, &self.layers[layer]));
                inputs.push(input);
            }
            let error: Vec<f64> = outputs[2].iter().zip(value).map(|(p, v)| p - v).collect();
            let norm = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>().sqrt();
            // Threshold 0.15 on what is left of the value after normalisation.
            if norm(&error) / norm(value) <= f64::from(0.15f32) {
                continue;
            }
            // The mean over the chunk of the squared error.
            let mut delta: Vec<f64> = error.iter().map(|e| 2.0 * e / tokens as f64).collect();
            for layer in (0..3).rev() {
                let matrix = &self.layers[layer];
                for i in 0..matrix.rows {
                    for j in 0..matrix.columns {
                        gradient[layer][i * matrix.columns + j] += inputs[layer][i] * delta[j];
                    }
                }
                if layer > 0 {
                    delta = (0..matrix.rows)
                        .map(|i| {
                            let row = &matrix.values[i * matrix.columns..][..matrix.columns];
                            let back: f64 = row.iter().zip(&delta).map(|(w, d)| w * d).sum();
                            back * gelu_slope(outputs[layer - 1][i])
                        })
                        .collect();
                }
            }
        }
        // s = ||grad||,  S = 0.9 S + 0.1 s,  alpha = sigmoid(0.8 S - 0.2).
        let all: Vec<f64> = gradient.concat();
        let surprise = all.iter().map(|g| g * g).sum::<f64>().sqrt();
        let beta = f64::from(0.9f32);
        self.smoothed = beta * self.smoothed + (1.0 - beta) * surprise;
        let gate = f64::from(0.8f32) * self.smoothed - f64::from(0.2f32);
        let forgotten = 1.0 / (1.0 + (-gate).exp());
        // The largest 2 % of the gradient's elements.
        let mut sizes: Vec<f64> = all.iter().map(|g| g.abs()).collect();
        sizes.sort_by(|a, b| b.total_cmp(a));
        let kept = (all.len() as f64 * f64::from(0.02f32)).round() as usize;
        let smallest = sizes[kept - 1];
        // theta = (1 - alpha) theta - eta g.
        for (matrix, gradient) in self.layers.iter_mut().zip(&gradient) {
            for (weight, gradient) in matrix.values.iter_mut().zip(gradient) {
                let sparse = if gradient.abs() >= smallest {
                    *gradient
                } else {
                    0.0
                };
                *weight = (1.0 - forgotten) * *weight - f64::from(1e-4f32) * sparse;
            }
        }
    }
}

fn compare(state: &MemoryState, article: &Article, chunk: usize) {
    for (tensor, matrix) in state.tensors().iter().zip(&article.layers) {
        let ours = numbers(tensor);
        let apart = ours.iter().zip(&matrix.values).map(|(a, b)| (a - b).abs());
        let apart = apart.fold(0.0, f64::max);
        assert!(apart < 1e-12, "chunk {chunk}: {apart}");
    }
}

#[test]
fn the_preset_follows_the_articles_equations() {
    seed(1);
    let mut config = small(Preset::Article);
    config.update.update_size = 16;
    let memory = memory(config);
    let mut state = state_in_f64(&memory);
    let mut article = Article {
        layers: state
            .tensors()
            .iter()
            .map(|tensor| Matrix {
                rows: tensor.dims()[0],
                columns: tensor.dims()[1],
                values: numbers(tensor),
            })
            .collect(),
        smoothed: 0.0,
    };
    assert_eq!(article.layers.len(), 3);
    for chunk in 0..6 {
        let draw = || random(1, 16).cast(burn::tensor::DType::F64);
        let (keys, values) = (draw(), draw());
        // Four tokens that the memory almost knows: under the threshold, and left out.
        let known = keys.clone().narrow(1, 3, 4);
        let known = memory.read_batch(std::slice::from_ref(&state), known) * 1.05;
        let values = values.slice_assign([0..1, 3..7, 0..WIDTH], known);
        article.write(&numbers(&keys), &numbers(&values));
        memory
            .pass(
                std::slice::from_mut(&mut state),
                Tokens::new(keys, values),
                None,
                Tail::Hold,
                Form::Chunkwise,
            )
            .expect("finite");
        compare(&state, &article, chunk);
    }
    // After six chunks almost nothing is left of what the memory began with.
    let before: f64 = state_in_f64(&memory)
        .tensors()
        .iter()
        .map(|t| numbers(&t.clone().abs().sum())[0])
        .sum();
    let after: f64 = state
        .tensors()
        .iter()
        .map(|t| numbers(&t.clone().abs().sum())[0])
        .sum();
    assert!(after < 0.03 * before, "{after} of {before} are left");
}
