//! There are no products in bf16, so nothing is screened with them.

/// See the documentation for `x86_64`; there is none on this machine.
#[derive(Debug)]
pub enum Screen {}

/// Columns that were found, for each of some rows.
#[derive(Debug, Default)]
pub struct Found(());

impl Found {
    /// `None`: nothing was noted.
    pub fn of(&self, _row: usize) -> Option<&[u32]> {
        None
    }
}

impl Screen {
    /// `None`.
    pub fn new(_matrix: &[f32], _columns: usize) -> Option<Self> {
        None
    }

    /// Cannot be called.
    pub fn error(&self, _row: &[f32]) -> Option<f32> {
        match *self {}
    }

    /// Cannot be called.
    pub fn find(&self, _rows: &[f32], _thresholds: &[f32], _found: &mut Found) {
        match *self {}
    }

    /// Cannot be called.
    pub fn exact(&self, _row: &[f32], _columns: &[u32], _products: &mut Vec<f32>) {
        match *self {}
    }
}
