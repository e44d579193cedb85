//! The coefficients of the dual form: how much of what is in the weights after each token of
//! an update.

use burn::tensor::Tensor;

use crate::ops::MemoryOps;

/// How the weights after each token of an update are made, for reads beside the tokens.
pub(crate) struct PerToken {
    /// `[memories, tokens]`.
    pub(crate) weights_kept: Tensor<2>,
    /// One `[memories, tokens]` per buffer.
    pub(crate) momentum_into_weights: Vec<Tensor<2>>,
    /// `[memories, tokens, tokens]`, lower triangular, steps included.
    pub(crate) gradient_into_weights: Tensor<3>,
}

impl PerToken {
    /// # Shapes
    /// - `steps`, `retention`, each of `momentum_decays`: `[memories, tokens]`
    pub(crate) fn new(
        ops: &dyn MemoryOps,
        steps: Tensor<2>,
        momentum_decays: &[Tensor<2>],
        retention: &Tensor<2>,
    ) -> Self {
        // What is in the value that the next stage accumulates, after each token.
        let mut from_gradients: Option<Tensor<3>> = None;
        let mut from_buffers: Vec<Tensor<2>> = Vec::new();
        for decay in momentum_decays {
            let through = ops.running_products(decay);
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
        }
        let kept = ops.running_products(retention);
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
        }
    }
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
    use crate::ops::{TensorOps, UpdateCoefficients, host_floats};
    use burn::tensor::{Device, TensorData};

    #[test]
    fn what_is_carried_is_the_product_of_all_decays_also_through_zero() {
        let decay = Tensor::<2>::from_data([[0.5, 0.0, 0.25]], &Device::flex());
        let products = TensorOps.running_products(&decay);
        assert_eq!(host_floats(carried(&products, &decay)), [0.5, 0.0, 0.0]);
    }

    #[test]
    fn the_end_is_the_last_token() {
        let device = Device::flex();
        for tokens in [1, 2, 3, 7, 16, 33] {
            let of = |salt: usize| {
                let wave = |at: usize| ((at * 7 + salt * 3) as f32).sin().abs();
                // A gate that closes now and then.
                let value = |at: usize| {
                    if (at + salt).is_multiple_of(5) {
                        0.0
                    } else {
                        wave(at)
                    }
                };
                let values: Vec<f32> = (0..2 * tokens).map(value).collect();
                Tensor::<2>::from_data(TensorData::new(values, [2, tokens]), &device)
            };
            let (steps, decays, retention) = (of(1), [of(2), of(3)], of(4));
            let at_end = UpdateCoefficients::new(&steps, &decays, &retention);
            let each = PerToken::new(&TensorOps, steps, &decays, &retention);
            let last = |of_each: Tensor<2>| of_each.narrow(1, tokens - 1, 1);
            let last_row = each.gradient_into_weights.narrow(1, tokens - 1, 1);
            let mut pairs = vec![
                (at_end.weights_kept, last(each.weights_kept)),
                (at_end.gradient_into_weights, last_row.reshape([2, tokens])),
            ];
            let momenta = at_end.momentum_into_weights.into_iter();
            pairs.extend(momenta.zip(each.momentum_into_weights.into_iter().map(last)));
            for (found, expected) in pairs {
                for (found, expected) in host_floats(found).iter().zip(host_floats(expected)) {
                    let error = (found - expected).abs() / expected.abs().max(1.0);
                    assert!(error < 1e-5, "{tokens} tokens: {found}, {expected}");
                }
            }
        }
    }
}
