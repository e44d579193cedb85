//! What is measured in one row.

use std::fmt;
use std::str::FromStr;

/// A memory and how it is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// An MLP, written in updates of `chunk` tokens.
    Dense {
        dim: usize,
        depth: usize,
        hidden: usize,
        chunk: usize,
        batch: usize,
        /// Tokens in one call: a whole update, or less of it.
        call: usize,
    },
    /// As `Dense`, in whole updates, with products in bf16 and in f32 in turn.
    Rounded {
        dim: usize,
        depth: usize,
        chunk: usize,
    },
    /// The sparse-channel memory, fed a stream of which this percentage is news.
    Sparse { dim: usize, percent: usize },
    /// A stream of as many tokens, through a dense memory or a sparse one.
    Length { dense: bool, tokens: usize },
}

impl Shape {
    /// Hidden layers four times as wide as keys, whole updates.
    pub(crate) fn dense(dim: usize, depth: usize, chunk: usize, batch: usize) -> Self {
        Self::Dense {
            dim,
            depth,
            hidden: 4 * dim,
            chunk,
            batch,
            call: chunk,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Dense {
                dim,
                depth,
                hidden,
                chunk,
                batch,
                call,
            } => write!(f, "dense,{dim},{depth},{hidden},{chunk},{batch},{call}"),
            Self::Rounded { dim, depth, chunk } => write!(f, "rounded,{dim},{depth},{chunk}"),
            Self::Sparse { dim, percent } => write!(f, "sparse,{dim},{percent}"),
            Self::Length { dense, tokens } => write!(f, "length,{},{tokens}", u8::from(dense)),
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
            ("dense", &[dim, depth, hidden, chunk, batch, call])
                if call > 0 && chunk % call == 0 =>
            {
                Ok(Self::Dense {
                    dim,
                    depth,
                    hidden,
                    chunk,
                    batch,
                    call,
                })
            }
            ("rounded", &[dim, depth, chunk]) if chunk > 0 => {
                Ok(Self::Rounded { dim, depth, chunk })
            }
            ("sparse", &[dim, percent]) if percent <= 100 => Ok(Self::Sparse { dim, percent }),
            ("length", &[dense, tokens]) => Ok(Self::Length {
                dense: dense != 0,
                tokens,
            }),
            _ => Err(bad()),
        }
    }
}
