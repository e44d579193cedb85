//! How the weights and momenta after an update are made, by one launch.

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use titans_core::UpdateCoefficients;

use super::backend::DenseKernels;

/// As [`titans_core::MemoryOps::update_coefficients`], for at most two buffers of momentum.
pub(crate) fn update_coefficients(
    steps: &Tensor<2>,
    momentum_decays: &[Tensor<2>],
    retention: &Tensor<2>,
) -> UpdateCoefficients {
    let orders = momentum_decays.len();
    let (into, shares) = coefficients(steps, momentum_decays, retention);
    let gradient = |result: usize| into.clone().narrow(1, result, 1).squeeze_dim::<2>(1);
    let share = |share: usize| shares.clone().narrow(1, share, 1);
    let buffers = 0..orders;
    UpdateCoefficients {
        weights_kept: share(0),
        momentum_into_weights: buffers.clone().map(|buffer| share(1 + buffer)).collect(),
        gradient_into_weights: gradient(0),
        momentum_into_momentum: buffers
            .clone()
            .map(|buffer| match buffer {
                0 => vec![share(3)],
                _ => vec![share(4), share(5)],
            })
            .collect(),
        gradient_into_momentum: buffers.map(|buffer| gradient(1 + buffer)).collect(),
    }
}

/// Of each gradient in the weights and in the buffers, and the shares of these: see
/// [`scan::coefficients`](super::scan::coefficients).
pub(super) fn coefficients(
    steps: &Tensor<2>,
    momentum_decays: &[Tensor<2>],
    retention: &Tensor<2>,
) -> (Tensor<3>, Tensor<2>) {
    // What stands for the decay of a buffer that does not exist is not looked at.
    let decay = |order: usize| momentum_decays.get(order).unwrap_or(retention).clone();
    let (into, shares) = <Dispatch as DenseKernels>::update_coefficients(
        steps.clone().into_dispatch(),
        retention.clone().into_dispatch(),
        decay(0).into_dispatch(),
        decay(1).into_dispatch(),
        momentum_decays.len(),
    );
    (Tensor::from_dispatch(into), Tensor::from_dispatch(shares))
}
