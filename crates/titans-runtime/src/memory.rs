//! The handle of one user.

use std::fmt;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use titans_store::ShardId;

use crate::engine::Engine;
use crate::error::RuntimeError;
use crate::published::Reader;
use crate::rows::{Rows, RowsOf};
use crate::shard::{Lease, Progress, RolledBack};
use crate::ticket::Ticket;

/// The memory of one user. Cheap to clone; clones share the memory.
///
/// [`observe`](Self::observe) hands rows over and does not wait for learning;
/// [`recall_into`](Self::recall_into) answers from the newest published snapshot and waits
/// for nothing. While a handle or a ticket exists, the memory stays loaded.
pub struct UserMemory {
    engine: Arc<Engine>,
    shard: Lease,
    reader: Reader<ShardId>,
}

/// What a recall came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecallInfo {
    /// Version of the snapshot that answered; rises with every chunk learned.
    pub version: u64,
    /// Tokens that were handed over and are not in that snapshot.
    pub lag: u64,
}

impl UserMemory {
    pub(crate) fn new(engine: Arc<Engine>, shard: Lease) -> Self {
        let reader = Reader::new(shard.id);
        Self {
            engine,
            shard,
            reader,
        }
    }

    /// Hands tokens over to be learned: row `t` of `values` is what row `t` of `keys` should
    /// recall. Learning happens on a thread of the runtime, a chunk at a time; how the
    /// stream was cut into calls makes no difference to what is learned.
    ///
    /// # Errors
    /// [`RuntimeError::Shape`] and [`RuntimeError::NotFinite`] for rows that do not fit,
    /// [`RuntimeError::Busy`] when the queue is full and the configuration says not to wait,
    /// [`RuntimeError::Closed`] and [`RuntimeError::Failed`]. Nothing is taken on the first
    /// three.
    pub fn observe(&self, keys: Rows<'_>, values: Rows<'_>) -> Result<Ticket, RuntimeError> {
        let (key_dim, value_dim) = self.engine.widths();
        if keys.len() != values.len() {
            return Err(RuntimeError::Shape {
                what: "the number of value rows",
                expected: keys.len(),
                found: values.len(),
            });
        }
        keys.check(RowsOf::Keys, key_dim)?;
        values.check(RowsOf::Values, value_dim)?;
        let wake = || self.engine.wake_learner(self.shard.value());
        let end = self.shard.push(keys, values, &self.engine.bounds, wake)?;
        Ok(Ticket::new(&self.engine, &self.shard, end))
    }

    /// Recalls: row `t` of `recalled` becomes what the memory associates with row `t` of
    /// `queries`. Answers from one snapshot, whole, and never waits for a writer.
    ///
    /// # Errors
    /// [`RuntimeError::Shape`] and [`RuntimeError::NotFinite`] for queries that do not fit
    /// and for a buffer that is not `queries x value_dim` long.
    pub fn recall_into(
        &self,
        queries: Rows<'_>,
        recalled: &mut [f32],
    ) -> Result<RecallInfo, RuntimeError> {
        let (key_dim, value_dim) = self.engine.widths();
        let tokens = queries.len();
        let queries = queries.to_f32(RowsOf::Queries, key_dim)?;
        if recalled.len() != tokens * value_dim {
            return Err(RuntimeError::Shape {
                what: "the length of the buffer for what is recalled",
                expected: tokens * value_dim,
                found: recalled.len(),
            });
        }
        let snapshot = self.reader.load(&self.shard.published)?;
        if tokens > 0 {
            let device = self.engine.memory.device();
            let queries =
                Tensor::<2>::from_data(TensorData::new(queries, [tokens, key_dim]), &device);
            let read = self.engine.memory.read(&snapshot.state, queries);
            let read = read
                .into_data_as::<f32>()
                .try_into_vec::<f32>()
                .expect("the data was just converted to f32");
            recalled.copy_from_slice(&read);
        }
        Ok(RecallInfo {
            version: snapshot.version,
            lag: self
                .shard
                .accepted_tokens()
                .saturating_sub(snapshot.state.tokens_seen),
        })
    }

    /// Waits until everything handed over so far is learned and durable.
    ///
    /// # Errors
    /// [`RuntimeError::Failed`] when learning or saving failed.
    pub fn flush(&self) -> Result<(), RuntimeError> {
        let end = self.shard.accepted();
        Ticket::new(&self.engine, &self.shard, end).wait()
    }

    /// Learns and saves everything handed over so far and pins the result as the last known
    /// good: no pruning removes it, and [`roll_back`](Self::roll_back) goes back to it.
    /// Returns the number of the pinned generation.
    ///
    /// # Errors
    /// As [`flush`](Self::flush), and what the store refuses. On any error an earlier pin
    /// stays.
    pub fn pin(&self) -> Result<u64, RuntimeError> {
        self.flush()?;
        self.shard.pin()
    }

    /// Goes back to the pinned generation. What was learned since, and what waits to be
    /// learned, is dropped; the rolled-back memory is durable as a new generation and
    /// visible when this returns. A memory that failed can learn again after it.
    ///
    /// # Errors
    /// What the store refuses, [`NothingPinned`](titans_store::StoreError::NothingPinned)
    /// among it. The memory is as it was then.
    pub fn roll_back(&self) -> Result<RolledBack, RuntimeError> {
        self.engine.roll_back(self.shard.value())
    }

    /// How far this memory has come.
    pub fn progress(&self) -> Progress {
        self.shard.progress()
    }

    /// Tokens that surprised the memory enough to be written, in the newest snapshot.
    pub fn tokens_written(&self) -> u64 {
        self.shard.published.load().state.tokens_written
    }

    /// The name of this memory on disk.
    pub fn shard(&self) -> ShardId {
        self.shard.id
    }

    /// The damaged files that were passed over when this memory was opened, a line each.
    /// Not empty means that something was lost.
    pub fn skipped(&self) -> &[String] {
        self.shard.skipped()
    }
}

impl Clone for UserMemory {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.engine), self.shard.clone())
    }
}

impl fmt::Debug for UserMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserMemory")
            .field("shard", &self.shard.id)
            .field("progress", &self.progress())
            .finish()
    }
}
