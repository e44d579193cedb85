//! One update: every token written with its gradient at the same weights.

use rayon::prelude::*;

use crate::coefficients::AtEnd;
use crate::matrix::Matrix;
use crate::mlp::{BLOCK, Mlp, shares};
use crate::product::{Shared, multiply, multiply_transposed, subtract_outer};
use crate::scratch::Scratch;
use crate::simd::{Loop, sum_of, vectorised};

/// The relative error of a token is at most this, however small its value.
const LARGEST_RELATIVE_ERROR: f32 = 1e3;

/// Numbers of one tensor and its momenta that are brought up to date together: small enough to
/// stay in the second-level cache from the pass over them to the product on top of it.
const PIECE: usize = 96 * 1024;

/// Numbers to change.
pub enum Buffer<'a> {
    /// Where they are.
    InPlace(&'a mut [f32]),
    /// The old ones stay; the new ones go where whatever was does not matter.
    From {
        /// Before the update.
        old: &'a [f32],
        /// After it.
        new: &'a mut [f32],
    },
}

/// What a memory has learned.
pub struct Learned<'a> {
    /// One per layer.
    pub weights: Vec<Buffer<'a>>,
    /// For each order of momentum, one per layer.
    pub momenta: Vec<Vec<Buffer<'a>>>,
}

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

impl Mlp {
    /// Makes one update; the relative error of each token goes to `relative_errors`.
    ///
    /// # Panics
    /// If a slice has another length than the widths and the number of tokens say, or there
    /// are no tokens.
    pub fn update(
        &self,
        learned: Learned<'_>,
        tokens: Tokens<'_>,
        at_end: &AtEnd,
        relative_errors: &mut [f32],
    ) {
        let count = relative_errors.len();
        let (key_dim, value_dim) = (self.widths()[0], self.widths()[self.depth()]);
        assert!(tokens.keys.len() == count * key_dim);
        assert!(tokens.values.len() == count * value_dim && tokens.steps.len() == count);
        assert!(count > 0 && at_end.gradient_into_weights.len() == count);
        let mut layers = self.layers(learned, at_end.orders());
        // The base: what the tensors were before the update. A tensor that is changed in place
        // while tokens are still to come must be copied.
        let copies: Vec<Option<Scratch>> = layers
            .iter()
            .map(|layer| match &layer.tensors[0] {
                Buffer::InPlace(numbers) if count > BLOCK => Some(copy_of(numbers)),
                _ => None,
            })
            .collect();

        let mut blocks = Blocks::new(self, count.min(BLOCK), at_end.orders() + 1);
        for first in (0..count).step_by(BLOCK) {
            let rows = BLOCK.min(count - first);
            let weights: Vec<&[f32]> = layers
                .iter()
                .zip(&copies)
                .map(|(layer, copy)| match (&layer.tensors[0], copy) {
                    (_, Some(copy)) => &**copy,
                    (Buffer::InPlace(numbers), None) => &**numbers,
                    (Buffer::From { old, .. }, None) => old,
                })
                .collect();
            let block = Tokens {
                keys: &tokens.keys[first * key_dim..][..rows * key_dim],
                values: &tokens.values[first * value_dim..][..rows * value_dim],
                steps: &tokens.steps[first..][..rows],
                ..tokens
            };
            let errors = &mut relative_errors[first..][..rows];
            blocks.gradients(self, &weights, block, at_end, first, errors);
            let of_layer = |layer| blocks.factors(self, layer, block.keys, rows);
            let factors: Vec<Factors<'_>> = match rayon::current_num_threads() {
                1 => (0..self.depth()).map(of_layer).collect(),
                _ => (0..self.depth()).into_par_iter().map(of_layer).collect(),
            };
            let begins = (first == 0).then_some(at_end);
            let pieces = layers
                .iter_mut()
                .zip(&factors)
                .flat_map(|(tensors, factors)| {
                    let pieces = tensors.pieces().into_iter();
                    pieces.map(move |piece| (piece, factors))
                });
            let advance = |(piece, factors): (Piece<'_>, &Factors<'_>)| {
                piece.advance(begins, factors);
            };
            if rayon::current_num_threads() == 1 {
                pieces.for_each(advance);
            } else {
                pieces.collect::<Vec<_>>().into_par_iter().for_each(advance);
            }
        }
    }

    /// The relative errors that an update would report, without making it.
    ///
    /// # Panics
    /// If a slice has another length than the widths and the number of errors say.
    pub fn relative_errors(
        &self,
        weights: &[&[f32]],
        keys: &[f32],
        values: &[f32],
        relative_errors: &mut [f32],
    ) {
        let value_dim = self.widths()[self.depth()];
        assert_eq!(values.len(), relative_errors.len() * value_dim);
        let mut predictions = Scratch::new(values.len());
        self.read(weights, keys, &mut predictions);
        errors(&mut predictions, values, value_dim, 1.0, relative_errors);
    }

    /// The tensors by layer: weights first, then the momenta.
    fn layers<'a>(&self, learned: Learned<'a>, orders: usize) -> Vec<Layer<'a>> {
        assert_eq!(learned.weights.len(), self.depth());
        assert_eq!(learned.momenta.len(), orders);
        let mut layers: Vec<Layer<'a>> = (learned.weights.into_iter().enumerate())
            .map(|(layer, weights)| Layer {
                columns: self.widths()[layer + 1],
                tensors: vec![weights],
            })
            .collect();
        for buffers in learned.momenta {
            assert_eq!(buffers.len(), self.depth());
            for (layer, buffer) in layers.iter_mut().zip(buffers) {
                layer.tensors.push(buffer);
            }
        }
        for (layer, tensors) in layers.iter().enumerate() {
            let length = self.widths()[layer] * self.widths()[layer + 1];
            for tensor in &tensors.tensors {
                match tensor {
                    Buffer::InPlace(numbers) => assert_eq!(numbers.len(), length),
                    Buffer::From { old, new } => {
                        assert!(old.len() == length && new.len() == length);
                    }
                }
            }
        }
        layers
    }
}

