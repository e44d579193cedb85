//! A receipt for rows that were handed over.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::error::WaitError;
use crate::shard::{Lease, Patience, Position, Watermark};
use crate::ticket_future::TicketFuture;

/// A receipt for the rows of one `observe`: it tells when they are learned and durable.
///
/// Dropping it cancels nothing and waits for nothing: the rows are learned in any case. So a
/// caller who does not need to know need not keep it; [`flush`](crate::UserMemory::flush) waits
/// for everything that was handed over, with tickets or without. What is lost with the ticket is
/// the way to hear that exactly these rows were dropped or rolled back. While it exists, the
/// memory stays loaded.
///
/// A thread waits with [`wait`](Self::wait) or [`wait_visible`](Self::wait_visible); a future,
/// on any executor, awaits [`durable`](Self::durable) or [`visible`](Self::visible). Both are
/// told the same, and any number of either may wait.
pub struct Ticket {
    engine: Arc<Engine>,
    shard: Lease,
    end: Position,
}

impl Ticket {
    pub(crate) fn new(engine: &Arc<Engine>, shard: &Lease, end: Position) -> Self {
        Self {
            engine: Arc::clone(engine),
            shard: shard.clone(),
            end,
        }
    }

    /// The position in the user's stream after the last row, in tokens.
    pub fn position(&self) -> u64 {
        self.end.tokens
    }

    /// Whether readers see the rows learned.
    pub fn is_visible(&self) -> bool {
        self.has_reached(Watermark::Visible)
    }

    /// Whether a crash can no longer take what was learned from the rows.
    pub fn is_durable(&self) -> bool {
        self.has_reached(Watermark::Durable)
    }

    /// A child of the process that opened the runtime may take no lock, and knows nothing.
    fn has_reached(&self, watermark: Watermark) -> bool {
        let is_ours = self.engine.context.check_process().is_ok();
        is_ours && self.shard.has_reached(self.end, watermark)
    }

    /// Waits until the rows are learned and durable. An unfinished chunk is learned as it is.
    ///
    /// # Errors
    /// [`WaitError::Unavailable`] when a save was refused meanwhile: it is tried again, and
    /// waiting again is right. [`WaitError::Dropped`] when the chunk of the rows could not
    /// be learned, [`Stopped::Failed`](crate::Stopped::Failed) when a step failed
    /// for good,
    /// [`WaitError::RolledBack`] when the memory went back since, [`Stopped::Closed`](crate::Stopped::Closed)
    /// when the runtime was closed before.
    pub fn wait(&self) -> Result<(), WaitError> {
        self.wait_until(Watermark::Durable, None)
    }

    /// [`wait`](Self::wait), at most for `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Timeout`], or as [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.wait_until(Watermark::Durable, Instant::now().checked_add(timeout))
    }

    /// Waits until readers see the rows learned. An unfinished chunk is learned as it is.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_visible(&self) -> Result<(), WaitError> {
        self.wait_until(Watermark::Visible, None)
    }

    /// [`wait`](Self::wait) as a future: no thread waits, however many tickets are awaited. A
    /// time limit is the executor's, as in `tokio::time::timeout(limit, ticket.durable())`.
    ///
    /// It keeps what it needs of the ticket, so it can outlive it and move to another task.
    ///
    /// # Errors
    /// What is awaited has the errors of [`wait`](Self::wait).
    ///
    /// # Examples
    /// ```
    /// # use titans_runtime::{Ticket, WaitError};
    /// # async fn example(ticket: Ticket) -> Result<(), WaitError> {
    /// ticket.visible().await?; // recalls see the rows
    /// ticket.durable().await?; // a crash cannot take them
    /// # Ok(())
    /// # }
    /// ```
    pub fn durable(&self) -> TicketFuture {
        TicketFuture::new(&self.engine, &self.shard, self.end, Watermark::Durable)
    }

    /// [`wait_visible`](Self::wait_visible) as a future, as [`durable`](Self::durable) is of
    /// [`wait`](Self::wait).
    ///
    /// # Errors
    /// What is awaited has the errors of [`wait`](Self::wait).
    pub fn visible(&self) -> TicketFuture {
        TicketFuture::new(&self.engine, &self.shard, self.end, Watermark::Visible)
    }

    fn wait_until(&self, watermark: Watermark, deadline: Option<Instant>) -> Result<(), WaitError> {
        let shard = self.shard.value();
        self.engine.context.check_process()?;
        let patience = Patience::OneAttempt;
        self.engine
            .reach(shard, self.end, watermark, patience, deadline)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("shard", &self.shard.id)
            .field("end", &self.end.tokens)
            .finish()
    }
}
