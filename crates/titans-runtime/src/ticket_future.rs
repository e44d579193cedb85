//! A future that is ready when rows are learned.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::engine::Engine;
use crate::error::WaitError;
use crate::shard::{Lease, Position, Wait, Watermark};

/// Waits, without a thread, until the rows of a [`Ticket`](crate::Ticket) are visible or
/// durable.
///
/// It is made by [`Ticket::visible`](crate::Ticket::visible) and
/// [`Ticket::durable`](crate::Ticket::durable), begins when it is first polled, and runs on any
/// executor. Dropping it cancels nothing of the learning and leaves nothing behind, so a time
/// limit is the executor's: `tokio::time::timeout(limit, ticket.durable())`. While it exists,
/// the memory stays loaded. One that was ready begins anew when it is polled again.
#[must_use = "a future does nothing unless it is awaited"]
pub struct TicketFuture {
    engine: Arc<Engine>,
    shard: Lease,
    wait: Wait,
}

impl TicketFuture {
    pub(crate) fn new(
        engine: &Arc<Engine>,
        shard: &Lease,
        end: Position,
        until: Watermark,
    ) -> Self {
        Self {
            engine: Arc::clone(engine),
            shard: shard.clone(),
            wait: Wait::new(end, until),
        }
    }
}

impl Future for TicketFuture {
    type Output = Result<(), WaitError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            engine,
            shard,
            wait,
        } = &mut *self;
        engine.context.check_process()?;
        if !wait.has_begun() {
            engine.hurry(shard.value(), wait.position, wait.until);
        }
        shard.poll_wait(wait, task)
    }
}

impl Drop for TicketFuture {
    fn drop(&mut self) {
        // In a child of the process, the lock may be held for good.
        if self.wait.has_begun() && self.engine.context.check_process().is_ok() {
            self.shard.stop_waiting(&mut self.wait);
        }
    }
}

impl fmt::Debug for TicketFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketFuture")
            .field("shard", &self.shard.id)
            .field("end", &self.wait.position.tokens)
            .field("until", &self.wait.until)
            .finish()
    }
}
