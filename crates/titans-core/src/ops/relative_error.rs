//! How far predictions are from values.

use burn::tensor::Tensor;

/// The largest `||error|| / ||value||` that is reported, however small the value.
pub const LARGEST_RELATIVE_ERROR: f32 = 1e3;

/// `||error|| / ||value||` from the norms.
pub(crate) fn relative(error: f32, value: f32) -> f32 {
    error
        / value
            .max(error / LARGEST_RELATIVE_ERROR)
            .max(f32::MIN_POSITIVE)
}

/// `||row||`.
pub(super) fn norm(row: &[f32]) -> f32 {
    row.iter().map(|x| x * x).sum::<f32>().sqrt()
}

/// How far a prediction is from a value, `||prediction - value|| / ||value||`, at most 1000:
/// what the surprise gate compares with its threshold.
pub fn relative_error(prediction: &[f32], value: &[f32]) -> f32 {
    let norm = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|x| x * x).sum::<f32>().sqrt();
    let mut error = prediction.iter().zip(value).map(|(p, v)| p - v);
    relative(norm(&mut error), norm(&mut value.iter().copied()))
}

/// `||prediction - value|| / ||value||` of each token, `[memories, tokens]`.
pub(crate) fn relative_errors(prediction: Tensor<3>, values: Tensor<3>) -> Tensor<2> {
    let error = root(energy(prediction - values.clone()));
    let size = root(energy(values)).max_pair(error.clone() / f64::from(LARGEST_RELATIVE_ERROR));
    error / size.clamp_min(f32::MIN_POSITIVE)
}

/// Sum of squares of each row, `[memories, tokens]`.
pub(crate) fn energy(rows: Tensor<3>) -> Tensor<2> {
    let [memories, count, _] = rows.dims();
    (rows.clone() * rows).sum_dim(2).reshape([memories, count])
}

/// Square root whose derivative at zero is zero and not infinite.
pub(crate) fn root<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let zero = x.clone().equal_elem(0.0);
    x.mask_fill(zero.clone(), 1.0).sqrt().mask_fill(zero, 0.0)
}
