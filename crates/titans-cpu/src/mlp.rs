//! The memory: layers, and what it answers.

use rayon::prelude::*;

use crate::activation::Activation;
use crate::matrix::Matrix;
use crate::product::{Products, multiply};
use crate::scratch::Scratch;

/// Rows that go through all layers together: their products are as fast as larger ones, and
/// what is between two layers stays near the processor.
pub(crate) const BLOCK: usize = 512;

/// Rows that are worth another thread.
const SHARE: usize = 8;

/// A multi-layer perceptron without biases.
///
/// ```text
/// h_0 = key;   h_l = (l > 0 ? act(h_(l-1)) : h_0) @ W_l     l = 0 .. depth - 1
/// ```
///
/// Layer `l` is row-major, `[widths[l], widths[l + 1]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mlp {
    widths: Vec<usize>,
    activation: Activation,
    products: Products,
}

impl Mlp {
    /// Layers from the first width, that of keys, to the last, that of values.
    ///
    /// # Panics
    /// If there are fewer than two widths, or one is zero.
    pub fn new(widths: Vec<usize>, activation: Activation, products: Products) -> Self {
        assert!(widths.len() >= 2 && widths.iter().all(|width| *width > 0));
        Self {
            widths,
            activation,
            products,
        }
    }

    /// Width of keys, of hidden layers, and of values.
    pub(crate) fn widths(&self) -> &[usize] {
        &self.widths
    }

    pub(crate) fn activation(&self) -> Activation {
        self.activation
    }

    pub(crate) fn products(&self) -> Products {
        self.products
    }

    /// Layers.
    pub(crate) fn depth(&self) -> usize {
        self.widths.len() - 1
    }

    pub(crate) fn check_weights(&self, weights: &[&[f32]]) {
        assert_eq!(weights.len(), self.depth());
        for (layer, weights) in weights.iter().enumerate() {
            assert_eq!(weights.len(), self.widths[layer] * self.widths[layer + 1]);
        }
    }

    /// Answers queries, each as if it were alone.
    ///
    /// # Panics
    /// If a slice has another length than the widths say.
    pub fn read(&self, weights: &[&[f32]], queries: &[f32], answers: &mut [f32]) {
        self.check_weights(weights);
        let (key_dim, value_dim) = (self.widths[0], self.widths[self.depth()]);
        let rows = queries.len() / key_dim;
        assert!(queries.len() == rows * key_dim && answers.len() == rows * value_dim);
        let threads = rayon::current_num_threads();
        let block = rows.div_ceil(threads).clamp(SHARE, BLOCK);
        let answer = |(queries, answers): (&[f32], &mut [f32])| {
            self.answer(weights, queries, answers);
        };
        let blocks = queries.chunks(block * key_dim);
        if rows <= block || threads == 1 {
            blocks
                .zip(answers.chunks_mut(block * value_dim))
                .for_each(answer);
        } else {
            queries
                .par_chunks(block * key_dim)
                .zip(answers.par_chunks_mut(block * value_dim))
                .for_each(answer);
        }
    }

    fn answer(&self, weights: &[&[f32]], queries: &[f32], answers: &mut [f32]) {
        let rows = queries.len() / self.widths[0];
        let mut input: Option<Scratch> = None;
        for (layer, weights) in weights.iter().enumerate() {
            let rows_in = Matrix::new(input.as_deref().unwrap_or(queries), self.widths[layer]);
            let weights = Matrix::new(weights, self.widths[layer + 1]);
            if layer + 1 == self.depth() {
                multiply(self.products, rows_in, weights, answers);
                break;
            }
            let mut hidden = Scratch::new(rows * self.widths[layer + 1]);
            multiply(self.products, rows_in, weights, &mut hidden);
            self.activation.apply(&mut hidden);
            input = Some(hidden);
        }
    }
}

/// Where each of the parts begins into which some rows are shared, and where the last ends.
pub(crate) fn shares(rows: usize) -> Vec<usize> {
    let parts = (rows / SHARE).clamp(1, rayon::current_num_threads());
    (0..=parts).map(|part| rows * part / parts).collect()
}
