//! The coefficients of the closed form: how much of what is in the weights after an update,
//! and after each of its tokens.

use burn::tensor::Tensor;

use crate::ops::MemoryOps;

/// How the weights and momenta after an update are made from those before it and from the
/// gradients of its tokens (`docs/chunkwise.md`).
///
/// ```text
/// W_T = weights_kept W_0 + sum_k momentum_into_weights[k] S^k_0
///       - sum_i gradient_into_weights_i g_i
/// ```
///
/// and likewise for every momentum buffer.
#[derive(Clone, Debug)]
pub struct UpdateCoefficients {
    /// How much of the weights is kept, `[memories, 1]`.
    pub weights_kept: Tensor<2>,
    /// How much of each buffer is in the weights, one `[memories, 1]` per buffer.
    pub momentum_into_weights: Vec<Tensor<2>>,
    /// How much of each gradient is in the weights, `[memories, tokens]`, steps included.
    pub gradient_into_weights: Tensor<2>,
    /// `[j][k]`: how much of buffer k is in buffer j at the end, `[memories, 1]`, `k <= j`.
    pub momentum_into_momentum: Vec<Vec<Tensor<2>>>,
    /// How much of each gradient is in buffer j at the end, `[memories, tokens]`, steps
    /// included.
    pub gradient_into_momentum: Vec<Tensor<2>>,
}

impl UpdateCoefficients {
    /// By tensor operations. Goes through the stages from the last to the first: what reaches a stage at token `t`
    /// is in the end result as often as what it becomes there and at every later token.
    ///
    /// # Shapes
    /// - `steps`, `retention`, each of `momentum_decays`: `[memories, tokens]`
    pub(crate) fn new(
        steps: &Tensor<2>,
        momentum_decays: &[Tensor<2>],
        retention: &Tensor<2>,
    ) -> Self {
        let (weights_kept, gradient_into_weights, momentum_into_weights) =
            into_the_end(steps, momentum_decays, retention);
        let mut momentum_into_momentum = Vec::new();
        let mut gradient_into_momentum = Vec::new();
        for (buffer, decay) in momentum_decays.iter().enumerate() {
            let (kept, gradient, mut momenta) =
                into_the_end(steps, &momentum_decays[..buffer], decay);
            momenta.push(kept);
            momentum_into_momentum.push(momenta);
            gradient_into_momentum.push(gradient);
        }
        Self {
            weights_kept,
            momentum_into_weights,
            gradient_into_weights,
            momentum_into_momentum,
            gradient_into_momentum,
        }
    }
}

/// What of its own start, of each gradient and of each earlier buffer is in the last of some
/// stages at the end; `decay` is its own, `before` are those of the stages before it.
fn into_the_end(
    steps: &Tensor<2>,
    before: &[Tensor<2>],
    decay: &Tensor<2>,
) -> (Tensor<2>, Tensor<2>, Vec<Tensor<2>>) {
    let [memories, tokens] = steps.dims();
    let options = (&steps.device(), steps.dtype());
    let first = |of_each: &Tensor<2>| of_each.clone().narrow(1, 0, 1);
    let only_last = match tokens {
        1 => Tensor::ones([memories, 1], options),
        _ => Tensor::cat(
            vec![
                Tensor::zeros([memories, tokens - 1], options),
                Tensor::ones([memories, 1], options),
            ],
            1,
        ),
    };
    let mut reaches = scan_back(decay, only_last);
    let kept = first(decay) * first(&reaches);
    let mut momenta = Vec::new();
    for decay in before.iter().rev() {
        reaches = scan_back(decay, reaches);
        momenta.push(first(decay) * first(&reaches));
    }
    momenta.reverse();
    (kept, reaches * steps.clone(), momenta)
}

/// `c_t = input_t + decay_(t+1) c_(t+1)` in logarithmically many steps, exact through zeros.
fn scan_back(decay: &Tensor<2>, input: Tensor<2>) -> Tensor<2> {
    let [memories, tokens] = input.dims();
    let options = (&input.device(), input.dtype());
    let from = |of_each: &Tensor<2>, distance: usize| {
        let later = of_each.clone().narrow(1, distance, tokens - distance);
        Tensor::cat(vec![later, Tensor::zeros([memories, distance], options)], 1)
    };
    if tokens == 1 {
        return input;
    }
    let (mut factor, mut sum) = (from(decay, 1), input);
    let mut distance = 1;
    while distance < tokens {
        sum = sum.clone() + factor.clone() * from(&sum, distance);
        factor = factor.clone() * from(&factor, distance);
        distance *= 2;
    }
    sum
}

