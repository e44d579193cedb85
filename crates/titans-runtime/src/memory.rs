//! The handle of one user.

mod awaiting;

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use titans_store::ShardId;

use crate::engine::Engine;
use crate::error::{CommandError, ObserveError, RecallError, RowsError, Stopped, WaitError};
use crate::forgetting::ForgottenItem;
use crate::health::Health;
use crate::ledger::{Entry, ItemId};
use crate::memory_snapshot::MemorySnapshot;
use crate::published::Reader;
use crate::recall;
use crate::recalled::{RecallInfo, Recalled};
use crate::rows::{Rows, RowsOf};
use crate::shard::{About, Command, Lease, Progress, Rebuilt, Resumed, RolledBack};
use crate::snapshot::Snapshot;
use crate::ticket::Ticket;

/// The memory of one user. Cheap to clone; clones share the memory.
///
/// [`observe`](Self::observe) hands rows over and does not wait for learning;
/// [`recall`](Self::recall) answers from the newest published snapshot and waits for nothing.
/// While a handle or a ticket exists, the memory stays loaded.
///
/// What waits for room or for the disk has a twin for asynchronous programs, such as
/// [`observe_async`](Self::observe_async). What blocks has none: it belongs on a thread for
/// blocking work. [The page of the crate](crate#asynchronous-programs) shows both.
pub struct UserMemory {
    engine: Arc<Engine>,
    shard: Lease,
    reader: Reader<ShardId>,
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
    /// Where the queue is full it waits for room, behind whoever came before; on a thread of an
    /// executor, await [`observe_async`](Self::observe_async) instead.
    ///
    /// # Errors
    /// [`RowsError`] for rows that do not fit, [`ObserveError::Busy`] when the queue is full and
    /// the configuration says not to wait, and [`Stopped`](crate::Stopped) when the memory takes
    /// nothing any more. Nothing is taken on the first two.
    pub fn observe(&self, keys: Rows<'_>, values: Rows<'_>) -> Result<Ticket, ObserveError> {
        self.push(About::Nothing, keys, values)
    }

    /// [`observe`](Self::observe) of something that has a name: the ledger keeps it, so that
    /// [`RecallInfo::neighbours`] can name it and [`forget`](Self::forget) can take it back.
    /// Pieces that are handed over under one name are one item.
    ///
    /// # Errors
    /// As [`observe`](Self::observe).
    pub fn observe_item(
        &self,
        item: impl Into<ItemId>,
        keys: Rows<'_>,
        values: Rows<'_>,
    ) -> Result<Ticket, ObserveError> {
        self.push(Self::stored(item.into()), keys, values)
    }

    /// What is said of the tokens of an item that is handed over now.
    fn stored(item: ItemId) -> About {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        About::Stored(item, now.map_or(0, |since| since.as_secs()))
    }

    fn push(&self, about: About, keys: Rows<'_>, values: Rows<'_>) -> Result<Ticket, ObserveError> {
        self.check(about, keys, values)?;
        let line_up = || self.engine.line_up(self.shard.value());
        let (rows, context) = ((keys, values), &self.engine.context);
        let end = self.shard.push(rows, about, context, line_up)?;
        self.engine.account(&self.shard);
        Ok(Ticket::new(&self.engine, &self.shard, end))
    }

    /// An error where the rows cannot be handed over, whatever the memory holds.
    fn check(&self, about: About, keys: Rows<'_>, values: Rows<'_>) -> Result<(), ObserveError> {
        let context = &self.engine.context;
        context.check_process()?;
        let (key_dim, value_dim) = context.widths();
        keys.check_shape(RowsOf::Keys, key_dim)?;
        values.check_shape(RowsOf::Values, value_dim)?;
        RowsError::expect_size("the number of value rows", keys.len(), values.len())?;
        keys.check_numbers(RowsOf::Keys)?;
        values.check_numbers(RowsOf::Values)?;
        let limit = context.bounds.ledger_bytes;
        if let About::Stored(..) = about
            && limit > 0
        {
            let bytes = Entry::bytes_of(keys.len(), (key_dim, value_dim));
            if bytes > limit {
                return Err(ObserveError::ItemTooLarge {
                    rows: keys.len(),
                    bytes,
                    limit,
                });
            }
        }
        Ok(())
    }

