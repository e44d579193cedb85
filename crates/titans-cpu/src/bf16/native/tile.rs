//! Sums of pairs in registers, and what becomes of them.

use std::arch::x86_64::*;
use std::mem::transmute;

use super::lay_out::first_lanes;
use super::lines::{LANES, Line, MOST_FOUND, ROWS};
use crate::bf16::chain::Change;

/// Some rows and columns of a product, few enough that all sums stay in registers.
pub(super) struct Tile {
    /// The first pair of the first row.
    pub(super) left: *const u32,
    pub(super) row_stride: usize,
    pub(super) pair_stride: usize,
    /// The first line of the panel.
    pub(super) right: *const Line,
    pub(super) pairs: usize,
    /// At least one, at most those of [`VECTORS`].
    pub(super) columns: usize,
    pub(super) end: End,
}

/// What becomes of the sums of a tile.
pub(super) enum End {
    /// They change numbers, of which this is the first; from a row to the next.
    Change(*mut f32, usize, Change),
    /// Columns are noted whose sums are not less than a threshold.
    Find {
        /// One for each row.
        thresholds: *const f32,
        /// How many of each row are found, noted or not.
        counts: *mut usize,
        /// Room for [`MOST_FOUND`] of each row.
        found: *mut u32,
        /// The column of the first sum.
        first: u32,
    },
}

/// Calls the one of the functions that is compiled for as many rows.
macro_rules! for_rows {
    ($tile:expr, $rows:expr, $vectors:literal) => {
        match $rows {
            1 => $tile.sums::<1, $vectors>(),
            2 => $tile.sums::<2, $vectors>(),
            3 => $tile.sums::<3, $vectors>(),
            4 => $tile.sums::<4, $vectors>(),
            5 => $tile.sums::<5, $vectors>(),
            6 => $tile.sums::<6, $vectors>(),
            7 => $tile.sums::<7, $vectors>(),
            _ => $tile.sums::<ROWS, $vectors>(),
        }
    };
}

#[allow(unsafe_code)]
impl Tile {
    /// # Safety
    /// The machine has the instructions, both factors have what the tile needs, and the output
    /// has room for its rows and columns.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn multiply(&self, rows: usize) {
        // SAFETY: passed on.
        unsafe {
            match self.columns.div_ceil(LANES) {
                1 => for_rows!(self, rows, 1),
                2 => for_rows!(self, rows, 2),
                _ => for_rows!(self, rows, 3),
            }
        }
    }

    /// # Safety
    /// As of [`multiply`](Self::multiply).
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn sums<const R: usize, const V: usize>(&self) {
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        let (mut left, mut right) = (self.left, self.right);
        let last = first_lanes(self.columns - (V - 1) * LANES);
        // SAFETY: as the caller says; the pointers leave what they point to after the last pair
        // only, when nothing is read.
        unsafe {
            for _ in 0..self.pairs {
                let mut of_columns = [_mm512_setzero_si512(); V];
                for (vector, of_columns) in of_columns.iter_mut().enumerate() {
                    *of_columns = _mm512_load_si512(right.add(vector).cast());
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let pair = _mm512_set1_epi32((*left.add(row * self.row_stride)).cast_signed());
                    let pair = transmute::<__m512i, __m512bh>(pair);
                    for (sum, of_columns) in sums.iter_mut().zip(of_columns) {
                        *sum = _mm512_dpbf16_ps(
                            *sum,
                            pair,
                            transmute::<__m512i, __m512bh>(of_columns),
                        );
                    }
                }
                left = left.wrapping_add(self.pair_stride);
                right = right.wrapping_add(V);
            }
            // The sums stay in registers only if every loop over them is unrolled: no branch is in
            // one.
            match self.end {
                End::Change(output, stride, change) => {
                    for (row, sums) in sums.iter().enumerate() {
                        for (vector, sum) in sums.iter().enumerate() {
                            let numbers = output.add(row * stride + vector * LANES);
                            let lanes = if vector + 1 == V { last } else { !0 };
                            let before = _mm512_maskz_loadu_ps(lanes, numbers);
                            let changed = match change {
                                Change::Set => *sum,
                                Change::Add => _mm512_add_ps(before, *sum),
                                Change::Subtract => _mm512_sub_ps(before, *sum),
                            };
                            _mm512_mask_storeu_ps(numbers, lanes, changed);
                        }
                    }
                }
                End::Find {
                    thresholds,
                    counts,
                    found,
                    first,
                } => {
                    let mut passes = [[0; V]; R];
                    for (row, (sums, passes)) in sums.iter().zip(&mut passes).enumerate() {
                        let threshold = _mm512_set1_ps(*thresholds.add(row));
                        for (vector, (sum, passes)) in sums.iter().zip(passes).enumerate() {
                            let lanes = if vector + 1 == V { last } else { !0 };
                            *passes =
                                _mm512_mask_cmp_ps_mask::<_CMP_NLT_UQ>(lanes, *sum, threshold);
                        }
                    }
                    for (row, passes) in passes.iter().enumerate() {
                        let found = found.add(row * MOST_FOUND);
                        for (vector, passes) in passes.iter().enumerate() {
                            let first = first + (vector * LANES) as u32;
                            note(*passes, first, found, &mut *counts.add(row));
                        }
                    }
                }
            }
        }
    }
}

/// Notes the columns that pass, unless so many are noted that a vector has no room, and counts
/// them.
///
/// # Safety
/// There is room for [`MOST_FOUND`] columns.
#[inline]
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
unsafe fn note(passes: __mmask16, first: u32, found: *mut u32, count: &mut usize) {
    if passes == 0 {
        return;
    }
    if *count + LANES <= MOST_FOUND {
        let lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        let columns = _mm512_add_epi32(_mm512_set1_epi32(first.cast_signed()), lanes);
        let columns = _mm512_maskz_compress_epi32(passes, columns);
        // SAFETY: as just looked at.
        unsafe { _mm512_storeu_si512(found.add(*count).cast(), columns) };
    }
    *count += passes.count_ones() as usize;
}
