//! What the calls that a program makes all the time can give: handing over, asking, waiting.

use std::sync::Arc;

use thiserror::Error;
use titans_store::ShardId;

use super::stopped::Stopped;

/// Why rows were refused at the door. Nothing of the call was taken; the caller has to hand over
/// other rows.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum RowsError {
    /// Rows, or the buffer for an answer, do not have the shape that the call needs.
    #[error("{what} is {found}, expected {expected}")]
    Shape {
        /// Which rows, and which of their sizes.
        what: &'static str,
        /// The size that would fit.
        expected: usize,
        /// The size that was given.
        found: usize,
    },
    /// A slice of rows ends within one.
    #[error(
        "the {what} end within a row: {numbers} numbers, but a row has {dim} and begins every {row_stride}"
    )]
    PartialRow {
        /// Which rows.
        what: &'static str,
        /// Numbers in the slice.
        numbers: usize,
        /// Numbers in a row.
        dim: usize,
        /// Numbers from the beginning of a row to that of the next.
        row_stride: usize,
    },
    /// A number is NaN or infinite.
    #[error("{what} hold {value} at row {row}, column {column}")]
    NotFinite {
        /// Which rows.
        what: &'static str,
        /// The row.
        row: usize,
        /// The column.
        column: usize,
        /// The number.
        value: f32,
    },
    /// A row is so long that the sum of its squares is infinite.
    #[error(
        "row {row} of the {what} has length {length:e}; the square of a length has to be a finite f32, so at most 1.8e19"
    )]
    TooLong {
        /// Which rows.
        what: &'static str,
        /// The row.
        row: usize,
        /// Its length.
        length: f64,
    },
}

impl RowsError {
    /// `Ok` when a size is what the call needs.
    pub(crate) fn expect_size(
        what: &'static str,
        expected: usize,
        found: usize,
    ) -> Result<(), Self> {
        match expected == found {
            true => Ok(()),
            false => Err(Self::Shape {
                what,
                expected,
                found,
            }),
        }
    }
}

/// Why rows were not taken.
///
/// | what happened | what to do |
/// | --- | --- |
/// | [`Rows`](Self::Rows) | hand over rows that fit; nothing was taken |
/// | [`ItemTooLarge`](Self::ItemTooLarge) | hand the item over in pieces; nothing was taken |
/// | [`Busy`](Self::Busy) | try again when something was learned; nothing was taken |
/// | [`RolledBack`](Self::RolledBack) | hand the rows over again if they should be learned |
/// | [`Stopped`](Self::Stopped) | see [`Stopped`]; some of the rows may have been taken before |
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ObserveError {
    /// The rows do not fit, or hold a number that cannot be learned.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// An item has so many rows that a ledger of the configured size could not hold its keys,
    /// even alone.
    #[error(
        "an item of {rows} rows takes {bytes} bytes of the ledger, LedgerConfig::max_bytes is {limit}; hand it over in pieces or without a name"
    )]
    ItemTooLarge {
        /// Rows of the item.
        rows: usize,
        /// Bytes that they would take.
        bytes: usize,
        /// Bytes that there are.
        limit: usize,
    },
    /// The queue of this user has no room, and the configuration says not to wait.
    #[error("the queue of this user holds {queued} tokens, {offered} more exceed {limit}")]
    Busy {
        /// Tokens that wait.
        queued: usize,
        /// Tokens offered.
        offered: usize,
        /// Tokens that may wait.
        limit: usize,
    },
    /// The memory was rolled back while the rows waited for room.
    #[error("the memory was rolled back after these rows were handed over")]
    RolledBack,
    /// Nothing is learned any more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl ObserveError {
    /// Whether the same call may succeed later without anybody changing it: there was no room.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }

    /// Why nothing is done here any more, if that is the reason.
    pub fn stopped(&self) -> Option<&Stopped> {
        match self {
            Self::Stopped(stopped) => Some(stopped),
            _ => None,
        }
    }
}

/// Why a question was not answered.
///
/// | what happened | what to do |
/// | --- | --- |
/// | [`Rows`](Self::Rows) | ask with rows that fit, and a buffer that does |
/// | [`ForeignSnapshot`](Self::ForeignSnapshot) | report it: a bug |
/// | [`Stopped`](Self::Stopped) | only [`Stopped::Forked`]: open a runtime of your own |
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum RecallError {
    /// The rows or the buffer do not fit, or a number is not finite.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// A reader met a snapshot that cannot be its own. A bug, stopped before it leaks.
    #[error("snapshot of shard {found} (version {version}) met a reader of {expected}")]
    ForeignSnapshot {
        /// The reader's shard.
        expected: ShardId,
        /// The snapshot's shard.
        found: ShardId,
        /// The snapshot's version.
        version: u64,
    },
    /// The runtime is of another process.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl RecallError {
    /// Whether the same call may succeed later without anybody changing it: never.
    pub fn is_retryable(&self) -> bool {
        false
    }

    /// Why nothing is done here any more, if that is the reason.
    pub fn stopped(&self) -> Option<&Stopped> {
        match self {
            Self::Stopped(stopped) => Some(stopped),
            _ => None,
        }
    }
}

/// Why what was waited for is not so.
///
/// | what happened | what to do |
/// | --- | --- |
/// | [`Unavailable`](Self::Unavailable) | wait again: what was handed over is kept, and saving is tried again |
/// | [`Timeout`](Self::Timeout) | wait again |
/// | [`Dropped`](Self::Dropped) | the rows are lost; hand over better ones |
/// | [`RolledBack`](Self::RolledBack) | hand the rows over again if they should be learned |
/// | [`Stopped`](Self::Stopped) | see [`Stopped`] |
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WaitError {
    /// A save was refused, for a reason that may pass. What was handed over is kept, what is
    /// visible stays visible, and it is tried again; wait again to be told.
    #[error("not durable yet, it is tried again: {reason}")]
    Unavailable {
        /// What was refused.
        reason: Arc<str>,
    },
    /// The wait was longer than allowed.
    #[error("not done within {waited_ms} ms")]
    Timeout {
        /// The wait in milliseconds.
        waited_ms: u128,
    },
    /// The chunk that held these rows could not be learned: its numbers left the finite ones.
    /// The memory goes on as if they had never been handed over.
    #[error("the chunk that held these rows could not be learned, and was dropped")]
    Dropped,
    /// The memory was rolled back after the rows of this ticket were handed over. They may
    /// or may not be part of what it knows now; hand them over again if they should be.
    #[error("the memory was rolled back after these rows were handed over")]
    RolledBack,
    /// Nothing is learned any more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl WaitError {
    /// Whether waiting again may succeed without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Timeout { .. })
    }

    /// Why nothing is done here any more, if that is the reason.
    pub fn stopped(&self) -> Option<&Stopped> {
        match self {
            Self::Stopped(stopped) => Some(stopped),
            _ => None,
        }
    }
}
