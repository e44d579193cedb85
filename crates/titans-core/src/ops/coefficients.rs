//! The coefficients of the closed form: how much of what is in the weights after an update.

use burn::tensor::Tensor;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::host_floats;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn products_follow_the_definition_also_through_zero() {
        let decay = Tensor::<2>::from_data([[0.5, 0.0, 0.25]], &Device::flex());
        let expected = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.25, 1.0];
        assert_eq!(host_floats(products(&decay)), expected);
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
}