/// `c_t = decay_t c_(t-1) + input_t` from `c_0 = before`, in logarithmically many steps, exact
/// through zeros.
///
/// # Shapes
/// - `before`: `[memories, 1]`
/// - `decay`, `input`: `[memories, tokens]`
pub(crate) fn scan(before: &Tensor<2>, decay: &Tensor<2>, input: &Tensor<2>) -> Tensor<2> {
    let [memories, tokens] = input.dims();
    let options = (&input.device(), input.dtype());
    let earlier = |of_each: Tensor<2>, distance: usize, first: Tensor<2>| {
        Tensor::cat(vec![first, of_each.narrow(1, 0, tokens - distance)], 1)
    };
    let (mut factor, mut sum) = (decay.clone(), input.clone());
    let mut distance = 1;
    while distance < tokens {
        let ones = Tensor::ones([memories, distance], options);
        let zeros = Tensor::zeros([memories, distance], options);
        sum = sum.clone() + factor.clone() * earlier(sum, distance, zeros);
        factor = factor.clone() * earlier(factor, distance, ones);
        distance *= 2;
    }
    sum + factor * before.clone()
}

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
    use crate::ops::{TensorOps, host_floats};
    use burn::tensor::{Device, TensorData};

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
    fn a_scan_is_the_recurrence_also_through_zero() {
        let device = Device::flex();
        for tokens in [1, 2, 3, 7, 33] {
            let of = |salt: usize, count: usize| -> Vec<f32> {
                let wave = |at: usize| ((at * 7 + salt * 3) as f32).sin();
                (0..2 * count)
                    .map(|at| if (at + salt) % 5 == 4 { 0.0 } else { wave(at) })
                    .collect()
            };
            let (before, decay, input) = (of(1, 1), of(2, tokens), of(3, tokens));
            let tensor = |values: &[f32], count| -> Tensor<2> {
                Tensor::from_data(TensorData::new(values.to_vec(), [2, count]), &device)
            };
            let found = host_floats(scan(
                &tensor(&before, 1),
                &tensor(&decay, tokens),
                &tensor(&input, tokens),
            ));
            for (memory, found) in found.chunks_exact(tokens).enumerate() {
                let mut carried = before[memory];
                for (token, found) in found.iter().enumerate() {
                    let at = memory * tokens + token;
                    carried = decay[at] * carried + input[at];
                    let error = (found - carried).abs();
                    assert!(error < 1e-5, "{tokens} tokens: {found}, {carried}");
                }
            }
        }
    }

    #[test]
    fn second_order_momentum_follows_the_recurrence() {
        // One number instead of a tensor, gradient 1 at both tokens.
        let device = Device::flex();
        let of = |values: [[f32; 2]; 1]| Tensor::<2>::from_data(values, &device);
        let decays = [of([[0.5, 0.5]]), of([[0.25, 0.25]])];
        let at_end = UpdateCoefficients::new(&of([[1.0, 2.0]]), &decays, &of([[0.5, 0.5]]));
        // S1: -1, -2.5.  S2: -1, -2.75.  W: -1, -3.25.
        let sum = |of_each: &Tensor<2>| host_floats(of_each.clone()).iter().sum::<f32>();
        assert_eq!(sum(&at_end.gradient_into_weights), 3.25);
        assert_eq!(sum(&at_end.gradient_into_momentum[1]), 2.75);
        // S1_0 = 1 alone: S1 is 0.5, 0.25; S2 0.5, 0.375; W 0.5, 0.625.
        assert_eq!(sum(&at_end.momentum_into_momentum[0][0]), 0.25);
        assert_eq!(sum(&at_end.momentum_into_momentum[1][0]), 0.375);
        assert_eq!(sum(&at_end.momentum_into_weights[0]), 0.625);
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
