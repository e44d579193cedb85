//! What the ways to a product have in common: which terms make one chain, and what a chain does
//! to the output.

use crate::matrix::Matrix;

/// Longest sum that is one chain. The pairs of a panel of so many terms are 48 KiB, those of the
/// left factor of 512 rows are half of a second-level cache.
pub(super) const CHAIN: usize = 512;

/// What a product does to the numbers of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// They are not read.
    Set,
    Add,
    Subtract,
}

/// # Panics
/// If neither rows nor columns of a factor are contiguous, or it does not lie in its data.
pub(super) fn check(factor: Matrix<'_>) {
    assert!(factor.is_whole() && (factor.row_stride == 1 || factor.column_stride == 1));
}

/// The chains of a sum: the first term and the number of terms of each.
pub(super) fn chains(terms: usize) -> impl Iterator<Item = (usize, usize)> {
    let chains = terms.div_ceil(CHAIN);
    (0..chains).map(move |chain| {
        let first = terms * chain / chains;
        (first, terms * (chain + 1) / chains - first)
    })
}

/// What a chain does to the output, given what the whole product does.
pub(super) fn change_of_chain(first_term: usize, change: Change) -> Change {
    match change {
        Change::Set if first_term > 0 => Change::Add,
        _ => change,
    }
}

/// Whether there is nothing to multiply; then the output is as it should be.
pub(super) fn is_done(terms: usize, output: &mut [f32], change: Change) -> bool {
    if terms == 0 && change == Change::Set {
        output.fill(0.0);
    }
    terms == 0 || output.is_empty()
}