    /// Recalls: row `t` of the answer is what the memory associates with row `t` of `queries`.
    /// Answers from one snapshot, whole, and never waits for a writer.
    ///
    /// ```
    /// # use titans_runtime::{Rows, Runtime, RuntimeConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let root = tempfile::tempdir()?;
    /// # let runtime = Runtime::open(root.path().join("memories"), RuntimeConfig::default())?;
    /// # let alice = runtime.user("alice")?;
    /// # let (key, value) = ([0.125_f32; 64], [0.25_f32; 64]);
    /// alice.observe(Rows::row(&key), Rows::row(&value))?.wait()?;
    /// let recalled = alice.recall(Rows::row(&key))?;
    /// assert!((recalled.row(0)[0] - value[0]).abs() < 1e-3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RowsError`] for queries that do not fit.
    pub fn recall(&self, queries: Rows<'_>) -> Result<Recalled, RecallError> {
        let snapshot = self.load()?;
        let mut recalled = recall::recall(&self.engine.context, &snapshot, queries)?;
        recalled.info.lag = self.lag(&snapshot);
        Ok(recalled)
    }

    /// [`recall`](Self::recall) into a buffer that is used again and again, where every
    /// allocation counts.
    ///
    /// # Errors
    /// [`RowsError`] for queries that do not fit and for a buffer that is not
    /// `queries x value_dim` long.
    pub fn recall_into(
        &self,
        queries: Rows<'_>,
        recalled: &mut [f32],
    ) -> Result<RecallInfo, RecallError> {
        let snapshot = self.load()?;
        let mut info = recall::recall_into(&self.engine.context, &snapshot, queries, recalled)?;
        info.lag = self.lag(&snapshot);
        Ok(info)
    }

    /// Tokens that were handed over and are not in a snapshot.
    fn lag(&self, snapshot: &Snapshot) -> u64 {
        let accepted = self.shard.accepted_tokens();
        accepted.saturating_sub(snapshot.state.tokens_seen)
    }

    /// How much each pair would surprise the memory: `|M(key) - value| / |value|`, which is
    /// what the write gate compares with its threshold. 0 is known, 1 is new. Nothing is
    /// learned.
    ///
    /// # Errors
    /// [`RowsError`] for rows that do not fit and for a buffer that is not as long as there are
    /// pairs.
    pub fn surprise_into(
        &self,
        keys: Rows<'_>,
        values: Rows<'_>,
        surprise: &mut [f32],
    ) -> Result<(), RecallError> {
        let snapshot = self.load()?;
        recall::surprise(&self.engine.context, &snapshot, keys, values, surprise)
    }

    /// What the memory knows now, to recall from it several times while it learns on.
    ///
    /// # Errors
    /// [`RecallError::ForeignSnapshot`], which is a bug.
    pub fn snapshot(&self) -> Result<MemorySnapshot, RecallError> {
        let snapshot = self.load()?;
        Ok(MemorySnapshot::new(&self.engine, snapshot))
    }

    fn load(&self) -> Result<Arc<Snapshot>, RecallError> {
        self.engine.context.check_process()?;
        Ok(self.reader.load(&self.shard.published)?)
    }

    /// Takes an item back: approximately at once, by writing under its keys until they recall
    /// hardly anything, behind everything that was handed over. Waits until the item itself
    /// is learned. `None` when the ledger does not know the item: it
    /// was never handed over under this name, was forgotten, or is older than the ledger.
    ///
    /// Until [`rebuild`](Self::rebuild), items that shared features with it may still carry a
    /// trace, and older generations on disk hold it. A rollback to one of those forgets the
    /// item again.
    ///
    /// # Errors
    /// [`CommandError`]. After an error call again.
    pub fn forget(&self, item: impl Into<ItemId>) -> Result<Option<ForgottenItem>, CommandError> {
        self.engine.context.check_process()?;
        self.engine.forget_item(&self.shard, item.into())
    }

