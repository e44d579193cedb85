//! What waits for room or for the disk, as futures of any executor.

use super::UserMemory;
use crate::error::{ObserveError, WaitError};
use crate::ledger::ItemId;
use crate::rows::Rows;
use crate::shard::About;
use crate::ticket::Ticket;

impl UserMemory {
    /// [`observe`](Self::observe) for asynchronous programs: where it has to wait, no thread
    /// does.
    ///
    /// Whoever hands over to one memory waits in one line, calls of both kinds, and is served
    /// in the order of arrival. A future stands in line from the first time that it is polled;
    /// those behind it wait until it has been polled to its end or is dropped.
    ///
    /// Dropped before it is ready, it has taken nothing where the call has at most
    /// [`queue_tokens`](crate::RuntimeConfig::queue_tokens) less
    /// [`chunk_tokens`](crate::RuntimeConfig::chunk_tokens) rows: those are taken all at once.
    /// Of a longer call it has taken the rows that had found room, and they are learned.
    ///
    /// With [`WhenFull::Busy`](crate::WhenFull::Busy) it does not wait for room. It still waits
    /// for its turn while an item is forgotten or the memory is rebuilt.
    ///
    /// # Errors
    /// As [`observe`](Self::observe).
    ///
    /// # Examples
    /// ```
    /// # use titans_runtime::{Rows, RuntimeError, UserMemory};
    /// /// Acknowledged when a crash cannot take it any more.
    /// async fn learn(memory: &UserMemory, row: &[f32; 64]) -> Result<(), RuntimeError> {
    ///     let row = Rows::row(row);
    ///     let ticket = memory.observe_async(row, row).await?;
    ///     Ok(ticket.durable().await?)
    /// }
    /// ```
    pub async fn observe_async(
        &self,
        keys: Rows<'_>,
        values: Rows<'_>,
    ) -> Result<Ticket, ObserveError> {
        self.push_async(About::Nothing, keys, values).await
    }

    /// [`observe_item`](Self::observe_item) for asynchronous programs; waits as
    /// [`observe_async`](Self::observe_async) does.
    ///
    /// # Errors
    /// As [`observe_item`](Self::observe_item).
    pub async fn observe_item_async(
        &self,
        item: impl Into<ItemId>,
        keys: Rows<'_>,
        values: Rows<'_>,
    ) -> Result<Ticket, ObserveError> {
        let about = Self::stored(item.into());
        self.push_async(about, keys, values).await
    }

    /// [`flush`](Self::flush) for asynchronous programs: no thread waits.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn flush_async(&self) -> Result<(), WaitError> {
        self.ticket_of_all()?.durable().await
    }

    async fn push_async(
        &self,
        about: About,
        keys: Rows<'_>,
        values: Rows<'_>,
    ) -> Result<Ticket, ObserveError> {
        self.check(about, keys, values)?;
        let line_up = || self.engine.line_up(self.shard.value());
        let (rows, context) = ((keys, values), &self.engine.context);
        let pushed = self.shard.push_async(rows, about, context, line_up);
        let end = pushed.await?;
        self.engine.account(&self.shard);
        Ok(Ticket::new(&self.engine, &self.shard, end))
    }
}
