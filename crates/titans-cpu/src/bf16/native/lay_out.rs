//! Factors in pairs of bf16, in lines.

use std::arch::x86_64::*;
use std::mem::transmute;

use super::lines::{LANES, Line, VECTORS};
use crate::matrix::Matrix;

/// Lays a left factor out: row by row if its rows are contiguous, or else pair by pair of terms,
/// each row or pair in whole lines.
///
/// # Safety
/// The machine has the instructions, and every element lies in the data, in contiguous rows or
/// columns.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[allow(unsafe_code)]
pub(super) unsafe fn lay_out_left(left: Matrix<'_>, lines: &mut [Line]) {
    let (rows, terms, from) = (left.rows, left.columns, left.data.as_ptr());
    // SAFETY: a row, or a column, is contiguous, and no more of it is loaded than there is.
    unsafe {
        if left.column_stride == 1 {
            let per_row = terms.div_ceil(2 * LANES);
            for row in 0..rows {
                let numbers = from.add(row * left.row_stride);
                for (line, first) in (0..terms).step_by(2 * LANES).enumerate() {
                    let pairs = pairs_along(numbers.add(first), terms - first);
                    store(&mut lines[row * per_row + line], pairs);
                }
            }
        } else {
            let per_pair = rows.div_ceil(LANES);
            for first in (0..terms).step_by(2) {
                let numbers = from.add(first * left.column_stride);
                let next = (first + 1 < terms).then(|| numbers.wrapping_add(left.column_stride));
                for (line, row) in (0..rows).step_by(LANES).enumerate() {
                    let pairs = pairs_across(numbers, next, row, rows);
                    store(&mut lines[first / 2 * per_pair + line], pairs);
                }
            }
        }
    }
}

/// Lays a right factor out in panels of [`VECTORS`] lines of columns, or fewer at the end: pair
/// by pair of terms, the lines of a panel one after the other.
///
/// # Safety
/// The machine has the instructions, and every element lies in the data, in contiguous rows or
/// columns.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[allow(unsafe_code)]
pub(super) unsafe fn lay_out_right(right: Matrix<'_>, lines: &mut [Line]) {
    let (terms, columns, from) = (right.rows, right.columns, right.data.as_ptr());
    let (pairs, vectors) = (terms.div_ceil(2), columns.div_ceil(LANES));
    let line_of = |pair: usize, vector: usize| {
        let panel = vector / VECTORS * VECTORS;
        panel * pairs + pair * (vectors - panel).min(VECTORS) + vector - panel
    };
    // SAFETY: a row, or a column, is contiguous, and no more of it is loaded than there is.
    unsafe {
        if right.column_stride == 1 {
            for pair in 0..pairs {
                let numbers = from.add(2 * pair * right.row_stride);
                let next = (2 * pair + 1 < terms).then(|| numbers.wrapping_add(right.row_stride));
                for vector in 0..vectors {
                    let pairs = pairs_across(numbers, next, vector * LANES, columns);
                    store(&mut lines[line_of(pair, vector)], pairs);
                }
            }
        } else {
            for vector in 0..vectors {
                let first_column = vector * LANES;
                let count = (columns - first_column).min(LANES);
                for first in (0..terms).step_by(2 * LANES) {
                    let mut square = [_mm512_setzero_si512(); LANES];
                    for (column, pairs) in square.iter_mut().enumerate().take(count) {
                        let column = from.add((first_column + column) * right.column_stride);
                        *pairs = pairs_along(column.add(first), terms - first);
                    }
                    let first_pair = first / 2;
                    let here = transposed(square).into_iter().take(pairs - first_pair);
                    for (pair, of_columns) in here.enumerate() {
                        store(&mut lines[line_of(first_pair + pair, vector)], of_columns);
                    }
                }
            }
        }
    }
}

/// Pairs of numbers that follow each other, 16 or as many as there are; zeros after them.
///
/// # Safety
/// `count` numbers, or 32, can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[allow(unsafe_code)]
unsafe fn pairs_along(numbers: *const f32, count: usize) -> __m512i {
    // SAFETY: what is beyond the count is masked.
    unsafe {
        let first = load(numbers, count);
        let second = load(numbers.wrapping_add(LANES), count.saturating_sub(LANES));
        transmute(_mm512_cvtne2ps_pbh(second, first))
    }
}

/// Pairs of a number of one row and the number below it, from a place on: 16 or as many as
/// there are; zeros after them, and below if there is no other row.
///
/// # Safety
/// The rows have `count` numbers that can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[allow(unsafe_code)]
unsafe fn pairs_across(
    row: *const f32,
    next: Option<*const f32>,
    from: usize,
    count: usize,
) -> __m512i {
    // 16-bit places of two vectors one after the other, in turn.
    let in_turn = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
        19, 3, 18, 2, 17, 1, 16, 0,
    );
    // SAFETY: what is beyond the count is masked.
    unsafe {
        let first = load(row.wrapping_add(from), count - from);
        let second = match next {
            Some(next) => load(next.wrapping_add(from), count - from),
            None => _mm512_setzero_ps(),
        };
        let rounded = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
        _mm512_permutexvar_epi16(in_turn, rounded)
    }
}

/// 16 numbers or as many as there are; zeros after them.
///
/// # Safety
/// `count` numbers, or 16, can be read.
#[inline]
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
pub(super) unsafe fn load(numbers: *const f32, count: usize) -> __m512 {
    // SAFETY: what is beyond the count is masked, and not touched.
    unsafe {
        if count >= LANES {
            _mm512_loadu_ps(numbers)
        } else {
            _mm512_maskz_loadu_ps(first_lanes(count), numbers)
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(line: &mut Line, pairs: __m512i) {
    // SAFETY: a line is as large as a vector, and aligned as one.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_store_si512(std::ptr::from_mut(line).cast(), pairs);
    }
}

pub(super) fn first_lanes(count: usize) -> __mmask16 {
    match count {
        LANES.. => !0,
        _ => (1 << count) - 1,
    }
}

/// Rows become columns: in pairs of vectors, in fours, and in their quarters.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transposed(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let mut twos = rows;
    for at in (0..LANES).step_by(2) {
        twos[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
        twos[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    let mut fours = twos;
    for at in (0..LANES).step_by(4) {
        for high in 0..2 {
            let (first, second) = (twos[at + high], twos[at + high + 2]);
            fours[at + 2 * high] = _mm512_unpacklo_epi64(first, second);
            fours[at + 2 * high + 1] = _mm512_unpackhi_epi64(first, second);
        }
    }
    // Quarter q of vector 4 g + j is column 4 q + j of rows 4 g to 4 g + 3.
    let mut columns = fours;
    for at in 0..4 {
        let (a, b, c, d) = (fours[at], fours[at + 4], fours[at + 8], fours[at + 12]);
        let even = _mm512_shuffle_i32x4::<0x88>(a, b);
        let odd = _mm512_shuffle_i32x4::<0xdd>(a, b);
        let even_below = _mm512_shuffle_i32x4::<0x88>(c, d);
        let odd_below = _mm512_shuffle_i32x4::<0xdd>(c, d);
        columns[at] = _mm512_shuffle_i32x4::<0x88>(even, even_below);
        columns[at + 4] = _mm512_shuffle_i32x4::<0x88>(odd, odd_below);
        columns[at + 8] = _mm512_shuffle_i32x4::<0xdd>(even, even_below);
        columns[at + 12] = _mm512_shuffle_i32x4::<0xdd>(odd, odd_below);
    }
    columns
}
