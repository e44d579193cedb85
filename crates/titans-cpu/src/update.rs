//! One update: every token written with its gradient at the same weights.

use rayon::prelude::*;

use crate::coefficients::AtEnd;
use crate::gradients::{Blocks, Factors, Tokens, errors};
use crate::learned::{Buffer, Learned, Piece, layers};
use crate::mlp::{BLOCK, Mlp};
use crate::scratch::Scratch;

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
        let mut layers = layers(self, learned, at_end.orders());
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
}

fn copy_of(numbers: &[f32]) -> Scratch {
    let mut copy = Scratch::new(numbers.len());
    copy.copy_from_slice(numbers);
    copy
}
