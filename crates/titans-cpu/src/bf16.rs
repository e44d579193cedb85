//! Matrix products of operands rounded to bf16, by the vector instructions of AVX512-BF16.
//!
//! `vdpbf16ps` adds two products of bf16 numbers to each of 16 sums of f32, so terms go in
//! pairs: two terms of a sum that follow each other, in one `u32`, the first below. Both factors
//! are rounded (to nearest, ties to even) and laid out in pairs, each number once per product. Of
//! the left factor one pair at a time goes to all lanes; of the right one a line holds a pair of
//! terms of each of 16 columns.
//!
//! A number of a product is one chain of these instructions per [`CHAIN`] terms, in their order,
//! whatever stands beside it. As the instruction does, it takes numbers under 2^-126 as zero.
//!
//! Matrix units (AMX) would be faster still on processors that have them; the language offers
//! their instructions to no stable compiler yet.

use std::arch::x86_64::*;
use std::mem::transmute;
use std::sync::{Mutex, PoisonError};

use crate::product::Matrix;

/// Longest sum that is one chain. The pairs of a panel of so many terms are 48 KiB, those of the
/// left factor of 512 rows are half of a second-level cache.
const CHAIN: usize = 512;

/// Numbers of f32 in a vector, and pairs in a line.
const LANES: usize = 16;

/// Rows of a tile, and vectors of its columns: 24 sums are enough to begin two instructions in
/// each cycle although one takes six, and are served by 11 loads.
const ROWS: usize = 8;
const VECTORS: usize = 3;

/// Vectors of columns of the right factor that are laid out at once: 192 KiB.
const WIDE: usize = 4 * VECTORS;

/// What a product does to the numbers of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// They are not read.
    Set,
    Add,
    Subtract,
}

/// Columns of a row that [`Screen`] notes; a row that has more is not screened.
const MOST_FOUND: usize = 512;

/// A line of a cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "read and written as vectors")] [u32; LANES]);

/// Kept, because every first touch of a fresh page costs more than the arithmetic on it. One for
/// all threads: lines are laid out on one and dropped on another.
static KEPT: Mutex<Vec<Vec<Line>>> = Mutex::new(Vec::new());

/// Lines to overwrite.
struct Lines(Vec<Line>);

impl Lines {
    fn new(count: usize) -> Self {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest that is large enough, or else the largest, to grow.
        let best = (0..kept.len()).min_by_key(|at| {
            let length = kept[*at].len();
            (length < count, length.abs_diff(count))
        });
        let mut lines = best.map(|at| kept.swap_remove(at)).unwrap_or_default();
        drop(kept);
        if lines.len() < count {
            lines.resize(count, Line([0; LANES]));
        }
        Self(lines)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.0);
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(lines);
    }
}

/// Whether this machine has the instructions.
pub(crate) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
}

/// Changes the output by `left @ right`.
///
/// # Panics
/// If the machine does not have the instructions, the shapes do not fit, or neither rows nor
/// columns of a factor are contiguous.
pub(crate) fn product(left: Matrix<'_>, right: Matrix<'_>, output: &mut [f32], change: Change) {
    check(left);
    check(right);
    assert_eq!(left.columns, right.rows);
    assert_eq!(output.len(), left.rows * right.columns);
    let terms = left.columns;
    if terms == 0 && change == Change::Set {
        output.fill(0.0);
    }
    if terms == 0 || output.is_empty() {
        return;
    }
    let chains = terms.div_ceil(CHAIN);
    for chain in 0..chains {
        let first = terms * chain / chains;
        let count = terms * (chain + 1) / chains - first;
        let left = LeftFactor::new(left.part(0, left.rows, first, count));
        let change = match chain {
            0 => change,
            _ if change == Change::Set => Change::Add,
            _ => change,
        };
        let mut lines = Lines::new(lines_of_right(count, right.columns.min(WIDE * LANES)));
        for from in (0..right.columns).step_by(WIDE * LANES) {
            let wide = (right.columns - from).min(WIDE * LANES);
            lay_out(right.part(first, count, from, wide), &mut lines.0);
            left.multiply(&lines.0, wide, output, right.columns, from, change);
        }
    }
}

/// A right factor that many products share: it is laid out once.
pub(crate) struct RightFactor {
    lines: Lines,
    terms: usize,
    columns: usize,
}

impl RightFactor {
    /// # Panics
    /// As [`product`]; and if the sums of its products are longer than one chain.
    pub(crate) fn new(right: Matrix<'_>) -> Self {
        check(right);
        assert!(right.rows <= CHAIN);
        let mut lines = Lines::new(lines_of_right(right.rows, right.columns));
        let (mut laid, wide) = (0, WIDE * LANES);
        for from in (0..right.columns).step_by(wide) {
            let wide = (right.columns - from).min(wide);
            lay_out(right.part(0, right.rows, from, wide), &mut lines.0[laid..]);
            laid += lines_of_right(right.rows, wide);
        }
        Self {
            lines,
            terms: right.rows,
            columns: right.columns,
        }
    }

