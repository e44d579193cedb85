//! A view of numbers as a matrix.

/// A row-major view of a matrix; rows may lie further apart than they are long.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after the other.
    pub(crate) fn new(data: &'a [f32], columns: usize) -> Self {
        assert_eq!(data.len() % columns, 0, "no whole number of rows");
        Self {
            data,
            rows: data.len() / columns,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    /// The columns from `first` on, `count` of them.
    pub(crate) fn columns(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.columns && self.column_stride == 1);
        Self {
            data: &self.data[first.min(self.data.len())..],
            columns: count,
            ..self
        }
    }

    pub(crate) fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    /// Rows or columns of the inner dimension of a product.
    pub(crate) fn part(
        self,
        first_row: usize,
        rows: usize,
        first_column: usize,
        columns: usize,
    ) -> Self {
        assert!(first_row + rows <= self.rows && first_column + columns <= self.columns);
        let start = first_row * self.row_stride + first_column * self.column_stride;
        Self {
            data: &self.data[start..],
            rows,
            columns,
            ..self
        }
    }

    /// Whether every element lies in the data.
    pub(crate) fn is_whole(&self) -> bool {
        let last = (self.rows.max(1) - 1) * self.row_stride
            + (self.columns.max(1) - 1) * self.column_stride;
        self.rows == 0 || self.columns == 0 || last < self.data.len()
    }
}