fn copy_of(numbers: &[f32]) -> Scratch {
    let mut copy = Scratch::new(numbers.len());
    copy.copy_from_slice(numbers);
    copy
}

/// A layer's weights and momenta.
struct Layer<'a> {
    columns: usize,
    tensors: Vec<Buffer<'a>>,
}

impl Layer<'_> {
    /// The same rows of all tensors of the layer, as many as stay together in a cache.
    fn pieces(&mut self) -> Vec<Piece<'_>> {
        let columns = self.columns;
        let rows = (PIECE / (columns * self.tensors.len())).max(1);
        let length = |tensor: &Buffer<'_>| match tensor {
            Buffer::InPlace(numbers) => numbers.len(),
            Buffer::From { old, .. } => old.len(),
        };
        let count = length(&self.tensors[0]).div_ceil(rows * columns);
        let mut pieces: Vec<Piece<'_>> = (0..count)
            .map(|piece| Piece {
                columns,
                first_row: piece * rows,
                tensors: Vec::with_capacity(self.tensors.len()),
            })
            .collect();
        for tensor in &mut self.tensors {
            match tensor {
                Buffer::InPlace(numbers) => {
                    let parts = numbers.chunks_mut(rows * columns);
                    for (piece, part) in pieces.iter_mut().zip(parts) {
                        piece.tensors.push(Buffer::InPlace(part));
                    }
                }
                Buffer::From { old, new } => {
                    let old = old.chunks(rows * columns);
                    let parts = old.zip(new.chunks_mut(rows * columns));
                    for (piece, (old, new)) in pieces.iter_mut().zip(parts) {
                        piece.tensors.push(Buffer::From { old, new });
                    }
                }
            }
        }
        pieces
    }
}

/// Some rows of a layer's tensors.
struct Piece<'a> {
    columns: usize,
    first_row: usize,
    tensors: Vec<Buffer<'a>>,
}

/// The gradients of a block of tokens with respect to one layer: `sum_i left_i^T right_i` is what
/// is subtracted. One of the factors is one for each of the layer's tensors, the other the same
/// for all of them.
enum Factors<'a> {
    Lefts(Vec<Matrix<'a>>, Shared<'a>),
    Rights(Matrix<'a>, Vec<Shared<'a>>),
}