    /// Learns the tokens that are kept again, without the items that were forgotten, so that
    /// the memory is bit for bit as if they had never been handed over. Then removes every
    /// older generation, the pinned one included, for they hold them. Readers keep what they
    /// have meanwhile; `observe` waits.
    ///
    /// Positions in the stream change: tickets from before report
    /// [`WaitError::RolledBack`].
    ///
    /// # Errors
    /// [`CommandError::NoReplay`] when [`LedgerConfig::replay_bytes`](crate::LedgerConfig) is
    /// 0 or the tokens are not there, and as [`flush`](Self::flush): the memory is as it was.
    /// [`CommandError::Unfinished`] when the memory is rebuilt and something that held the
    /// items could not be removed yet.
    pub fn rebuild(&self) -> Result<Rebuilt, CommandError> {
        self.engine.context.check_process()?;
        self.engine.rebuild(&self.shard)
    }

    /// Waits until everything handed over so far is learned and durable.
    ///
    /// # Errors
    /// As [`Ticket::wait`].
    pub fn flush(&self) -> Result<(), WaitError> {
        self.ticket_of_all()?.wait()
    }

    /// A ticket for everything that was handed over so far.
    fn ticket_of_all(&self) -> Result<Ticket, Stopped> {
        self.engine.context.check_process()?;
        let end = self.shard.accepted();
        Ok(Ticket::new(&self.engine, &self.shard, end))
    }

    /// Learns and saves everything handed over so far and pins the result as the last known
    /// good: no pruning removes it, and [`roll_back`](Self::roll_back) goes back to it.
    /// Returns the number of the pinned generation.
    ///
    /// # Errors
    /// As [`flush`](Self::flush), and what the store refuses. After an error the earlier pin
    /// holds, or the new one where only the earlier one's file could not be removed.
    pub fn pin(&self) -> Result<u64, CommandError> {
        self.flush()?;
        self.engine.order(self.shard.value(), Command::Pin)
    }

    /// Goes back to the pinned generation. What was learned since, and what waits to be
    /// learned, is dropped; the rolled-back memory is durable as a new generation and
    /// visible when this returns. A memory that failed can learn again after it.
    ///
    /// Items that were forgotten after the pin are forgotten once more, by tokens behind the
    /// pinned ones; if the process ends in the middle of this, when the memory is next opened.
    ///
    /// # Errors
    /// What the store refuses, [`NothingPinned`](titans_store::StoreError::NothingPinned)
    /// among it; the memory is as it was then. [`CommandError::Unfinished`] when it is rolled
    /// back and an item could not be forgotten once more.
    pub fn roll_back(&self) -> Result<RolledBack, CommandError> {
        self.engine.context.check_process()?;
        self.engine.roll_back(&self.shard)
    }

    /// Brings the memory back to work, without closing the runtime.
    ///
    /// A memory that [failed](Health::Failed) goes on from its newest durable generation; what
    /// was handed over behind it is lost, and the report says how many tokens that is. One
    /// that is [frozen](Health::Frozen) goes on as it is. One whose saves
    /// [fail](Health::Retrying) tries again at once. A healthy one is left alone.
    ///
    /// # Errors
    /// [`WaitError::Unavailable`] when a save is refused again, and what the store refuses
    /// when the files are opened. The memory is as it was then.
    pub fn resume(&self) -> Result<Resumed, CommandError> {
        self.engine.context.check_process()?;
        self.engine.resume(&self.shard)
    }

    /// How the memory is: whether it works, and if not, why. In a child of the process that
    /// opened the runtime it is [closed](Health::Closed).
    pub fn health(&self) -> Health {
        match self.engine.context.check_process() {
            Ok(()) => self.shard.health(),
            Err(_) => Health::Closed,
        }
    }

    /// How far this memory has come. A child of the process that opened the runtime is told
    /// what was known before the fork, and that nothing is durable.
    pub fn progress(&self) -> Progress {
        match self.engine.context.check_process() {
            Ok(()) => self.shard.progress(),
            Err(_) => self.shard.progress_without_locks(),
        }
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
