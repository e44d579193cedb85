//! Rows of numbers in the caller's memory: the only form in which data enters.

mod element;

use std::ops::Range;

use half::{bf16, f16};

pub use self::element::Element;
use self::element::Numbers;
use crate::error::RowsError;

/// A borrowed matrix: rows of `dim` numbers each.
///
/// [`row`](Self::row) is one key, value or query, [`matrix`](Self::matrix) several of them.
/// The numbers may be `f32`, `f16` or `bf16`. They are in host slices and in no tensor type,
/// so that an engine on any tensor library, at any version of it, can hand over what it has.
/// Numbers are converted to `f32` once, at the door, and NaN and infinities are refused there:
/// one of them would stay in a memory for good.
///
/// Making rows checks nothing. The call that takes them does, and says what does not fit.
///
/// ```
/// use half::bf16;
/// use titans_runtime::Rows;
///
/// let key = [0.5_f32; 64];
/// assert_eq!((Rows::row(&key).len(), Rows::row(&key).dim()), (1, 64));
///
/// let keys = vec![bf16::ONE; 3 * 64];
/// assert_eq!(Rows::matrix(&keys, 64).len(), 3);
///
/// // Keys and values side by side: a row of 64 numbers begins every 128 numbers.
/// let pairs = [0.5_f32; 3 * 128];
/// let (keys, values) = (Rows::matrix(&pairs, 64), Rows::matrix(&pairs[64..], 64));
/// assert_eq!(keys.with_row_stride(128).len(), 3);
/// assert_eq!(values.with_row_stride(128).len(), 3);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    numbers: Numbers<'a>,
    dim: usize,
    row_stride: usize,
    is_unit: bool,
}

impl<'a> Rows<'a> {
    /// One row: the whole slice.
    pub fn row<T: Element>(numbers: &'a [T]) -> Self {
        Self::matrix(numbers, numbers.len())
    }

    /// Rows of `dim` numbers, one after the other: as many as the slice holds.
    ///
    /// The call that takes them refuses a slice that ends within a row, and a `dim` that is not
    /// the memory's, such as 0. A slice without numbers is no rows; its type has to be named
    /// then: `Rows::matrix::<f32>(&[], 64)`.
    pub fn matrix<T: Element>(numbers: &'a [T], dim: usize) -> Self {
        Self {
            numbers: T::numbers(numbers),
            dim,
            row_stride: dim,
            is_unit: false,
        }
    }

    /// The same slice with another distance between the beginnings of two rows, in numbers.
    /// What lies behind a row is passed over; behind the last one it may be missing.
    pub fn with_row_stride(mut self, row_stride: usize) -> Self {
        self.row_stride = row_stride;
        self
    }

    /// The same rows, each divided by its length as it comes in: what the presets expect of
    /// keys and values, and the way to store hidden states as their own keys and values. A
    /// row of zeros stays one.
    pub fn unit(mut self) -> Self {
        self.is_unit = true;
        self
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        match self.row_stride {
            0 => 0,
            row_stride => self.numbers.len().div_ceil(row_stride),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers in a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The rows as contiguous `f32`, once shape and numbers are checked.
    pub(crate) fn to_f32(self, what: RowsOf, dim: usize) -> Result<Vec<f32>, RowsError> {
        self.check_shape(what, dim)?;
        self.check_numbers(what)?;
        let mut values = Vec::with_capacity(self.len() * dim);
        self.append_to(&mut values, 0..self.len());
        Ok(values)
    }

    /// Checks the width of the rows, and that the slice ends with one.
    pub(crate) fn check_shape(&self, what: RowsOf, dim: usize) -> Result<(), RowsError> {
        RowsError::expect_size(what.width(), dim, self.dim)?;
        if self.row_stride < self.dim {
            return Err(RowsError::Shape {
                what: what.stride(),
                expected: self.dim,
                found: self.row_stride,
            });
        }
        let last = self.numbers.len().checked_rem(self.row_stride);
        match last.is_some_and(|last| last > 0 && last < self.dim) {
            true => Err(RowsError::PartialRow {
                what: what.name(),
                numbers: self.numbers.len(),
                dim,
                row_stride: self.row_stride,
            }),
            false => Ok(()),
        }
    }

    /// Checks every number of rows whose shape is checked.
    pub(crate) fn check_numbers(&self, what: RowsOf) -> Result<(), RowsError> {
        match self.numbers {
            Numbers::F32(numbers) => self.check_each(numbers, what, |number| number),
            Numbers::F16(numbers) => self.check_each(numbers, what, f16::to_f32),
            Numbers::Bf16(numbers) => self.check_each(numbers, what, bf16::to_f32),
        }
    }

    /// Appends some of the rows, which are checked, as contiguous `f32`.
    pub(crate) fn append_to(&self, values: &mut Vec<f32>, rows: Range<usize>) {
        let start = values.len();
        match self.numbers {
            Numbers::F32(numbers) => self.append(numbers, rows, values, |number| number),
            Numbers::F16(numbers) => self.append(numbers, rows, values, f16::to_f32),
            Numbers::Bf16(numbers) => self.append(numbers, rows, values, bf16::to_f32),
        }
        if self.is_unit {
            values[start..]
                .chunks_exact_mut(self.dim)
                .for_each(normalise);
        }
    }

    fn numbers_of<'b, T>(&self, numbers: &'b [T], row: usize) -> &'b [T] {
        &numbers[row * self.row_stride..][..self.dim]
    }

