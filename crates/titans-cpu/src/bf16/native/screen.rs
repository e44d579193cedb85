//! Which numbers of a product are large: found in bf16, computed in f32.

use std::arch::x86_64::*;
use std::fmt;

use super::lay_out::{load, transposed};
use super::lines::{LANES, MOST_FOUND, ROWS, VECTORS, WIDE};
use super::tile::{End, Tile};
use super::{LeftFactor, RightFactor, is_available, lines_of_right};
use crate::bf16::chain::CHAIN;
use crate::bf16::portable::rounded;
use crate::matrix::Matrix;
use crate::simd::sum_of;

/// Norms between which no term of a bound is lost to the smallest or largest numbers.
const NORMS: std::ops::Range<f32> = 1e-15..1e15;

/// The right factor of products of which only the large numbers are wanted.
///
/// All numbers of a row are computed of operands rounded to bf16, and the columns noted of those
/// that reach a threshold; [`exact`](Self::exact) computes these in f32, each as one chain of
/// fused multiply-adds over the terms, in their order. How far the first can be from the second
/// is [bounded](Self::error).
pub struct Screen {
    right: RightFactor,
    /// By columns: `[columns, terms]`.
    numbers: Vec<f32>,
    terms: usize,
    columns: usize,
    /// The longest column, rounded or not.
    longest: f32,
    /// The longest difference of a column from what it is rounded to.
    rounded_off: f32,
}

/// Columns that were found, for each of some rows.
#[derive(Debug, Default)]
pub struct Found {
    counts: Vec<usize>,
    columns: Vec<u32>,
}

impl Found {
    /// The columns of a row, ascending; `None` if there were too many to note.
    pub fn of(&self, row: usize) -> Option<&[u32]> {
        let count = self.counts[row];
        (count <= MOST_FOUND - LANES).then(|| &self.columns[row * MOST_FOUND..][..count])
    }
}

impl Screen {
    /// Of a row-major matrix; `None` where the machine has no instructions for bf16, or sums are
    /// longer than 512 terms, or the numbers are so small or large that nothing can be said.
    ///
    /// # Panics
    /// If there is no whole number of rows.
    pub fn new(matrix: &[f32], columns: usize) -> Option<Self> {
        let right = Matrix::new(matrix, columns);
        let terms = right.rows;
        if !is_available() || terms == 0 || terms > CHAIN || u32::try_from(columns).is_err() {
            return None;
        }
        let numbers: Vec<f32> = (0..columns * terms)
            .map(|at| matrix[at % terms * columns + at / terms])
            .collect();
        let (mut longest, mut rounded_off) = (0.0_f32, 0.0_f32);
        for column in numbers.chunks_exact(terms) {
            let [of_column, of_rounded, of_difference] = norms(column);
            longest = longest.max(of_column).max(of_rounded);
            rounded_off = rounded_off.max(of_difference);
        }
        let is_bounded = NORMS.contains(&longest) && numbers.iter().all(|x| x.is_finite());
        is_bounded.then(|| Self {
            right: RightFactor::new(right),
            numbers,
            terms,
            columns,
            longest,
            rounded_off,
        })
    }

    /// How far a number of the rounded product with a row can be from the same in f32; `None` for
    /// a row that is so short or long, or not finite, that nothing can be said.
    ///
    /// ```text
    /// |x w - x' w'| <= ||x - x'|| ||w'|| + ||x|| ||w - w'||
    /// ```
    ///
    /// with `x'` and `w'` rounded, by Cauchy and Schwarz; and each of the two sums of `n` terms is
    /// within `n 2^-24 ||x|| ||w||` of its own, which is taken twice.
    ///
    /// # Panics
    /// If the row has another length than the columns.
    pub fn error(&self, row: &[f32]) -> Option<f32> {
        assert_eq!(row.len(), self.terms);
        let [length, rounded_length, difference] = norms(row);
        let length = length.max(rounded_length);
        let of_rounding = difference * self.longest + length * self.rounded_off;
        let of_sums = 4.0 * self.terms as f32 * f32::EPSILON * length * self.longest;
        // The norms are sums of f32, too.
        NORMS
            .contains(&length)
            .then_some(1.001 * of_rounding + of_sums)
    }

