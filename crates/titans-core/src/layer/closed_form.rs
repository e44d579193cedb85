//! The delta rule over the tokens that a gate let through, at once.

use burn::tensor::{Tensor, TensorData};

use super::empty;
use crate::error::InputError;
use crate::memory::{DecayOrder, DeltaChunk, delta_chunk};
use crate::ops::host_floats;

/// Writes that one triangular system solves for.
pub(super) const CHUNK: usize = 64;

/// The written tokens of a batch, in the order of the text.
pub(super) struct Writes {
    /// `[batch, writes, key_dim]`.
    pub(super) keys: Tensor<3>,
    /// `[batch, writes, value_dim]`.
    pub(super) values: Tensor<3>,
    /// `[batch, writes]`; zero where a shorter sequence is filled up.
    pub(super) step_size: Tensor<2>,
    /// Where in the piece each write stands, ascending.
    pub(super) positions: Vec<Vec<usize>>,
}

impl Writes {
    /// Refuses numbers that would stay in the memory for good.
    pub(super) fn check_finite(&self) -> Result<(), InputError> {
        let [_, writes, _] = self.keys.dims();
        let of = |what, tensor: &Tensor<3>| {
            let numbers = host_floats(tensor.clone());
            let Some(index) = numbers.iter().position(|number| !number.is_finite()) else {
                return Ok(());
            };
            let write = index / tensor.dims()[2];
            Err(InputError::NotFinite {
                what,
                memory: write / writes,
                token: self.positions[write / writes][write % writes],
            })
        };
        of("keys", &self.keys)?;
        of("values", &self.values)?;
        of("gates", &self.step_size.clone().unsqueeze_dim::<3>(2))
    }
}

/// Writes the tokens, and answers each query with the memory after all writes that stand at
/// or before it.
///
/// ```text
/// E = errors of the exact delta rule (see `delta_chunk`), U = diag(step) E
/// O = Q W_0 + (Q K^T * [position of write <= position of query]) U
/// ```
///
/// A text of thousands of tokens of which a hundred are written costs what a hundred cost.
///
/// # Shapes
/// - `weights`: `[batch, key_dim, value_dim]`
/// - `queries`: `[batch, reads, key_dim]`
/// - returns: the weights after all writes, and `[batch, reads, value_dim]`
pub(super) fn write_and_read(
    weights: Tensor<3>,
    writes: Writes,
    queries: Tensor<3>,
    read_at: &[Vec<usize>],
) -> (Tensor<3>, Tensor<3>) {
    let [batch, count, _] = writes.keys.dims();
    let [_, reads, _] = queries.dims();
    let before = match reads {
        0 => empty(&queries, batch, weights.dims()[2]),
        _ => queries.clone().matmul(weights.clone()),
    };
    let mut weights = weights;
    let mut written = Vec::new();
    for start in (0..count).step_by(CHUNK) {
        let tokens = CHUNK.min(count - start);
        let step_size = writes.step_size.clone().narrow(1, start, tokens);
        let options = (&step_size.device().inner(), step_size.dtype());
        let chunk = DeltaChunk {
            keys: writes.keys.clone().narrow(1, start, tokens),
            values: writes.values.clone().narrow(1, start, tokens),
            retention: Tensor::ones([batch, tokens], options),
            step_size: step_size.clone(),
            decay_order: DecayOrder::AfterGradient,
        };
        let result = delta_chunk(weights, chunk, None);
        weights = result.weights;
        written.push(result.errors * step_size.unsqueeze_dim::<3>(2));
    }
    if written.is_empty() || reads == 0 {
        return (weights, before);
    }
    let seen: Vec<f32> = (0..batch)
        .flat_map(|sequence| {
            let (reads, writes) = (&read_at[sequence], &writes.positions[sequence]);
            reads.iter().flat_map(move |read| {
                (0..count).map(move |write| match writes.get(write) {
                    Some(at) if at <= read => 1.0,
                    _ => 0.0,
                })
            })
        })
        .collect();
    let options = (&queries.device().inner(), queries.dtype());
    let seen = Tensor::<3>::from_data(TensorData::new(seen, [batch, reads, count]), options);
    let overlap = queries.matmul(writes.keys.swap_dims(1, 2)) * seen;
    (weights, before + overlap.matmul(Tensor::cat(written, 1)))
}