    fn check_each<T: Copy>(
        &self,
        all: &[T],
        what: RowsOf,
        convert: impl Fn(T) -> f32,
    ) -> Result<(), RowsError> {
        // The squares of numbers below this do not add up to infinity, and NaN is not below it.
        let harmless = (f32::MAX / self.dim.max(1) as f32).sqrt();
        for row in 0..self.len() {
            let numbers = self.numbers_of(all, row).iter();
            let numbers = numbers.map(|number| convert(*number));
            // Without an early exit the loop is one of vector instructions.
            let are_harmless = numbers
                .clone()
                .fold(true, |are, number| are & (number.abs() <= harmless));
            if are_harmless {
                continue;
            }
            for (column, value) in numbers.clone().enumerate() {
                if !value.is_finite() {
                    return Err(RowsError::NotFinite {
                        what: what.name(),
                        row,
                        column,
                        value,
                    });
                }
            }
            let energy: f64 = numbers.map(|number| f64::from(number).powi(2)).sum();
            if energy > f64::from(f32::MAX) && !self.is_unit {
                return Err(RowsError::TooLong {
                    what: what.name(),
                    row,
                    length: energy.sqrt(),
                });
            }
        }
        Ok(())
    }

    fn append<T: Copy>(
        &self,
        all: &[T],
        rows: Range<usize>,
        values: &mut Vec<f32>,
        convert: impl Fn(T) -> f32,
    ) {
        if self.row_stride == self.dim {
            let numbers = &all[rows.start * self.dim..rows.end * self.dim];
            values.extend(numbers.iter().map(|number| convert(*number)));
            return;
        }
        for row in rows {
            let numbers = self.numbers_of(all, row).iter();
            values.extend(numbers.map(|number| convert(*number)));
        }
    }
}

/// Divides a finite row by its length, in `f64`, so that no square overflows.
fn normalise(row: &mut [f32]) {
    let energy: f64 = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    if energy > 0.0 {
        let scale = energy.sqrt().recip();
        for number in row {
            *number = (f64::from(*number) * scale) as f32;
        }
    }
}

/// What rows are for, so that an error can name them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RowsOf {
    Keys,
    Values,
    Queries,
}

