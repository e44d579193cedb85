//! The products in plain loops, for machines without the instructions: slow and right.
//!
//! A product of two numbers of bf16 has 16 bits and is exact in f32, so that a multiplication and
//! an addition round as a fused multiply-add does, unless the product is too large or small for an
//! f32. Rows and columns for which that cannot be told take sums in f64.

use super::chain::{CHAIN, Change, chains, change_of_chain, check, is_done};
use crate::matrix::Matrix;
use crate::simd::{Loop, vectorised};

/// Columns whose sums stay in registers, with those of [`ROWS`] rows: eight vectors of AVX2.
const COLUMNS: usize = 16;
const ROWS: usize = 4;

/// As [`super::product`].
pub(super) fn product(left: Matrix<'_>, right: Matrix<'_>, output: &mut [f32], change: Change) {
    check(left);
    check(right);
    assert_eq!(left.columns, right.rows);
    assert_eq!(output.len(), left.rows * right.columns);
    if is_done(left.columns, output, change) {
        return;
    }
    for (first, count) in chains(left.columns) {
        let right = RightFactor::new(right.part(first, count, 0, right.columns));
        let left = left.part(0, left.rows, first, count);
        right.multiplied(left, output, change_of_chain(first, change));
    }
}

/// A right factor, rounded: blocks of [`COLUMNS`] columns, term by term; zeros fill up the last
/// block and an odd number of terms.
pub(crate) struct RightFactor {
    numbers: Vec<[f32; COLUMNS]>,
    /// Sizes of the numbers of each block.
    sizes: Vec<Sizes>,
    terms: usize,
    columns: usize,
}

impl RightFactor {
    pub(crate) fn new(right: Matrix<'_>) -> Self {
        check(right);
        assert!(right.rows <= CHAIN);
        let (terms, columns) = (right.rows, right.columns);
        let per_block = terms.next_multiple_of(2);
        let blocks = columns.div_ceil(COLUMNS);
        let mut numbers = vec![[0.0; COLUMNS]; blocks * per_block];
        for block in 0..blocks {
            let first = block * COLUMNS;
            let count = (columns - first).min(COLUMNS);
            for term in 0..terms {
                let to = &mut numbers[block * per_block + term][..count];
                gather(
                    right,
                    term * right.row_stride + first * right.column_stride,
                    right.column_stride,
                    to,
                );
            }
        }
        round(numbers.as_flattened_mut());
        let sizes = numbers
            .chunks(per_block.max(1))
            .map(|block| Sizes::of(block.as_flattened()));
        Self {
            sizes: sizes.collect(),
            numbers,
            terms,
            columns,
        }
    }

    /// As [`super::RightFactor::multiplied`].
    pub(crate) fn multiplied(&self, left: Matrix<'_>, output: &mut [f32], change: Change) {
        check(left);
        assert_eq!(left.columns, self.terms);
        assert_eq!(output.len(), left.rows * self.columns);
        if is_done(self.terms, output, change) {
            return;
        }
        let per_row = self.terms.next_multiple_of(2);
        let mut rows = vec![0.0; left.rows * per_row];
        for (row, to) in rows.chunks_exact_mut(per_row).enumerate() {
            let to = &mut to[..self.terms];
            gather(left, row * left.row_stride, left.column_stride, to);
        }
        round(&mut rows);
        let sizes: Vec<Sizes> = rows.chunks_exact(per_row).map(Sizes::of).collect();
        let outputs = output.chunks_mut(ROWS * self.columns);
        let groups = rows.chunks(ROWS * per_row).zip(sizes.chunks(ROWS));
        for (output, (rows, sizes)) in outputs.zip(groups) {
            for (block, right) in self.numbers.chunks_exact(per_row).enumerate() {
                let plain = (sizes.iter()).all(|row| row.are_plain_beside(self.sizes[block]));
                let mut sums = [[0.0; COLUMNS]; ROWS];
                add_up(rows, per_row, right, plain, &mut sums);
                let first = block * COLUMNS;
                let count = (self.columns - first).min(COLUMNS);
                for (sums, output) in sums.iter().zip(output.chunks_exact_mut(self.columns)) {
                    for (number, sum) in output[first..][..count].iter_mut().zip(sums) {
                        match change {
                            Change::Set => *number = *sum,
                            Change::Add => *number += sum,
                            Change::Subtract => *number -= sum,
                        }
                    }
                }
            }
        }
    }
}

/// Numbers of a matrix, from one on, a stride apart.
fn gather(matrix: Matrix<'_>, first: usize, stride: usize, to: &mut [f32]) {
    if stride == 1 {
        to.copy_from_slice(&matrix.data[first..][..to.len()]);
        return;
    }
    for (at, to) in to.iter_mut().enumerate() {
        *to = matrix.data[first + at * stride];
    }
}

