//! The gradients of a block of tokens: forward through the layers, and back.

use rayon::prelude::*;

use crate::coefficients::AtEnd;
use crate::matrix::Matrix;
use crate::mlp::{Mlp, shares};
use crate::product::{Shared, multiply, multiply_transposed};
use crate::scratch::Scratch;
use crate::simd::{Loop, sum_of, vectorised};

/// The relative error of a token is at most this, however small its value.
const LARGEST_RELATIVE_ERROR: f32 = 1e3;

/// The tokens of one update.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// A row for each.
    pub keys: &'a [f32],
    /// A row for each.
    pub values: &'a [f32],
    /// Weight of each token's gradient.
    pub steps: &'a [f32],
    /// What multiplies the error in the gradient of the loss.
    pub slope: f32,
    /// Relative error `||M(k) - v|| / ||v||` that a token must exceed to be written; zero
    /// writes everything.
    pub surprise_threshold: f32,
}

/// The gradients of a block of tokens with respect to one layer: `sum_i left_i^T right_i` is what
/// is subtracted. One of the factors is one for each of the layer's tensors, the other the same
/// for all of them.
pub(crate) enum Factors<'a> {
    Lefts(Vec<Matrix<'a>>, Shared<'a>),
    Rights(Matrix<'a>, Vec<Shared<'a>>),
}

/// What a block of tokens needs between its forward pass and the change of the weights.
pub(crate) struct Blocks {
    /// Activation of each hidden layer, the input of the layer after it.
    hidden: Vec<Scratch>,
    /// Its derivative there.
    slopes: Vec<Scratch>,
    /// Gradient at the output of each layer.
    deltas: Vec<Scratch>,
    /// For each layer and each of its tensors, one factor of the gradient, each row times
    /// what of it is in the tensor at the end: the narrower of the two.
    scaled: Vec<Vec<Scratch>>,
}

impl Blocks {
    pub(crate) fn new(mlp: &Mlp, rows: usize, tensors: usize) -> Self {
        let widths = mlp.widths();
        let hidden = &widths[1..mlp.depth()];
        let of = |widths: &[usize]| -> Vec<Scratch> {
            widths
                .iter()
                .map(|width| Scratch::new(rows * width))
                .collect()
        };
        Self {
            hidden: of(hidden),
            slopes: of(hidden),
            deltas: of(&widths[1..]),
            scaled: (widths.windows(2))
                .map(|pair| {
                    let narrow = pair[0].min(pair[1]);
                    (0..tensors).map(|_| Scratch::new(rows * narrow)).collect()
                })
                .collect(),
        }
    }

    /// Forward and back; the rows are shared between the threads.
    pub(crate) fn gradients(
        &mut self,
        mlp: &Mlp,
        weights: &[&[f32]],
        tokens: Tokens<'_>,
        at_end: &AtEnd,
        first: usize,
        relative_errors: &mut [f32],
    ) {
        let bounds = shares(relative_errors.len());
        let widths = mlp.widths();
        let mut parts: Vec<Part<'_>> = (bounds.windows(2))
            .map(|bounds| Part {
                first: first + bounds[0],
                keys: &tokens.keys[bounds[0] * widths[0]..bounds[1] * widths[0]],
                ..Part::default()
            })
            .collect();
        let value_dim = widths[mlp.depth()];
        for (part, bounds) in parts.iter_mut().zip(bounds.windows(2)) {
            part.values = &tokens.values[bounds[0] * value_dim..bounds[1] * value_dim];
            part.steps = &tokens.steps[bounds[0]..bounds[1]];
        }
        let errors = cut(relative_errors, &bounds, 1);
        for (part, errors) in parts.iter_mut().zip(errors) {
            part.relative_errors = errors;
        }
        for (layer, (hidden, slopes)) in self.hidden.iter_mut().zip(&mut self.slopes).enumerate() {
            let width = widths[layer + 1];
            let both = cut(hidden, &bounds, width).zip(cut(slopes, &bounds, width));
            for (part, (hidden, slopes)) in parts.iter_mut().zip(both) {
                part.hidden.push(hidden);
                part.slopes.push(slopes);
            }
        }
        for (layer, deltas) in self.deltas.iter_mut().enumerate() {
            for (part, deltas) in parts
                .iter_mut()
                .zip(cut(deltas, &bounds, widths[layer + 1]))
            {
                part.deltas.push(deltas);
            }
        }
        for (layer, scaled) in self.scaled.iter_mut().enumerate() {
            let narrow = widths[layer].min(widths[layer + 1]);
            for part in &mut parts {
                part.scaled.push(Vec::new());
            }
            for scaled in scaled {
                for (part, scaled) in parts.iter_mut().zip(cut(scaled, &bounds, narrow)) {
                    part.scaled[layer].push(scaled);
                }
            }
        }
        let run = |part: Part<'_>| part.run(mlp, weights, tokens, at_end);
        if parts.len() == 1 {
            parts.into_iter().for_each(run);
        } else {
            parts.into_par_iter().for_each(run);
        }
    }