impl RowsOf {
    fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Values => "values",
            Self::Queries => "queries",
        }
    }

    fn width(self) -> &'static str {
        match self {
            Self::Keys => "the width of the keys",
            Self::Values => "the width of the values",
            Self::Queries => "the width of the queries",
        }
    }

    fn stride(self) -> &'static str {
        match self {
            Self::Keys => "the row stride of the keys (at least)",
            Self::Values => "the row stride of the values (at least)",
            Self::Queries => "the row stride of the queries (at least)",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_number_type_and_stride_gives_the_same_rows() {
        let numbers = [0.5_f32, -2.0, 9.0, 1.5, 4.0, 9.0];
        let halves = numbers.map(f16::from_f32);
        let brains = numbers.map(bf16::from_f32);
        for rows in [
            Rows::matrix(&numbers, 2),
            Rows::matrix(&halves, 2),
            Rows::matrix(&brains, 2),
        ] {
            let gathered = rows.with_row_stride(3).to_f32(RowsOf::Keys, 2).unwrap();
            assert_eq!(gathered, [0.5, -2.0, 1.5, 4.0]);
        }
        for row in [Rows::row(&numbers), Rows::row(&halves), Rows::row(&brains)] {
            assert_eq!((row.len(), row.dim()), (1, 6));
            assert_eq!(row.to_f32(RowsOf::Keys, 6).unwrap(), numbers);
        }
    }

    #[test]
    fn the_last_row_needs_no_stride_behind_it() {
        let numbers = [1.0_f32; 9];
        for (len, rows) in [(9, 3), (8, 3), (6, 2), (5, 2), (3, 1), (2, 1), (0, 0)] {
            let given = Rows::matrix(&numbers[..len], 2).with_row_stride(3);
            assert_eq!(given.len(), rows);
            let gathered = given.to_f32(RowsOf::Keys, 2).unwrap();
            assert_eq!(gathered.len(), 2 * rows);
        }
    }

    #[test]
    fn unit_rows_have_length_one_whatever_their_size() {
        let numbers = [3.0_f32, 4.0, 0.0, 0.0, 3e38, 4e37, 1e-38, 1e-38];
        let rows = Rows::matrix(&numbers, 2).unit();
        let rows = rows.to_f32(RowsOf::Keys, 2).unwrap();
        assert_eq!(rows[..4], [0.6, 0.8, 0.0, 0.0]);
        for row in rows[4..].chunks_exact(2) {
            assert!((row[0].hypot(row[1]) - 1.0).abs() < 1e-6, "{row:?}");
        }
    }

    #[test]
    fn no_rows_are_no_numbers() {
        let none = Rows::matrix::<f32>(&[], 7);
        assert!(none.is_empty());
        assert!(none.to_f32(RowsOf::Keys, 7).unwrap().is_empty());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let numbers = [1.0_f32, 2.0, f32::NAN, 4.0, 5.0];
        let whole = &numbers[..4];
        for (rows, dim, part) in [
            (Rows::matrix(whole, 2), 3, "width of the values is 2"),
            (Rows::matrix(whole, 0), 2, "width of the values is 0"),
            (
                Rows::matrix(whole, 0).with_row_stride(2),
                2,
                "width of the values is 0",
            ),
            (Rows::row(whole), 2, "width of the values is 4"),
            (Rows::row::<f32>(&[]), 2, "width of the values is 0"),
            (
                Rows::matrix(&numbers, 2),
                2,
                "the values end within a row: 5 numbers, but a row has 2 and begins every 2",
            ),
            (
                Rows::matrix(&numbers, 2).with_row_stride(4),
                2,
                "the values end within a row: 5 numbers, but a row has 2 and begins every 4",
            ),
            (
                Rows::matrix(whole, 2).with_row_stride(1),
                2,
                "row stride of the values (at least) is 1",
            ),
            (
                Rows::matrix(whole, 2).with_row_stride(0),
                2,
                "row stride of the values (at least) is 0",
            ),
            (
                Rows::matrix(whole, 2),
                2,
                "values hold NaN at row 1, column 0",
            ),
        ] {
            let error = rows.to_f32(RowsOf::Values, dim).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn a_row_whose_squares_add_up_to_infinity_is_refused() {
        let too_long = [1.0_f32, 0.0, 3e19, 0.0];
        let error = Rows::matrix(&too_long, 2).to_f32(RowsOf::Keys, 2);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("row 1 of the keys"), "{error}");
        // As long as a row may be, and one that is made a unit row anyway.
        let longest = [1.8e19_f32, 0.0];
        assert!(Rows::row(&longest).to_f32(RowsOf::Keys, 2).is_ok());
        let unit = Rows::matrix(&too_long, 2).unit();
        assert!(unit.to_f32(RowsOf::Keys, 2).is_ok());
    }
}
