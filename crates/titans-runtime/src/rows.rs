//! Rows of numbers in the caller's memory: the only form in which data enters.

use std::ops::Range;

use half::{bf16, f16};

use crate::error::RuntimeError;

/// A borrowed matrix: `rows` rows of `dim` numbers, each row `row_stride` numbers after the
/// one before.
///
/// Host slices and no tensor type, so that an engine on any tensor library, at any version
/// of it, can hand over what it has. Numbers are converted to `f32` once, at the door, and
/// NaN and infinities are refused there: one of them would stay in a memory for good.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    data: Data<'a>,
    rows: usize,
    dim: usize,
    row_stride: usize,
    is_unit: bool,
}

#[derive(Clone, Copy, Debug)]
enum Data<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
}

impl<'a> Rows<'a> {
    /// Contiguous rows of `f32`.
    pub fn f32(data: &'a [f32], rows: usize, dim: usize) -> Self {
        Self::new(Data::F32(data), rows, dim)
    }

    /// Contiguous rows of `f16`.
    pub fn f16(data: &'a [f16], rows: usize, dim: usize) -> Self {
        Self::new(Data::F16(data), rows, dim)
    }

    /// Contiguous rows of `bf16`.
    pub fn bf16(data: &'a [bf16], rows: usize, dim: usize) -> Self {
        Self::new(Data::Bf16(data), rows, dim)
    }

    /// The same rows with another distance between their beginnings, in numbers.
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
        self.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Numbers in a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    fn new(data: Data<'a>, rows: usize, dim: usize) -> Self {
        Self {
            data,
            rows,
            dim,
            row_stride: dim,
            is_unit: false,
        }
    }

    /// The rows as contiguous `f32`, once width, length and every number are checked.
    pub(crate) fn to_f32(self, what: RowsOf, dim: usize) -> Result<Vec<f32>, RuntimeError> {
        self.check(what, dim)?;
        let mut values = Vec::with_capacity(self.rows * dim);
        self.append_to(&mut values, 0..self.rows);
        Ok(values)
    }

    /// Checks width, length and every number.
    pub(crate) fn check(&self, what: RowsOf, dim: usize) -> Result<(), RuntimeError> {
        let mismatch = |what, expected, found| RuntimeError::Shape {
            what,
            expected,
            found,
        };
        if self.dim != dim {
            return Err(mismatch(what.width(), dim, self.dim));
        }
        if self.row_stride < self.dim {
            return Err(mismatch(what.stride(), self.dim, self.row_stride));
        }
        let needed = match self.rows {
            0 => 0,
            rows => (rows - 1)
                .checked_mul(self.row_stride)
                .and_then(|start| start.checked_add(dim))
                .unwrap_or(usize::MAX),
        };
        let len = match self.data {
            Data::F32(data) => data.len(),
            Data::F16(data) => data.len(),
            Data::Bf16(data) => data.len(),
        };
        if len < needed {
            return Err(mismatch(what.slice(), needed, len));
        }
        match self.data {
            Data::F32(data) => self.check_numbers(data, what, |number| number),
            Data::F16(data) => self.check_numbers(data, what, f16::to_f32),
            Data::Bf16(data) => self.check_numbers(data, what, bf16::to_f32),
        }
    }

    /// Appends some of the rows, which are checked, as contiguous `f32`.
    pub(crate) fn append_to(&self, values: &mut Vec<f32>, rows: Range<usize>) {
        let start = values.len();
        match self.data {
            Data::F32(data) => self.append(data, rows, values, |number| number),
            Data::F16(data) => self.append(data, rows, values, f16::to_f32),
            Data::Bf16(data) => self.append(data, rows, values, bf16::to_f32),
        }
        if self.is_unit {
            values[start..]
                .chunks_exact_mut(self.dim)
                .for_each(normalise);
        }
    }

