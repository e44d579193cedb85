//! Loops with the widest vectors that this machine has, or with those that were asked for.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::level::{Level, level};

/// Runs an operation with the widest vectors that this machine has, or with those that
/// [`TITANMEM_SIMD`](crate::SIMD_VARIABLE) asks for. If the variable is not valid, with none:
/// [`simd_level`](crate::simd_level) says why.
#[inline]
pub fn vectorised<Op: WithSimd>(operation: Op) -> Op::Output {
    match level() {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        Level::Avx512 => {
            if let Some(simd) = pulp::x86::V4::try_new() {
                return Simd::vectorize(simd, operation);
            }
        }
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        Level::Avx2 => {
            if let Some(simd) = pulp::x86::V3::try_new() {
                return Simd::vectorize(simd, operation);
            }
        }
        Level::Native => return pulp::Arch::new().dispatch(operation),
        _ => {}
    }
    Simd::vectorize(pulp::Scalar, operation)
}

/// A loop of plain arithmetic, compiled once for each width of vectors.
///
/// `FnMut`, although it runs once: as an `FnOnce` the closure would be called through a
/// function that is not inlined, and its loop compiled for the narrowest vectors.
pub(crate) struct Loop<F>(pub(crate) F);

impl<R, F: FnMut() -> R> WithSimd for Loop<F> {
    type Output = R;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _simd: S) -> R {
        (self.0)()
    }
}

/// Partial sums of a row: enough to fill a vector of any machine, always as many, so that
/// the bits of a sum are the same on all of them.
const LANES: usize = 16;

/// Sum over a row of what `term` makes of each pair.
#[inline(always)]
pub(crate) fn sum_of(left: &[f32], right: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (left_groups, left_rest) = left.as_chunks::<LANES>();
    let (right_groups, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in left_groups.iter().zip(right_groups) {
        for lane in 0..LANES {
            sums[lane] += term(left[lane], right[lane]);
        }
    }
    for (lane, (left, right)) in left_rest.iter().zip(right_rest).enumerate() {
        sums[lane] += term(*left, *right);
    }
    sums.iter().sum()
}

/// Whether no number is NaN or infinite.
pub fn all_finite(numbers: &[f32]) -> bool {
    /// Numbers that are worth another thread.
    const SHARE: usize = 1 << 16;
    if numbers.len() < 2 * SHARE || rayon::current_num_threads() == 1 {
        return are_finite(numbers);
    }
    numbers.par_chunks(SHARE).all(are_finite)
}

fn are_finite(numbers: &[f32]) -> bool {
    // Zero times a finite number is zero, and NaN times anything stays NaN.
    let poison = vectorised(Loop(
        #[inline(always)]
        || sum_of(numbers, numbers, |x, _| x * 0.0),
    ));
    poison == 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_number_is_found_wherever_it_stands() {
        for length in [0, 1, 15, 16, 17, 100] {
            let mut numbers = vec![f32::MAX; length];
            assert!(all_finite(&numbers));
            for at in 0..length {
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    numbers[at] = bad;
                    assert!(!all_finite(&numbers), "{bad} at {at} of {length}");
                }
                numbers[at] = -f32::MAX;
            }
        }
    }
}
