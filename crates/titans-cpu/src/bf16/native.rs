//! The products by `vdpbf16ps`, which adds two products of bf16 numbers to each of 16 sums of f32.
//!
//! Both factors are rounded and laid out in pairs, two terms in one `u32`, the first below, each
//! number once per product. Of the left factor one pair at a time goes to all lanes; of the right
//! one a line holds a pair of terms of each of 16 columns.
//!
//! Matrix units (AMX) would be faster still on processors that have them; the language offers
//! their instructions to no stable compiler yet.

mod lay_out;
mod lines;
mod screen;
mod tile;

use super::chain::{self, CHAIN, Change, chains, change_of_chain, is_done};
use crate::level::{Level, level};
use crate::matrix::Matrix;
use lay_out::{lay_out_left, lay_out_right};
use lines::{LANES, Line, Lines, ROWS, VECTORS, WIDE};
pub use screen::{Found, Screen};
use tile::{End, Tile};

/// Whether this machine has the instructions, and may use them.
pub(super) fn is_available() -> bool {
    level() == Level::Avx512
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
}

/// As [`super::product`].
///
/// # Panics
/// If the machine does not have the instructions, too.
pub(super) fn product(left: Matrix<'_>, right: Matrix<'_>, output: &mut [f32], change: Change) {
    check(left);
    check(right);
    assert_eq!(left.columns, right.rows);
    assert_eq!(output.len(), left.rows * right.columns);
    let terms = left.columns;
    if is_done(terms, output, change) {
        return;
    }
    for (first, count) in chains(terms) {
        let left = LeftFactor::new(left.part(0, left.rows, first, count));
        let change = change_of_chain(first, change);
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
        if is_done(self.terms, output, change) {
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
    chain::check(factor);
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
