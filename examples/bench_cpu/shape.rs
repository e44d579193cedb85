//! What is measured in one row.

use std::fmt;
use std::str::FromStr;

/// A memory and how it is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// An MLP with hidden layers four times as wide, written `chunk` tokens per update.
    Dense {
        dim: usize,
        depth: usize,
        chunk: usize,
        batch: usize,
    },
    /// The sparse-channel memory, fed a stream of which this percentage is news.
    Sparse { dim: usize, percent: usize },
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dense {
                dim,
                depth,
                chunk,
                batch,
            } => write!(f, "dense,{dim},{depth},{chunk},{batch}"),
            Self::Sparse { dim, percent } => write!(f, "sparse,{dim},{percent}"),
        }
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no shape");
        let (kind, numbers) = text.split_once(',').ok_or_else(bad)?;
        let numbers: Result<Vec<usize>, _> = numbers.split(',').map(str::parse).collect();
        match (kind, numbers.map_err(|_| bad())?.as_slice()) {
            ("dense", &[dim, depth, chunk, batch]) => Ok(Self::Dense {
                dim,
                depth,
                chunk,
                batch,
            }),
            ("sparse", &[dim, percent]) => Ok(Self::Sparse { dim, percent }),
            _ => Err(bad()),
        }
    }
}
