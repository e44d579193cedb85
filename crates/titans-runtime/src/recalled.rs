//! The answer to a recall, as the caller keeps it.

use std::slice::ChunksExact;

use crate::ledger::Neighbour;

/// What a memory recalled: a row of numbers for each query, and what is known about how good
/// they are.
///
/// ```
/// use titans_runtime::{Rows, Runtime, RuntimeConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let root = tempfile::tempdir()?;
/// # let dir = root.path().join("memories");
/// let runtime = Runtime::open(dir, RuntimeConfig::default())?;
/// let queries = [0.125_f32; 3 * 64];
/// let recalled = runtime.user("alice")?.recall(Rows::matrix(&queries, 64))?;
/// assert_eq!((recalled.rows().len(), recalled.dim()), (3, 64));
/// assert_eq!(recalled.row(2), [0.0; 64]); // nothing was learned
/// assert_eq!(recalled.info().neighbours, []);
/// let numbers: Vec<f32> = recalled.into();
/// # assert_eq!(numbers.len(), 3 * 64);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Recalled {
    pub(crate) values: Vec<f32>,
    pub(crate) dim: usize,
    pub(crate) info: RecallInfo,
}

impl Recalled {
    /// All numbers, one row after the other.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The answer to one query.
    ///
    /// # Panics
    /// If there were no more than `row` queries.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dim..][..self.dim]
    }

    /// The answers, in the order of the queries.
    pub fn rows(&self) -> ChunksExact<'_, f32> {
        self.values.chunks_exact(self.dim)
    }

    /// Numbers in a row: the width of a value.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// What the answers came from, and what is known about how good they are.
    pub fn info(&self) -> &RecallInfo {
        &self.info
    }
}

impl From<Recalled> for Vec<f32> {
    fn from(recalled: Recalled) -> Self {
        recalled.values
    }
}

/// What a recall came from, and what is known about how good it is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RecallInfo {
    /// Version of the snapshot that answered; rises with every chunk learned.
    pub version: u64,
    /// Tokens that were handed over and are not in that snapshot.
    pub lag: u64,
    /// The stored items nearest to what was recalled, best first, each once: not what the
    /// memory holds, but what in the ledger it comes closest to. Empty where nothing was
    /// handed over as an item.
    pub neighbours: Vec<Neighbour>,
    /// How far what was recalled is from the nearest stored item, as the mean over the
    /// queries of `|recalled - value| / |value|`, the scale of the write gate: 0 is that item
    /// exactly, 1 and more is as good as nothing. `None` without items. The surprise of pairs
    /// that are known is what [`surprise_into`](crate::UserMemory::surprise_into) tells.
    pub surprise: Option<f32>,
    /// How often recalls as strong as this one were right, as the mean over the queries:
    /// measured, chunk by chunk, on pairs that the memory has written and on pairs of the
    /// stream before it learned them. Right means closer than `0.7 |value|` to the value.
    /// `None` while there are too few of either kind, and where nothing watches recall.
    pub confidence: Option<f32>,
}