fn round(numbers: &mut [f32]) {
    vectorised(Loop(
        #[inline(always)]
        || {
            for number in numbers.iter_mut() {
                *number = rounded(*number);
            }
        },
    ));
}

/// To bf16 and back: to nearest, ties to even; under 2^-126, and that is before rounding, to zero.
#[inline(always)]
pub(super) fn rounded(number: f32) -> f32 {
    const QUIET: u32 = 0x0040_0000;
    let bits = number.to_bits();
    let half_and_odd = 0x7fff + (bits >> 16 & 1);
    let nearest = bits.wrapping_add(half_and_odd) & 0xffff_0000;
    // An addition could carry the digits of NaN over into another number.
    let of_nan = bits & 0xffff_0000 | QUIET;
    let bits = if number.is_nan() { of_nan } else { nearest };
    let is_small = number.abs() < f32::MIN_POSITIVE;
    f32::from_bits(if is_small { bits & 0x8000_0000 } else { bits })
}

/// How large some rounded numbers are.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// But for zeros.
    smallest: f32,
    largest: f32,
}

impl Sizes {
    fn of(numbers: &[f32]) -> Self {
        let (mut smallest, mut largest) = ([f32::INFINITY; COLUMNS], [0.0_f32; COLUMNS]);
        vectorised(Loop(
            #[inline(always)]
            || {
                let mut note = |numbers: &[f32]| {
                    let sizes = smallest.iter_mut().zip(&mut largest);
                    for ((smallest, largest), number) in sizes.zip(numbers) {
                        let size = number.abs();
                        let but_zero = if size == 0.0 { f32::INFINITY } else { size };
                        *smallest = smallest.min(but_zero);
                        *largest = largest.max(size);
                    }
                };
                let (groups, rest) = numbers.as_chunks::<COLUMNS>();
                for group in groups {
                    note(group);
                }
                note(rest);
            },
        ));
        Self {
            smallest: smallest.into_iter().fold(f32::INFINITY, f32::min),
            largest: largest.into_iter().fold(0.0, f32::max),
        }
    }

    /// Whether every product with a number of the others is zero or between 2^-100 and 2^126. Such
    /// a product is exact in f32; and a sum with it is not under 2^-126, but for zero: unless it
    /// is half of the product at least, the sum before it was of the product's size, and both are
    /// multiples of 2^-124.
    fn are_plain_beside(self, others: Self) -> bool {
        const SMALLEST: f32 = f32::from_bits((127 - 100) << 23);
        const LARGEST: f32 = f32::from_bits((127 + 126) << 23);
        self.smallest * others.smallest >= SMALLEST && self.largest * others.largest <= LARGEST
    }
}

/// The sums of the products of [`ROWS`] rows, or fewer, with a block.
fn add_up(
    rows: &[f32],
    per_row: usize,
    right: &[[f32; COLUMNS]],
    plain: bool,
    sums: &mut [[f32; COLUMNS]; ROWS],
) {
    let count = rows.len() / per_row;
    let row = |at: usize| &rows[at * per_row..][..per_row];
    let all: [&[f32]; ROWS] = std::array::from_fn(|at| row(at.min(count - 1)));
    vectorised(Loop(
        #[inline(always)]
        || {
            if count == ROWS {
                *sums = match plain {
                    true => chain(all, right, plain_step),
                    false => chain(all, right, exact_step),
                };
                return;
            }
            for (sums, row) in sums.iter_mut().zip(&all[..count]) {
                [*sums] = match plain {
                    true => chain([*row], right, plain_step),
                    false => chain([*row], right, exact_step),
                };
            }
        },
    ));
}

/// Pair by pair of terms, the second before the first.
#[inline(always)]
fn chain<const R: usize>(
    rows: [&[f32]; R],
    right: &[[f32; COLUMNS]],
    step: impl Fn(f32, f32, f32) -> f32,
) -> [[f32; COLUMNS]; R] {
    let mut sums = [[0.0; COLUMNS]; R];
    let (pairs, _) = right.as_chunks::<2>();
    for (pair, columns) in pairs.iter().enumerate() {
        for of_pair in [1, 0] {
            for (sums, row) in sums.iter_mut().zip(rows) {
                let factor = row[2 * pair + of_pair];
                for (sum, number) in sums.iter_mut().zip(&columns[of_pair]) {
                    *sum = step(*sum, factor, *number);
                }
            }
        }
    }
    sums
}

/// Where the product [is plain](Sizes::are_plain_beside).
#[inline(always)]
fn plain_step(sum: f32, x: f32, y: f32) -> f32 {
    sum + x * y
}