    /// Changes the output by `left @ this`.
    ///
    /// # Panics
    /// As [`product`].
    pub(crate) fn multiplied(&self, left: Matrix<'_>, output: &mut [f32], change: Change) {
        check(left);
        assert_eq!(left.columns, self.terms);
        assert_eq!(output.len(), left.rows * self.columns);
        if self.terms == 0 && change == Change::Set {
            output.fill(0.0);
        }
        if self.terms == 0 || output.is_empty() {
            return;
        }
        let left = LeftFactor::new(left);
        let mut lines = &self.lines.0[..];
        for from in (0..self.columns).step_by(WIDE * LANES) {
            let wide = (self.columns - from).min(WIDE * LANES);
            left.multiply(lines, wide, output, self.columns, from, change);
            lines = &lines[lines_of_right(self.terms, wide)..];
        }
    }
}

fn check(factor: Matrix<'_>) {
    assert!(is_available(), "no instructions for bf16");
    assert!(factor.is_whole() && (factor.row_stride == 1 || factor.column_stride == 1));
}

fn lines_of_right(terms: usize, columns: usize) -> usize {
    terms.div_ceil(2) * columns.div_ceil(LANES)
}

/// Lays out columns of a right factor that was checked.
fn lay_out(right: Matrix<'_>, lines: &mut [Line]) {
    // SAFETY: the machine has the instructions, and the factor lies in its data.
    #[allow(unsafe_code)]
    unsafe {
        lay_out_right(right, lines);
    }
}

/// A left factor in pairs, the sums of whose products are one chain.
struct LeftFactor {
    lines: Lines,
    rows: usize,
    pairs: usize,
    /// In pairs: from a row to the next, and from a pair of terms to the next.
    row_stride: usize,
    pair_stride: usize,
}

impl LeftFactor {
    /// Of a matrix that was checked.
    fn new(left: Matrix<'_>) -> Self {
        let (rows, pairs) = (left.rows, left.columns.div_ceil(2));
        let (row_stride, pair_stride, count) = if left.column_stride == 1 {
            let of_row = pairs.next_multiple_of(LANES);
            (of_row, 1, rows * of_row)
        } else {
            let of_pair = rows.next_multiple_of(LANES);
            (1, of_pair, pairs * of_pair)
        };
        let mut lines = Lines::new(count / LANES);
        // SAFETY: the machine has the instructions, and the factor lies in its data.
        #[allow(unsafe_code)]
        unsafe {
            lay_out_left(left, &mut lines.0);
        }
        Self {
            lines,
            rows,
            pairs,
            row_stride,
            pair_stride,
        }
    }

    /// Changes `wide` columns of an output of so many, from one on, by the product with a right
    /// factor of as many terms and `wide` columns that was laid out.
    fn multiply(
        &self,
        right: &[Line],
        wide: usize,
        output: &mut [f32],
        columns: usize,
        from: usize,
        change: Change,
    ) {
        let vectors = wide.div_ceil(LANES);
        assert!(right.len() >= self.pairs * vectors);
        assert!(from + wide <= columns && output.len() == self.rows * columns);
        for row in (0..self.rows).step_by(ROWS) {
            for panel in (0..vectors).step_by(VECTORS) {
                let at = panel * LANES;
                // SAFETY: the machine has the instructions; the left factor has the pairs of
                // `rows` rows, the right one those of the panel, and the tile lies in the output.
                #[allow(unsafe_code)]
                unsafe {
                    let left = self.lines.0.as_ptr().cast::<u32>();
                    let tile = Tile {
                        left: left.add(row * self.row_stride),
                        row_stride: self.row_stride,
                        pair_stride: self.pair_stride,
                        right: right.as_ptr().add(panel * self.pairs),
                        pairs: self.pairs,
                        columns: (wide - at).min(VECTORS * LANES),
                        end: End::Change(
                            output.as_mut_ptr().add(row * columns + from + at),
                            columns,
                            change,
                        ),
                    };
                    tile.multiply((self.rows - row).min(ROWS));
                }
            }
        }
    }
}

/// Lays a left factor out: row by row if its rows are contiguous, or else pair by pair of terms,
/// each row or pair in whole lines.
///
/// # Safety
/// The machine has the instructions, and every element lies in the data, in contiguous rows or
/// columns.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[allow(unsafe_code)]
unsafe fn lay_out_left(left: Matrix<'_>, lines: &mut [Line]) {
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
unsafe fn lay_out_right(right: Matrix<'_>, lines: &mut [Line]) {
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
unsafe fn load(numbers: *const f32, count: usize) -> __m512 {
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

fn first_lanes(count: usize) -> __mmask16 {
    match count {
        LANES.. => !0,
        _ => (1 << count) - 1,
    }
}

/// Rows become columns: in pairs of vectors, in fours, and in their quarters.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; LANES]) -> [__m512i; LANES] {
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

/// Some rows and columns of a product, few enough that all sums stay in registers.
struct Tile {
    /// The first pair of the first row.
    left: *const u32,
    row_stride: usize,
    pair_stride: usize,
    /// The first line of the panel.
    right: *const Line,
    pairs: usize,
    /// At least one, at most those of [`VECTORS`].
    columns: usize,
    end: End,
}

/// What becomes of the sums of a tile.
enum End {
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
    unsafe fn multiply(&self, rows: usize) {
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

mod screen;
#[cfg(test)]
mod tests;

pub use screen::{Found, Screen};
