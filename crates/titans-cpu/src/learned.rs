//! What a memory has learned, and how it is brought up to date: piece by piece, each of which
//! stays in a cache from the pass over it to the products on top of it.

use crate::coefficients::AtEnd;
use crate::gradients::Factors;
use crate::mlp::Mlp;
use crate::product::subtract_outer;
use crate::simd::{Loop, vectorised};

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

/// The tensors by layer: weights first, then the momenta.
pub(crate) fn layers<'a>(mlp: &Mlp, learned: Learned<'a>, orders: usize) -> Vec<Layer<'a>> {
    assert_eq!(learned.weights.len(), mlp.depth());
    assert_eq!(learned.momenta.len(), orders);
    let mut layers: Vec<Layer<'a>> = (learned.weights.into_iter().enumerate())
        .map(|(layer, weights)| Layer {
            columns: mlp.widths()[layer + 1],
            tensors: vec![weights],
        })
        .collect();
    for buffers in learned.momenta {
        assert_eq!(buffers.len(), mlp.depth());
        for (layer, buffer) in layers.iter_mut().zip(buffers) {
            layer.tensors.push(buffer);
        }
    }
    for (layer, tensors) in layers.iter().enumerate() {
        let length = mlp.widths()[layer] * mlp.widths()[layer + 1];
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

/// A layer's weights and momenta.
pub(crate) struct Layer<'a> {
    columns: usize,
    pub(crate) tensors: Vec<Buffer<'a>>,
}

impl Layer<'_> {
    /// The same rows of all tensors of the layer, as many as stay together in a cache.
    pub(crate) fn pieces(&mut self) -> Vec<Piece<'_>> {
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
pub(crate) struct Piece<'a> {
    columns: usize,
    first_row: usize,
    tensors: Vec<Buffer<'a>>,
}

impl Piece<'_> {
    /// Brings the rows up to date: what decays and flows over at the first block, and the
    /// gradients of every block.
    pub(crate) fn advance(mut self, begins: Option<&AtEnd>, factors: &Factors<'_>) {
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