/// `sum + x y` of numbers of which `x` and `y` have 8 bits, rounded once; numbers under 2^-126 after
/// rounding become zero.
///
/// In f64 the product is exact. Where the sum is not, its parts lie so far apart that rounding it
/// to 53 bits does not bring it to the middle between two numbers of f32.
#[inline(always)]
fn exact_step(sum: f32, x: f32, y: f32) -> f32 {
    /// The middle between 2^-126 and the number of 24 bits below it, which is rounded up.
    const LEAST: f64 = f32::MIN_POSITIVE as f64 * (1.0 - 1.0 / (1_u32 << 25) as f64);
    let exact = f64::from(sum) + f64::from(x) * f64::from(y);
    let rounded = exact as f32;
    if exact.abs() < LEAST {
        0.0_f32.copysign(rounded)
    } else {
        rounded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any bits, and numbers whose products and sums are near the ends of what an f32 holds.
    fn words() -> impl FnMut() -> u32 {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 16) as u32
        }
    }

    fn with_exponent(word: u32, exponent: u32) -> f32 {
        f32::from_bits(word & 0x807f_ffff | exponent << 23)
    }

    #[test]
    fn a_step_is_a_fused_multiply_add_whose_small_results_are_zero() {
        let mut word = words();
        for case in 0..1_500_000_u32 {
            let [a, b, c] = [word(), word(), word()];
            let [x, y, sum] = match case % 5 {
                0 => [a, b, c].map(f32::from_bits),
                1 => [
                    with_exponent(a, 58 + a / 7 % 10),
                    with_exponent(b, 58 + b / 7 % 10),
                    with_exponent(c, c / 7 % 14),
                ],
                2 => [
                    with_exponent(a, 184 + a / 7 % 10),
                    with_exponent(b, 184 + b / 7 % 10),
                    with_exponent(c, 243 + c / 7 % 12),
                ],
                // A sum of the size of the product, or half a unit of one of them away.
                3 => [
                    with_exponent(a, 127),
                    with_exponent(b, 127),
                    with_exponent(c & 0x8000_0003, 100 + c / 7 % 56),
                ],
                _ => [a, b, c].map(|word| with_exponent(word, 120 + word / 7 % 14)),
            };
            let (x, y) = (rounded(x), rounded(y));
            let sum = if sum.is_subnormal() { 0.0 } else { sum };
            // With a wider range: times 2^64 where that does not overflow.
            let fused = x.mul_add(y, sum);
            let expected = if fused.abs() < 2.0 * f32::MIN_POSITIVE {
                let scale = f32::from_bits((127 + 64) << 23);
                let (smaller, larger) = if x.abs() < y.abs() { (x, y) } else { (y, x) };
                let wide = (smaller * scale).mul_add(larger, sum * scale);
                match wide.abs() < f32::MIN_POSITIVE * scale {
                    true => 0.0_f32.copysign(fused),
                    false => wide / scale,
                }
            } else {
                fused
            };
            let found = exact_step(sum, x, y);
            assert!(
                found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
                "{sum:e} + {x:e} {y:e}: {found:e}, expected {expected:e}"
            );
            let sizes = |number: f32| Sizes::of(&[number]);
            if sizes(x).are_plain_beside(sizes(y)) {
                let plain = plain_step(sum, x, y);
                assert!(plain.to_bits() == expected.to_bits() || plain.is_nan());
            }
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_of_the_two_beside() {
        let mut word = words();
        for case in 0..300_000_u32 {
            let number = match case % 3 {
                0 => f32::from_bits(word()),
                1 => f32::from_bits(word() & 0xffff_0000 | 0x8000),
                _ => f32::from_bits(word() & 0x80ff_ffff),
            };
            let found = rounded(number);
            if number.is_nan() {
                assert!(found.is_nan());
                continue;
            }
            if number.is_subnormal() {
                assert!(found == 0.0 && found.is_sign_negative() == number.is_sign_negative());
                continue;
            }
            let below = f32::from_bits(number.to_bits() & 0xffff_0000);
            let above = f32::from_bits((number.to_bits() & 0xffff_0000).wrapping_add(0x1_0000));
            // Of the largest numbers the one beside is what would be 2^128.
            let size = |number: f32| match number.is_infinite() {
                true => 2f64.powi(128).copysign(f64::from(number)),
                false => f64::from(number),
            };
            let distance = |to: f32| (size(to) - size(number)).abs();
            let is_even = below.to_bits() & 0x1_0000 == 0;
            let takes_below =
                distance(below) < distance(above) || distance(below) == distance(above) && is_even;
            let expected = match number.is_infinite() || takes_below {
                true => below,
                false => above,
            };
            assert_eq!(found.to_bits(), expected.to_bits(), "{number:e}");
        }
    }
}