    /// Notes the columns whose rounded product with a row is not less than the row's threshold.
    ///
    /// # Panics
    /// If there is not one row of as many terms for each threshold.
    pub fn find(&self, rows: &[f32], thresholds: &[f32], found: &mut Found) {
        assert_eq!(rows.len(), thresholds.len() * self.terms);
        found.counts.clear();
        found.counts.resize(thresholds.len(), 0);
        if found.columns.len() < thresholds.len() * MOST_FOUND {
            found.columns.resize(thresholds.len() * MOST_FOUND, 0);
        }
        let left = LeftFactor::new(Matrix::new(rows, self.terms));
        let mut lines = &self.right.lines.0[..];
        for from in (0..self.columns).step_by(WIDE * LANES) {
            let wide = (self.columns - from).min(WIDE * LANES);
            let of_wide = lines_of_right(self.terms, wide);
            for row in (0..left.rows).step_by(ROWS) {
                for at in (0..wide).step_by(VECTORS * LANES) {
                    // SAFETY: a screen exists only where the machine has the instructions; the
                    // left factor has the pairs of `rows` rows, the lines those of the panel, and
                    // each row a threshold, a count and room.
                    #[allow(unsafe_code)]
                    unsafe {
                        let tile = Tile {
                            left: left
                                .lines
                                .0
                                .as_ptr()
                                .cast::<u32>()
                                .add(row * left.row_stride),
                            row_stride: left.row_stride,
                            pair_stride: left.pair_stride,
                            right: lines[..of_wide].as_ptr().add(at / LANES * left.pairs),
                            pairs: left.pairs,
                            columns: (wide - at).min(VECTORS * LANES),
                            end: End::Find {
                                thresholds: thresholds.as_ptr().add(row),
                                counts: found.counts.as_mut_ptr().add(row),
                                found: found.columns.as_mut_ptr().add(row * MOST_FOUND),
                                first: (from + at) as u32,
                            },
                        };
                        tile.multiply((left.rows - row).min(ROWS));
                    }
                }
            }
            lines = &lines[of_wide..];
        }
    }

    /// The product of a row with some columns, in f32.
    ///
    /// # Panics
    /// If the row has another length than the columns, or there is no such column.
    pub fn exact(&self, row: &[f32], columns: &[u32], products: &mut Vec<f32>) {
        assert_eq!(row.len(), self.terms);
        products.clear();
        for group in columns.chunks(LANES) {
            // The last is repeated where there are fewer than a vector holds.
            let columns: [&[f32]; LANES] = std::array::from_fn(|lane| {
                let column = group[lane.min(group.len() - 1)] as usize;
                &self.numbers[column * self.terms..][..self.terms]
            });
            let mut sums = [0.0; LANES];
            // SAFETY: a screen exists only where the machine has the instructions, and all
            // columns are as long as the row.
            #[allow(unsafe_code)]
            unsafe {
                chains(row, columns, &mut sums);
            }
            products.extend_from_slice(&sums[..group.len()]);
        }
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Screen({} x {})", self.terms, self.columns)
    }
}

/// Sums of the products of a row with 16 columns of its length, side by side.
///
/// # Safety
/// The machine has AVX-512, and the columns are as long as the row.
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
unsafe fn chains(row: &[f32], columns: [&[f32]; LANES], sums: &mut [f32; LANES]) {
    let mut sum = _mm512_setzero_ps();
    for first in (0..row.len()).step_by(LANES) {
        let count = (row.len() - first).min(LANES);
        // Loops and no closures: what a library calls is compiled without these instructions.
        let mut square = [_mm512_setzero_si512(); LANES];
        for (column, numbers) in columns.iter().zip(&mut square) {
            // SAFETY: no more is loaded than the column has.
            *numbers = _mm512_castps_si512(unsafe { load(column.as_ptr().add(first), count) });
        }
        let by_terms = transposed(square);
        for term in 0..count {
            let factor = _mm512_set1_ps(row[first + term]);
            sum = _mm512_fmadd_ps(factor, _mm512_castsi512_ps(by_terms[term]), sum);
        }
    }
    // SAFETY: sixteen numbers.
    unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), sum) };
}

/// Length of a vector, of what it is rounded to, and of the difference.
fn norms(numbers: &[f32]) -> [f32; 3] {
    let norm = |of: fn(f32) -> f32| sum_of(numbers, numbers, |x, _| of(x) * of(x)).sqrt();
    [norm(|x| x), norm(rounded), norm(|x| x - rounded(x))]
}
