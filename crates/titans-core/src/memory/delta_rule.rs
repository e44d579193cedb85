//! The linear delta rule in chunks, exactly (the WY form).
//!
//! A deep memory has no exact chunk form: its gradients are taken at the chunk's start.
//! A linear one does, because each token's error is a linear function of the errors
//! before it: one triangular system gives them all, and the chunk's length is a matter of
//! speed alone (Gated DeltaNet, arXiv:2412.06464; `docs/chunkwise.md`).

use burn::tensor::Tensor;

use crate::ops::products;

/// One chunk of a linear delta memory.
#[derive(Clone, Debug)]
pub struct DeltaChunk {
    /// `[memories, tokens, key_dim]`.
    pub keys: Tensor<3>,
    /// `[memories, tokens, value_dim]`.
    pub values: Tensor<3>,
    /// Fraction of the error that each token removes per unit of key energy,
    /// `[memories, tokens]`.
    pub step_size: Tensor<2>,
    /// Fraction of the memory that each token keeps, `[memories, tokens]`.
    pub retention: Tensor<2>,
    /// Where the error of a token is taken.
    pub decay_order: DecayOrder,
}

/// Whether a token's error sees the memory before or after the token's own decay. Without
/// decay the two are one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DecayOrder {
    /// `W_t = a_t W_(t-1) + step_t k_t (v_t - k_t W_(t-1))`: Titans, eq. 13.
    #[default]
    AfterGradient,
    /// `W_t = a_t W_(t-1) + step_t k_t (v_t - a_t k_t W_(t-1))`: Gated DeltaNet.
    BeforeGradient,
}

/// What a chunk of the delta rule leaves.
#[derive(Clone, Debug)]
pub struct DeltaResult {
    /// The memory after the chunk, `[memories, key_dim, value_dim]`.
    pub weights: Tensor<3>,
    /// Error of each token before its own write, `[memories, tokens, value_dim]`.
    pub errors: Tensor<3>,
    /// Reads with the memory after each token, if there were queries,
    /// `[memories, tokens, value_dim]`.
    pub reads: Option<Tensor<3>>,
}

/// Writes a chunk into `weights` with the exact delta rule, and reads causally.
///
/// ```text
/// G[t, s] = product of a_j for s < j <= t                     carried from s to t
/// E       = V - diag(seen) K W - strict_lower(seen / carried by G * K K^T) diag(step) E
/// W'      = g_last W + K^T diag(G[last] * step) E
/// O       = diag(g) Q W + (Q K^T * G) diag(step) E
/// ```
///
/// where `seen_t` is what is left of `W` when token t takes its error: the running product
/// of `a` up to t - 1, or up to t with [`DecayOrder::BeforeGradient`].
///
/// # Shapes
/// - `weights`: `[memories, key_dim, value_dim]`
/// - `queries`: `[memories, tokens, key_dim]`
pub fn delta_chunk(
    weights: Tensor<3>,
    chunk: DeltaChunk,
    queries: Option<Tensor<3>>,
) -> DeltaResult {
    let [memories, tokens, _] = chunk.keys.dims();
    let options = (&weights.device(), weights.dtype());
    let carried = products(&chunk.retention);
    let kept = carried.clone().narrow(2, 0, 1).reshape([memories, tokens])
        * chunk.retention.clone().narrow(1, 0, 1);

    // What is left of the memory, and of each earlier write, at each token's error.
    let first: Tensor<2> = Tensor::ones([memories, 1], options);
    let (seen, seen_writes) = match chunk.decay_order {
        DecayOrder::BeforeGradient => (kept.clone(), carried.clone()),
        DecayOrder::AfterGradient if tokens == 1 => (first, carried.clone()),
        DecayOrder::AfterGradient => (
            Tensor::cat(vec![first, kept.clone().narrow(1, 0, tokens - 1)], 1),
            // Row t of what is seen is row t - 1 of what is carried.
            Tensor::cat(
                vec![
                    carried.clone().narrow(1, 0, 1),
                    carried.clone().narrow(1, 0, tokens - 1),
                ],
                1,
            ),
        ),
    };
    let overlap = chunk
        .keys
        .clone()
        .matmul(chunk.keys.clone().swap_dims(1, 2))
        * seen_writes
        * chunk.step_size.clone().unsqueeze_dim::<3>(1);
    let unexplained =
        chunk.values - chunk.keys.clone().matmul(weights.clone()) * seen.unsqueeze_dim::<3>(2);

    // Forward substitution: stable for repeated keys, where powers of `overlap` are not.
    let mut errors: Vec<Tensor<3>> = Vec::with_capacity(tokens);
    for token in 0..tokens {
        let mut error = unexplained.clone().narrow(1, token, 1);
        if token > 0 {
            let row = overlap.clone().narrow(1, token, 1).narrow(2, 0, token);
            error = error - row.matmul(Tensor::cat(errors.clone(), 1));
        }
        errors.push(error);
    }
    let errors = Tensor::cat(errors, 1);
    let written = errors.clone() * chunk.step_size.unsqueeze_dim::<3>(2);

    let reads = queries.map(|queries| {
        let old = queries.clone().matmul(weights.clone()) * kept.clone().unsqueeze_dim::<3>(2);
        let overlap = queries.matmul(chunk.keys.clone().swap_dims(1, 2)) * carried.clone();
        old + overlap.matmul(written.clone())
    });
    let left = carried.narrow(1, tokens - 1, 1).swap_dims(1, 2);
    let weights = weights * kept.narrow(1, tokens - 1, 1).unsqueeze_dim::<3>(2)
        + chunk.keys.swap_dims(1, 2).matmul(written * left);
    DeltaResult {
        weights,
        errors,
        reads,
    }
}
