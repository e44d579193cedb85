//! How much of what is in the weights after an update.

/// How weights and momenta after an update are made from those before it and from the
/// gradients `g_i` of its tokens.
///
/// ```text
/// S1_t = momentum_decay_t S1_(t-1) - step_t g_t      and so on for a second buffer
/// W_t  = retention_t W_(t-1) + S_t
///
/// W_T  = weights_kept W_0 + sum_k momentum_into_weights[k] S^k_0
///        - sum_i gradient_into_weights[i] step_i g_i
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct AtEnd {
    /// How much of the weights is kept.
    pub weights_kept: f32,
    /// How much of each buffer is in the weights.
    pub momentum_into_weights: Vec<f32>,
    /// How much of each token's step is in the weights.
    pub gradient_into_weights: Vec<f32>,
    /// `[j][k]`: how much of buffer k is in buffer j, `k <= j`.
    pub momentum_into_momentum: Vec<Vec<f32>>,
    /// How much of each token's step is in buffer j.
    pub gradient_into_momentum: Vec<Vec<f32>>,
}

impl AtEnd {
    /// Goes through the stages from the last to the first: what reaches a stage at token `t`
    /// is in the end result as often as what it becomes there and at every later token.
    ///
    /// # Panics
    /// If there are no tokens.
    pub fn new(momentum_decays: &[&[f32]], retention: &[f32]) -> Self {
        let (weights_kept, gradient_into_weights, momentum_into_weights) =
            into_the_end(momentum_decays, retention);
        let mut momentum_into_momentum = Vec::new();
        let mut gradient_into_momentum = Vec::new();
        for (buffer, decay) in momentum_decays.iter().enumerate() {
            let (kept, gradient, mut momenta) = into_the_end(&momentum_decays[..buffer], decay);
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

    /// Buffers of momentum.
    pub(crate) fn orders(&self) -> usize {
        self.gradient_into_momentum.len()
    }
}

/// What of its own start, of each step and of each earlier buffer is in the last of some
/// stages at the end; `decay` is its own, `before` are those of the stages before it.
fn into_the_end(before: &[&[f32]], decay: &[f32]) -> (f32, Vec<f32>, Vec<f32>) {
    let mut reaches = vec![0.0; decay.len()];
    reaches[decay.len() - 1] = 1.0;
    scan_back(decay, &mut reaches);
    let kept = decay[0] * reaches[0];
    let mut momenta = Vec::new();
    for decay in before.iter().rev() {
        scan_back(decay, &mut reaches);
        momenta.push(decay[0] * reaches[0]);
    }
    momenta.reverse();
    (kept, reaches, momenta)
}

/// `c_t = input_t + decay_(t+1) c_(t+1)`, in place; exact through decays of zero.
fn scan_back(decay: &[f32], values: &mut [f32]) {
    let mut later = 0.0;
    for (token, value) in values.iter_mut().enumerate().rev() {
        if let Some(decay) = decay.get(token + 1) {
            *value += decay * later;
        }
        later = *value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_where_the_recurrence_ends() {
        let decays = [[0.5_f32, 0.0, 0.25], [0.75, 0.5, 1.0]];
        let retention = [0.5_f32, 0.875, 0.25];
        let steps = [1.0_f32, -2.0, 0.5];
        for orders in 0..=2 {
            let (mut weights, mut momenta) = (3.0_f32, [5.0_f32, 7.0]);
            for token in 0..3 {
                let mut moved = -steps[token];
                for (momentum, decays) in momenta.iter_mut().zip(&decays).take(orders) {
                    *momentum = decays[token] * *momentum + moved;
                    moved = *momentum;
                }
                weights = retention[token] * weights + moved;
            }
            let views: Vec<&[f32]> = decays[..orders].iter().map(|d| d.as_slice()).collect();
            let at_end = AtEnd::new(&views, &retention);
            let sum = |shares: &[f32], of: &[f32]| -> f32 {
                shares.iter().zip(of).map(|(share, of)| share * of).sum()
            };
            let found = at_end.weights_kept * 3.0 + sum(&at_end.momentum_into_weights, &[5.0, 7.0])
                - sum(&at_end.gradient_into_weights, &steps);
            assert!((found - weights).abs() < 1e-6, "{found}, {weights}");
            for (order, momentum) in momenta.iter().enumerate().take(orders) {
                let found = sum(&at_end.momentum_into_momentum[order], &[5.0, 7.0])
                    - sum(&at_end.gradient_into_momentum[order], &steps);
                assert!((found - momentum).abs() < 1e-6);
            }
        }
    }
}