    /// The factors of a layer's gradients.
    pub(crate) fn factors<'a>(
        &'a self,
        mlp: &Mlp,
        layer: usize,
        keys: &'a [f32],
        rows: usize,
    ) -> Factors<'a> {
        let (width_in, width_out) = (mlp.widths()[layer], mlp.widths()[layer + 1]);
        let inputs = match layer {
            0 => keys,
            _ => &self.hidden[layer - 1][..rows * width_in],
        };
        let deltas = &self.deltas[layer][..rows * width_out];
        let narrow = width_in.min(width_out);
        let scaled = self.scaled[layer].iter();
        let scaled = scaled.map(|scaled| Matrix::new(&scaled[..rows * narrow], narrow));
        let shared = |right| Shared::new(mlp.products(), right);
        if width_in <= width_out {
            Factors::Lefts(scaled.collect(), shared(Matrix::new(deltas, width_out)))
        } else {
            Factors::Rights(Matrix::new(inputs, width_in), scaled.map(shared).collect())
        }
    }
}

/// A buffer of rows, cut at some of them.
fn cut<'a>(
    mut rows: &'a mut [f32],
    bounds: &[usize],
    width: usize,
) -> impl Iterator<Item = &'a mut [f32]> {
    let lengths: Vec<usize> = bounds.windows(2).map(|b| (b[1] - b[0]) * width).collect();
    lengths.into_iter().map(move |length| {
        let (part, rest) = std::mem::take(&mut rows).split_at_mut(length);
        rows = rest;
        part
    })
}

/// Some rows of a block, with their place in every buffer.
#[derive(Default)]
struct Part<'a> {
    /// Place of the first among the tokens of the update.
    first: usize,
    keys: &'a [f32],
    values: &'a [f32],
    steps: &'a [f32],
    relative_errors: &'a mut [f32],
    hidden: Vec<&'a mut [f32]>,
    slopes: Vec<&'a mut [f32]>,
    deltas: Vec<&'a mut [f32]>,
    scaled: Vec<Vec<&'a mut [f32]>>,
}

impl Part<'_> {
    fn run(mut self, mlp: &Mlp, weights: &[&[f32]], tokens: Tokens<'_>, at_end: &AtEnd) {
        let (widths, depth, products) = (mlp.widths(), mlp.depth(), mlp.products());
        let last = depth - 1;
        for layer in 0..depth {
            let input: &[f32] = match layer {
                0 => self.keys,
                _ => self.hidden[layer - 1],
            };
            let input = Matrix::new(input, widths[layer]);
            let weights = Matrix::new(weights[layer], widths[layer + 1]);
            if layer == last {
                multiply(products, input, weights, self.deltas[last]);
            } else {
                multiply(products, input, weights, self.slopes[layer]);
                mlp.activation()
                    .split(self.slopes[layer], self.hidden[layer]);
            }
        }
        errors(
            self.deltas[last],
            self.values,
            widths[depth],
            tokens.slope,
            self.relative_errors,
        );
        for layer in (1..depth).rev() {
            let (before, after) = self.deltas.split_at_mut(layer);
            let after = Matrix::new(after[0], widths[layer + 1]);
            let weights = Matrix::new(weights[layer], widths[layer + 1]);
            multiply_transposed(products, after, weights, before[layer - 1]);
            times(before[layer - 1], self.slopes[layer - 1]);
        }
        let written = |token: usize| {
            let threshold = tokens.surprise_threshold;
            threshold == 0.0 || self.relative_errors[token] > threshold
        };
        for (layer, scaled) in self.scaled.iter_mut().enumerate() {
            let (width_in, width_out) = (widths[layer], widths[layer + 1]);
            let narrow = width_in.min(width_out);
            let from: &[f32] = match layer {
                _ if width_in > width_out => self.deltas[layer],
                0 => self.keys,
                _ => self.hidden[layer - 1],
            };
            let shares = std::iter::once(&at_end.gradient_into_weights)
                .chain(&at_end.gradient_into_momentum);
            for (scaled, shares) in scaled.iter_mut().zip(shares) {
                let rows = scaled
                    .chunks_exact_mut(narrow)
                    .zip(from.chunks_exact(narrow));
                for (token, (scaled, row)) in rows.enumerate() {
                    let weight = match written(token) {
                        true => shares[self.first + token] * self.steps[token],
                        false => 0.0,
                    };
                    for (scaled, number) in scaled.iter_mut().zip(row) {
                        *scaled = weight * number;
                    }
                }
            }
        }
    }
}

/// Predictions become gradients of the loss at them; the relative error of each row is noted.
pub(crate) fn errors(
    predictions: &mut [f32],
    values: &[f32],
    value_dim: usize,
    slope: f32,
    relative_errors: &mut [f32],
) {
    vectorised(Loop(
        #[inline(always)]
        || {
            let rows = predictions
                .chunks_exact_mut(value_dim)
                .zip(values.chunks_exact(value_dim));
            for ((prediction, value), relative) in rows.zip(relative_errors.iter_mut()) {
                let error = sum_of(prediction, value, |p, v| (p - v) * (p - v)).sqrt();
                let size = sum_of(value, value, |v, _| v * v).sqrt();
                let size = size.max(error / LARGEST_RELATIVE_ERROR);
                *relative = error / size.max(f32::MIN_POSITIVE);
                for (prediction, value) in prediction.iter_mut().zip(value) {
                    *prediction = slope * (*prediction - value);
                }
            }
        },
    ));
}

fn times(numbers: &mut [f32], factors: &[f32]) {
    vectorised(Loop(
        #[inline(always)]
        || {
            for (number, factor) in numbers.iter_mut().zip(factors) {
                *number *= factor;
            }
        },
    ));
}