    fn row<'b, T>(&self, data: &'b [T], row: usize) -> &'b [T] {
        &data[row * self.row_stride..][..self.dim]
    }

    fn check_numbers<T: Copy>(
        &self,
        data: &[T],
        what: RowsOf,
        convert: impl Fn(T) -> f32,
    ) -> Result<(), RuntimeError> {
        // The squares of numbers below this do not add up to infinity, and NaN is not below it.
        let harmless = (f32::MAX / self.dim.max(1) as f32).sqrt();
        for row in 0..self.rows {
            let numbers = self.row(data, row).iter().map(|number| convert(*number));
            // Without an early exit the loop is one of vector instructions.
            let all = numbers
                .clone()
                .fold(true, |all, number| all & (number.abs() <= harmless));
            if all {
                continue;
            }
            for (column, value) in numbers.clone().enumerate() {
                if !value.is_finite() {
                    return Err(RuntimeError::NotFinite {
                        what: what.name(),
                        row,
                        column,
                        value,
                    });
                }
            }
            let energy: f64 = numbers.map(|number| f64::from(number).powi(2)).sum();
            if energy > f64::from(f32::MAX) && !self.is_unit {
                return Err(RuntimeError::TooLong {
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
        data: &[T],
        rows: Range<usize>,
        values: &mut Vec<f32>,
        convert: impl Fn(T) -> f32,
    ) {
        if self.row_stride == self.dim {
            let numbers = &data[rows.start * self.dim..rows.end * self.dim];
            values.extend(numbers.iter().map(|number| convert(*number)));
            return;
        }
        for row in rows {
            let numbers = self.row(data, row).iter();
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

    fn slice(self) -> &'static str {
        match self {
            Self::Keys => "the length of the slice of keys (at least)",
            Self::Values => "the length of the slice of values (at least)",
            Self::Queries => "the length of the slice of queries (at least)",
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
            Rows::f32(&numbers, 2, 2),
            Rows::f16(&halves, 2, 2),
            Rows::bf16(&brains, 2, 2),
        ] {
            let gathered = rows.with_row_stride(3).to_f32(RowsOf::Keys, 2).unwrap();
            assert_eq!(gathered, [0.5, -2.0, 1.5, 4.0]);
        }
    }

    #[test]
    fn the_last_row_needs_no_stride_behind_it() {
        let numbers = [1.0_f32; 5];
        let rows = Rows::f32(&numbers, 2, 2).with_row_stride(3);
        assert_eq!(rows.to_f32(RowsOf::Keys, 2).unwrap().len(), 4);
    }

    #[test]
    fn unit_rows_have_length_one_whatever_their_size() {
        let numbers = [3.0_f32, 4.0, 0.0, 0.0, 3e38, 4e37, 1e-38, 1e-38];
        let rows = Rows::f32(&numbers, 4, 2).unit();
        let rows = rows.to_f32(RowsOf::Keys, 2).unwrap();
        assert_eq!(rows[..4], [0.6, 0.8, 0.0, 0.0]);
        for row in rows[4..].chunks_exact(2) {
            assert!((row[0].hypot(row[1]) - 1.0).abs() < 1e-6, "{row:?}");
        }
    }

    #[test]
    fn no_rows_are_no_numbers() {
        assert!(
            Rows::f32(&[], 0, 7)
                .to_f32(RowsOf::Keys, 7)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let numbers = [1.0_f32, 2.0, f32::NAN, 4.0];
        let message = |rows: Rows<'_>, dim| rows.to_f32(RowsOf::Values, dim).unwrap_err();
        for (error, part) in [
            (message(Rows::f32(&numbers, 2, 2), 3), "width of the values"),
            (message(Rows::f32(&numbers, 3, 2), 2), "slice of values"),
            (
                message(Rows::f32(&numbers, 2, 2).with_row_stride(1), 2),
                "row stride",
            ),
            (
                message(Rows::f32(&numbers, usize::MAX, 2), 2),
                "slice of values",
            ),
            (
                message(Rows::f32(&numbers, 2, 2), 2),
                "values hold NaN at row 1, column 0",
            ),
        ] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn a_row_whose_squares_add_up_to_infinity_is_refused() {
        let too_long = [1.0_f32, 0.0, 3e19, 0.0];
        let error = Rows::f32(&too_long, 2, 2).to_f32(RowsOf::Keys, 2);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("row 1 of the keys"), "{error}");
        // As long as a row may be, and one that is made a unit row anyway.
        let longest = [1.8e19_f32, 0.0];
        assert!(Rows::f32(&longest, 1, 2).to_f32(RowsOf::Keys, 2).is_ok());
        let unit = Rows::f32(&too_long, 2, 2).unit();
        assert!(unit.to_f32(RowsOf::Keys, 2).is_ok());
    }
}
