//! The coefficients of the closed form: how much of what is in the weights after a token.

use burn::tensor::Tensor;

/// How the weights and momenta after each token of an update are made from those before
/// the update and from the gradients of its tokens (`docs/chunkwise.md`).
///
/// ```text
/// W_t = weights_kept_t W_0 + sum_k momentum_into_weights[k]_t S^k_0
///       - sum_(i <= t) gradient_into_weights_ti g_i
/// ```
///
/// and likewise for every momentum buffer after the last token.
pub(crate) struct Coefficients {
    /// `[memories, tokens]`.
    pub(crate) weights_kept: Tensor<2>,
    /// One `[memories, tokens]` per buffer.
    pub(crate) momentum_into_weights: Vec<Tensor<2>>,
    /// `[memories, tokens, tokens]`, lower triangular, steps included.
    pub(crate) gradient_into_weights: Tensor<3>,
    /// `[j][k]`: how much of buffer k is in buffer j at the end, `[memories, 1]`, `k <= j`.
    pub(crate) momentum_into_momentum: Vec<Vec<Tensor<2>>>,
    /// How much of each gradient is in buffer j at the end, `[memories, tokens]`.
    pub(crate) gradient_into_momentum: Vec<Tensor<2>>,
}

impl Coefficients {
    /// # Shapes
    /// - `steps`, `retention`, each of `momentum_decays`: `[memories, tokens]`
    pub(crate) fn new(
        steps: Tensor<2>,
        momentum_decays: &[Tensor<2>],
        retention: &Tensor<2>,
    ) -> Self {
        let [_, tokens] = steps.dims();
        let last = |of_each: Tensor<2>| of_each.narrow(1, tokens - 1, 1);

        // What is in the value that the next stage accumulates, after each token.
        let mut from_gradients: Option<Tensor<3>> = None;
        let mut from_buffers: Vec<Tensor<2>> = Vec::new();
        let mut momentum_into_momentum = Vec::new();
        let mut gradient_into_momentum = Vec::new();
        for decay in momentum_decays {
            let through = products(decay);
            let carried = carried(&through, decay);
            from_gradients = Some(match from_gradients {
                Some(inner) => through.clone().matmul(inner),
                None => through.clone() * steps.clone().unsqueeze_dim::<3>(1),
            });
            from_buffers = from_buffers
                .into_iter()
                .map(|inner| apply(&through, inner))
                .collect();
            from_buffers.push(carried);
            momentum_into_momentum.push(from_buffers.iter().cloned().map(last).collect());
            if let Some(gradients) = &from_gradients {
                gradient_into_momentum.push(last_row(gradients.clone()));
            }
        }
        let kept = products(retention);
        let weights_kept = carried(&kept, retention);
        Self {
            gradient_into_weights: match from_gradients {
                Some(inner) => kept.clone().matmul(inner),
                None => kept.clone() * steps.unsqueeze_dim::<3>(1),
            },
            momentum_into_weights: from_buffers
                .into_iter()
                .map(|inner| apply(&kept, inner))
                .collect(),
            weights_kept,
            momentum_into_momentum,
            gradient_into_momentum,
        }
    }
}

/// The last row of each matrix, `[memories, tokens]`.
pub(crate) fn last_row(matrix: Tensor<3>) -> Tensor<2> {
    let [memories, rows, columns] = matrix.dims();
    matrix.narrow(1, rows - 1, 1).reshape([memories, columns])
}

/// `P[t, s] = product of decay_j for s < j <= t`, zero above the diagonal.
///
/// Row by row, `P[t] = decay_t P[t-1] + e_t`: exact for a decay of zero, where quotients
/// of running products divide by zero and logarithms need a floor.
pub(crate) fn products(decay: &Tensor<2>) -> Tensor<3> {
    let [memories, tokens] = decay.dims();
    let options = (&decay.device(), decay.dtype());
    let mut rows: Vec<Tensor<2>> = Vec::with_capacity(tokens);
    for token in 0..tokens {
        let mut row: Vec<Tensor<2>> = Vec::new();
        if let Some(before) = rows.last() {
            row.push(before.clone().narrow(1, 0, token) * decay.clone().narrow(1, token, 1));
        }
        row.push(Tensor::ones([memories, 1], options));
        if token + 1 < tokens {
            row.push(Tensor::zeros([memories, tokens - token - 1], options));
        }
        rows.push(Tensor::cat(row, 1));
    }
    Tensor::stack(rows, 1)
}

/// `product of decay_j for j <= t`, `[memories, tokens]`.
fn carried(products: &Tensor<3>, decay: &Tensor<2>) -> Tensor<2> {
    let [memories, tokens, _] = products.dims();
    products.clone().narrow(2, 0, 1).reshape([memories, tokens]) * decay.clone().narrow(1, 0, 1)
}

fn apply(matrix: &Tensor<3>, column: Tensor<2>) -> Tensor<2> {
    let [memories, tokens] = column.dims();
    matrix
        .clone()
        .matmul(column.unsqueeze_dim::<3>(2))
        .reshape([memories, tokens])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::host_floats;
    use burn::tensor::Device;

    #[test]
    fn products_follow_the_definition_also_through_zero() {
        let decay = Tensor::<2>::from_data([[0.5, 0.0, 0.25]], &Device::flex());
        let expected = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.25, 1.0];
        assert_eq!(host_floats(products(&decay)), expected);
        assert_eq!(
            host_floats(carried(&products(&decay), &decay)),
            [0.5, 0.0, 0.0]
        );
    }

    #[test]
    fn second_order_momentum_follows_the_recurrence() {
        // One number instead of a tensor, gradient 1 at both tokens.
        let device = Device::flex();
        let of = |values: [[f32; 2]; 1]| Tensor::<2>::from_data(values, &device);
        let coefficients = Coefficients::new(
            of([[1.0, 2.0]]),
            &[of([[0.5, 0.5]]), of([[0.25, 0.25]])],
            &of([[0.5, 0.5]]),
        );
        // S1: -1, -2.5.  S2: -1, -2.75.  W: -1, -3.25.
        let after: f32 = host_floats(last_row(coefficients.gradient_into_weights))
            .iter()
            .sum();
        assert_eq!(after, 3.25);
        let second: f32 = host_floats(coefficients.gradient_into_momentum[1].clone())
            .iter()
            .sum();
        assert_eq!(second, 2.75);
        // S1_0 = 1 alone: S1 is 0.5, 0.25; S2 0.5, 0.375; W 0.5, 0.625.
        assert_eq!(
            host_floats(coefficients.momentum_into_weights[0].clone()),
            [0.5, 0.625]
        );
    }
}
