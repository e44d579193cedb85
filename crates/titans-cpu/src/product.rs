//! Matrix products: in f32 by one call of the `gemm` crate, in bf16 by this crate's own. `unsafe`
//! is here, around that call, and in `bf16/native`.

use crate::bf16::{self, Change, RightFactor};
use crate::matrix::Matrix;
use crate::simd::{Loop, sum_of, vectorised};

/// Longest sum that is one chain of multiply-adds. `gemm` cuts no sum of this length, so
/// that a longer one is cut where we cut it, whatever the shape and the caches.
const CHAIN: usize = 512;

/// To which type the operands of matrix products are rounded. Sums are f32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Products {
    /// Not rounded.
    #[default]
    F32,
    /// Eight bits of mantissa, with the same bits on every machine. Errors and gradients of fewer
    /// than four tokens stay in f32: what they take is reading the weights, which are f32.
    Bf16,
}

impl Products {
    /// Whether this machine has instructions for them: of bf16 the vector instructions of
    /// AVX512-BF16. Without them the same numbers take several times as long.
    pub fn are_native(self) -> bool {
        match self {
            Self::F32 => true,
            Self::Bf16 => bf16::is_native(),
        }
    }
}

/// `output = left @ right`: each number is one chain of multiply-adds per [`CHAIN`] terms, in
/// their order, whatever rows stand beside it.
pub(crate) fn multiply(
    products: Products,
    left: Matrix<'_>,
    right: Matrix<'_>,
    output: &mut [f32],
) {
    assert_eq!(output.len(), left.rows * right.columns);
    if products == Products::Bf16 {
        return bf16::product(left, right, output, Change::Set);
    }
    let stands_alone = left.rows == 1 && right.column_stride == 1 && has_fused_multiply_add();
    let blocks = left.columns.div_ceil(CHAIN).max(1);
    for block in 0..blocks {
        let first = left.columns * block / blocks;
        let count = left.columns * (block + 1) / blocks - first;
        let left = left.part(0, left.rows, first, count);
        let right = right.part(first, count, 0, right.columns);
        let adds = block > 0;
        if stands_alone || right.columns == 1 || count <= 2 {
            chains(left, right, output, adds);
        } else if left.rows == 1 {
            // Two rows, because the library has another way, and other bits, for one.
            let twice: Vec<f32> = (0..2 * count)
                .map(|at| left.data[at % count * left.column_stride])
                .collect();
            let mut both = output.repeat(2);
            let scale = if adds { Some(1.0) } else { None };
            call(Matrix::new(&twice, count), right, &mut both, scale, 1.0);
            output.copy_from_slice(&both[..right.columns]);
        } else {
            let scale = if adds { Some(1.0) } else { None };
            call(left, right, output, scale, 1.0);
        }
    }
}

/// Rows below which a product is not worth the library's packing.
const FEW: usize = 4;

/// `output = left @ right^T`; of few rows, dot products of f32. The bits of a row may depend on
/// whether there are fewer than [`FEW`].
pub(crate) fn multiply_transposed(
    products: Products,
    left: Matrix<'_>,
    right: Matrix<'_>,
    output: &mut [f32],
) {
    assert!(left.columns == right.columns && output.len() == left.rows * right.rows);
    if left.rows >= FEW {
        return multiply(products, left, right.transposed(), output);
    }
    assert!(left.column_stride == 1 && right.column_stride == 1);
    for (row, output) in output.chunks_exact_mut(right.rows).enumerate() {
        let left = &left.data[row * left.row_stride..][..left.columns];
        vectorised(Loop(
            #[inline(always)]
            || {
                for (at, output) in output.iter_mut().enumerate() {
                    let right = &right.data[at * right.row_stride..][..left.len()];
                    *output = sum_of(left, right, |x, y| x * y);
                }
            },
        ));
    }
}

/// The right factor of outer products that share it.
pub(crate) struct Shared<'a> {
    right: Matrix<'a>,
    laid_out: Option<RightFactor>,
}

impl<'a> Shared<'a> {
    /// Of at most [`CHAIN`] rows; of few, the products are made in f32.
    pub(crate) fn new(products: Products, right: Matrix<'a>) -> Self {
        let is_rounded = products == Products::Bf16 && right.rows >= FEW;
        Self {
            right,
            laid_out: is_rounded.then(|| RightFactor::new(right)),
        }
    }
}

/// `output -= left^T @ right`, a sum over the rows of both.
pub(crate) fn subtract_outer(left: Matrix<'_>, shared: &Shared<'_>, output: &mut [f32]) {
    let right = shared.right;
    assert_eq!(left.rows, right.rows);
    if let Some(right) = &shared.laid_out {
        return right.multiplied(left.transposed(), output, Change::Subtract);
    }
    if left.rows >= FEW {
        return call(left.transposed(), right, output, Some(1.0), -1.0);
    }
    assert!(left.is_whole() && right.is_whole() && right.column_stride == 1);
    assert_eq!(output.len(), left.columns * right.columns);
    for row in 0..left.rows {
        let factors = &right.data[row * right.row_stride..][..right.columns];
        vectorised(Loop(
            #[inline(always)]
            || {
                for (at, output) in output.chunks_exact_mut(right.columns).enumerate() {
                    let factor = -left.data[row * left.row_stride + at * left.column_stride];
                    for (output, number) in output.iter_mut().zip(factors) {
                        *output = factor.mul_add(*number, *output);
                    }
                }
            },
        ));
    }
}