impl Piece<'_> {
    /// Brings the rows up to date: what decays and flows over at the first block, and the
    /// gradients of every block.
    fn advance(mut self, begins: Option<&AtEnd>, factors: &Factors<'_>) {
        if let Some(at_end) = begins {
            self.decay(at_end);
        }
        for (at, tensor) in self.tensors.iter_mut().enumerate() {
            let numbers = match tensor {
                Buffer::InPlace(numbers) => numbers,
                Buffer::From { new, .. } => new,
            };
            let (left, right) = match factors {
                Factors::Lefts(lefts, right) => (lefts[at], right),
                Factors::Rights(left, rights) => (*left, &rights[at]),
            };
            let rows = numbers.len() / self.columns;
            subtract_outer(left.columns(self.first_row, rows), right, numbers);
        }
    }

    /// What is kept of each tensor and what momenta pass on, in one pass.
    fn decay(&mut self, at_end: &AtEnd) {
        match self.tensors.as_mut_slice() {
            [weights] => scale(weights, at_end.weights_kept),
            [weights, momentum] => {
                let kept = at_end.weights_kept;
                let passed = at_end.momentum_into_weights[0];
                let held = at_end.momentum_into_momentum[0][0];
                flow(weights, momentum, kept, passed);
                scale(momentum, held);
            }
            [weights, first, second] => {
                flow(
                    weights,
                    first,
                    at_end.weights_kept,
                    at_end.momentum_into_weights[0],
                );
                add(weights, second, at_end.momentum_into_weights[1]);
                let into_second = &at_end.momentum_into_momentum[1];
                flow(second, first, into_second[1], into_second[0]);
                scale(first, at_end.momentum_into_momentum[0][0]);
            }
            _ => unreachable!("momentum has at most two orders"),
        }
    }
}

/// `numbers = kept numbers`.
fn scale(numbers: &mut Buffer<'_>, kept: f32) {
    vectorised(Loop(
        #[inline(always)]
        || match numbers {
            Buffer::InPlace(numbers) => {
                for number in numbers.iter_mut() {
                    *number *= kept;
                }
            }
            Buffer::From { old, new } => {
                for (new, old) in new.iter_mut().zip(old.iter()) {
                    *new = kept * old;
                }
            }
        },
    ));
}

/// `numbers = kept numbers + share before`, with `before` as it was before the update.
fn flow(numbers: &mut Buffer<'_>, before: &Buffer<'_>, kept: f32, share: f32) {
    let before = match before {
        Buffer::InPlace(numbers) => &**numbers,
        Buffer::From { old, .. } => old,
    };
    vectorised(Loop(
        #[inline(always)]
        || match numbers {
            Buffer::InPlace(numbers) => {
                for (number, before) in numbers.iter_mut().zip(before) {
                    *number = share.mul_add(*before, kept * *number);
                }
            }
            Buffer::From { old, new } => {
                for ((new, old), before) in new.iter_mut().zip(old.iter()).zip(before) {
                    *new = share.mul_add(*before, kept * old);
                }
            }
        },
    ));
}

/// `numbers += share before`, on top of what [`flow`] has made.
fn add(numbers: &mut Buffer<'_>, before: &Buffer<'_>, share: f32) {
    let before = match before {
        Buffer::InPlace(numbers) => &**numbers,
        Buffer::From { old, .. } => old,
    };
    let numbers: &mut [f32] = match numbers {
        Buffer::InPlace(numbers) => numbers,
        Buffer::From { new, .. } => new,
    };
    vectorised(Loop(
        #[inline(always)]
        || {
            for (number, before) in numbers.iter_mut().zip(before) {
                *number = share.mul_add(*before, *number);
            }
        },
    ));
}

/// What a block of tokens needs between its forward pass and the change of the weights.
struct Blocks {
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
    fn new(mlp: &Mlp, rows: usize, tensors: usize) -> Self {
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
    fn gradients(
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
    fn factors<'a>(&'a self, mlp: &Mlp, layer: usize, keys: &'a [f32], rows: usize) -> Factors<'a> {
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
fn errors(
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