/// `output = kept output + scale left @ right`; without `kept`, what was there is not read.
fn call(left: Matrix<'_>, right: Matrix<'_>, output: &mut [f32], kept: Option<f32>, scale: f32) {
    assert!(left.is_whole() && right.is_whole() && left.columns == right.rows);
    assert_eq!(output.len(), left.rows * right.columns);
    let stride = |stride: usize| isize::try_from(stride).expect("a slice is smaller than that");
    // SAFETY: every element of both factors lies in its slice, as just checked; the output is
    // a slice of its own, exactly as large as the product, row-major.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            output.as_mut_ptr(),
            1,
            stride(right.columns),
            kept.is_some(),
            left.data.as_ptr(),
            stride(left.column_stride),
            stride(left.row_stride),
            right.data.as_ptr(),
            stride(right.column_stride),
            stride(right.row_stride),
            kept.unwrap_or(0.0),
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// The product as `gemm` sums it, row by row of the right factor: one pass over it.
fn chains(left: Matrix<'_>, right: Matrix<'_>, output: &mut [f32], adds: bool) {
    let columns = right.columns;
    let mut sums = vec![0.0_f32; columns];
    for (row, output) in output.chunks_exact_mut(columns).enumerate() {
        let factors = |at: usize| left.data[row * left.row_stride + at * left.column_stride];
        let terms = |at: usize| {
            let row = &right.data[at * right.row_stride..];
            &row[..columns.min(row.len())]
        };
        vectorised(Loop(
            #[inline(always)]
            || {
                sums.fill(0.0);
                if right.column_stride != 1 {
                    for (column, sum) in sums.iter_mut().enumerate() {
                        for at in 0..right.rows {
                            *sum =
                                factors(at).mul_add(terms(at)[column * right.column_stride], *sum);
                        }
                    }
                } else {
                    // Four terms for one load and store of the sums.
                    let fours = right.rows / 4 * 4;
                    for at in (0..fours).step_by(4) {
                        let [a, b, c, d] = [0, 1, 2, 3].map(|i| factors(at + i));
                        let weights = (terms(at).iter().zip(terms(at + 1)))
                            .zip(terms(at + 2).iter().zip(terms(at + 3)));
                        for (sum, ((w, x), (y, z))) in sums.iter_mut().zip(weights) {
                            *sum = d.mul_add(*z, c.mul_add(*y, b.mul_add(*x, a.mul_add(*w, *sum))));
                        }
                    }
                    for at in fours..right.rows {
                        let factor = factors(at);
                        for (sum, weight) in sums.iter_mut().zip(terms(at)) {
                            *sum = factor.mul_add(*weight, *sum);
                        }
                    }
                }
                for (output, sum) in output.iter_mut().zip(&sums) {
                    *output = if adds { *output + sum } else { *sum };
                }
            },
        ));
    }
}

/// Whether this machine multiplies and adds with one rounding, as `gemm` then does: it looks at
/// the processor itself, whatever level this crate's own loops are told to take.
fn has_fused_multiply_add() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        std::is_x86_feature_detected!("fma") && std::is_x86_feature_detected!("avx2")
    }
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
    {
        cfg!(target_arch = "aarch64")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, salt: usize) -> Vec<f32> {
        let wave = |at: usize| ((at * 37 + salt * 11) as f32 * 0.61).sin();
        (0..count).map(wave).collect()
    }

    fn product(rows: usize, inner: usize, columns: usize) -> Vec<f32> {
        let (left, right) = (numbers(rows * inner, 1), numbers(inner * columns, 2));
        let mut output = vec![f32::NAN; rows * columns];
        let right = Matrix::new(&right, columns);
        multiply(Products::F32, Matrix::new(&left, inner), right, &mut output);
        output
    }

    #[test]
    fn a_row_does_not_depend_on_the_rows_beside_it() {
        for inner in [1, 2, 3, 64, 511, 512, 513, 1100] {
            for columns in [1, 2, 7, 16, 48, 65, 200] {
                let all = product(130, inner, columns);
                for rows in [1, 2, 3, 4, 7, 16, 31, 64, 65, 100] {
                    let few = product(rows, inner, columns);
                    assert_eq!(
                        few,
                        all[..rows * columns],
                        "{rows} rows of {inner} into {columns}"
                    );
                }
            }
        }
    }

    #[test]
    fn products_are_those_of_the_definition() {
        for (rows, inner, columns) in [(1, 1, 1), (3, 5, 2), (17, 130, 33), (40, 700, 19)] {
            let (left, right) = (numbers(rows * inner, 1), numbers(inner * columns, 2));
            let found = product(rows, inner, columns);
            let transposed: Vec<f32> = (0..columns * inner)
                .map(|at| right[at % inner * columns + at / inner])
                .collect();
            let mut by_transpose = vec![f32::NAN; rows * columns];
            let view = Matrix::new(&transposed, inner);
            let rows_of_left = Matrix::new(&left, inner);
            multiply_transposed(Products::F32, rows_of_left, view, &mut by_transpose);
            let mut outer = vec![1.0; inner * columns];
            let seconds = numbers(rows * columns, 3);
            let seconds_of_all = Shared::new(Products::F32, Matrix::new(&seconds, columns));
            subtract_outer(Matrix::new(&left, inner), &seconds_of_all, &mut outer);
            for row in 0..rows {
                for column in 0..columns {
                    let term = |at: usize| left[row * inner + at] * right[at * columns + column];
                    let expected: f32 = (0..inner).map(term).sum();
                    for found in [&found, &by_transpose] {
                        let error = (found[row * columns + column] - expected).abs();
                        assert!(error < 1e-4, "{error}");
                    }
                }
            }
            for row in 0..inner {
                for column in 0..columns {
                    let term = |at: usize| left[at * inner + row] * seconds[at * columns + column];
                    let expected = 1.0 - (0..rows).map(term).sum::<f32>();
                    assert!((outer[row * columns + column] - expected).abs() < 1e-4);
                }
            }
        }
    }
}
