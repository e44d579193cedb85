//! The same handles for programs on tokio: what can wait is a future.
//!
//! Each call runs its twin on tokio's threads for blocking work, as tokio's own file API
//! does, so no thread of the executor waits for the disk, for learning or for room in a
//! queue. Dropping a future cancels nothing: what it began goes on, rows that were handed
//! over are learned. A wait holds one of tokio's blocking threads (512 by default) while it
//! lasts; wait for the last ticket of a stream rather than for each.
//!
//! ```
//! use titans_runtime::tokio::AsyncRuntime;
//! use titans_runtime::{Rows, RuntimeConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! # let dir = root.path().join("memories");
//! # let executor = tokio::runtime::Builder::new_current_thread().build()?;
//! # executor.block_on(async {
//! let runtime = AsyncRuntime::open(&dir, RuntimeConfig::default()).await?;
//! let alice = runtime.user("alice").await?;
//! let (key, value) = ([0.125; 64], [0.25; 64]);
//! let ticket = alice.observe(Rows::row(&key), Rows::row(&value)).await?;
//! ticket.wait().await?;
//! let recalled = alice.recall(Rows::row(&key)).await?;
//! assert_eq!((recalled.row(0).len(), recalled.info().lag), (64, 0));
//! # Ok(())
//! # })
//! # }
//! ```

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::tokio::task::spawn_blocking;

use crate::rows::RowsOf;
use crate::{
    CloseReport, CommandError, ForgetReceipt, ForgottenItem, ItemId, ObserveError, OpenError,
    Rebuilt, RecallError, Recalled, Resumed, RolledBack, Rows, Runtime, RuntimeConfig, Stats,
    Stopped, StoredUser, TickReport, Ticket, UserId, UserMemory, WaitError,
};

/// [`Runtime`] for programs on tokio. Clones are the same runtime.
#[derive(Clone)]
pub struct AsyncRuntime {
    runtime: Arc<Runtime>,
    /// The process that opened it.
    process: u32,
    forks: u64,
}

impl AsyncRuntime {
    /// [`Runtime::open`].
    ///
    /// # Errors
    /// As [`Runtime::open`].
    ///
    /// # Panics
    /// As every method here that is a future, outside of a tokio runtime.
    pub async fn open(dir: impl AsRef<Path>, config: RuntimeConfig) -> Result<Self, OpenError> {
        let dir = dir.as_ref().to_owned();
        let runtime = blocking(move || Runtime::open(dir, config)).await?;
        Ok(Self {
            runtime: Arc::new(runtime),
            process: std::process::id(),
            forks: titans_process::forks(),
        })
    }

    /// [`Runtime::user`].
    ///
    /// # Errors
    /// As [`Runtime::user`].
    pub async fn user(&self, user: impl Into<UserId>) -> Result<AsyncMemory, OpenError> {
        let user = user.into();
        let memory = self.with(move |runtime| runtime.user(user)).await?;
        Ok(AsyncMemory { memory })
    }

    /// [`Runtime::forget_user`].
    ///
    /// # Errors
    /// As [`Runtime::forget_user`].
    pub async fn forget_user(
        &self,
        user: impl Into<UserId>,
    ) -> Result<Option<ForgetReceipt>, CommandError> {
        let user = user.into();
        self.with(move |runtime| runtime.forget_user(user)).await
    }

    /// [`Runtime::contains`].
    ///
    /// # Errors
    /// As [`Runtime::contains`].
    pub async fn contains(&self, user: impl Into<UserId>) -> Result<bool, OpenError> {
        let user = user.into();
        self.with(move |runtime| runtime.contains(user)).await
    }

    /// [`Runtime::users`], all of them.
    ///
    /// # Errors
    /// As [`Runtime::users`]; what cannot be listed below the folder is among the users.
    pub async fn users(&self) -> Result<Vec<Result<StoredUser, OpenError>>, OpenError> {
        self.with(|runtime| Ok(runtime.users()?.collect())).await
    }

    /// [`Runtime::flush`].
    ///
    /// # Errors
    /// As [`Runtime::flush`].
    pub async fn flush(&self) -> Result<(), WaitError> {
        self.with(Runtime::flush).await
    }

    /// [`Runtime::tick`].
    ///
    /// # Errors
    /// As [`Runtime::tick`].
    pub async fn tick(&self, now: SystemTime) -> Result<TickReport, CommandError> {
        self.with(move |runtime| runtime.tick(now)).await
    }

    /// [`Runtime::stats`].
    ///
    /// # Errors
    /// [`Stopped::Forked`] in a child of the process that opened the runtime.
    pub async fn stats(&self) -> Result<Stats, Stopped> {
        self.with(|runtime| Ok(runtime.stats())).await
    }

    /// [`Runtime::close`]. Calls that begin later, on any clone, get [`Stopped::Closed`];
    /// closing again gives the same report.
    ///
    /// # Errors
    /// [`Stopped::Forked`] in a child of the process that opened the runtime.
    pub async fn close(&self, deadline: Duration) -> Result<CloseReport, Stopped> {
        self.with(move |runtime| Ok(runtime.close(deadline))).await
    }

    fn check_process(&self) -> Result<(), Stopped> {
        crate::context::check_process(self.process, self.forks)
    }

    async fn with<T, E>(
        &self,
        call: impl FnOnce(&Runtime) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Stopped> + Send + 'static,
    {
        self.check_process()?;
        let runtime = Arc::clone(&self.runtime);
        blocking(move || call(&runtime)).await
    }
}

impl fmt::Debug for AsyncRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncRuntime").finish_non_exhaustive()
    }
}

/// [`UserMemory`] for programs on tokio. Clones share the memory.
#[derive(Clone, Debug)]
pub struct AsyncMemory {
    memory: UserMemory,
}

impl AsyncMemory {
    /// The handle itself, for what does not wait:
    /// [`recall_into`](UserMemory::recall_into) of a few rows takes microseconds and writes
    /// into the caller's buffer.
    pub fn sync(&self) -> &UserMemory {
        &self.memory
    }

    /// [`UserMemory::observe`]. Copies the rows, because it may have to wait for room.
    ///
    /// # Errors
    /// As [`UserMemory::observe`].
    pub async fn observe(
        &self,
        keys: Rows<'_>,
        values: Rows<'_>,
    ) -> Result<AsyncTicket, ObserveError> {
        self.hand_over(keys, values, UserMemory::observe).await
    }

    /// [`UserMemory::observe_item`]. Copies the rows, because it may have to wait for room.
    ///
    /// # Errors
    /// As [`UserMemory::observe_item`].
    pub async fn observe_item(
        &self,
        item: impl Into<ItemId>,
        keys: Rows<'_>,
        values: Rows<'_>,
    ) -> Result<AsyncTicket, ObserveError> {
        let item = item.into();
        let observe = move |memory: &UserMemory, keys: Rows<'_>, values: Rows<'_>| {
            memory.observe_item(item, keys, values)
        };
        self.hand_over(keys, values, observe).await
    }

    /// [`UserMemory::forget`]. What it returns has a ticket: [`AsyncTicket::from`] it.
    ///
    /// # Errors
    /// As [`UserMemory::forget`].
    pub async fn forget(
        &self,
        item: impl Into<ItemId>,
    ) -> Result<Option<ForgottenItem>, CommandError> {
        let item = item.into();
        self.with(move |memory| memory.forget(item)).await
    }

    /// [`UserMemory::rebuild`].
    ///
    /// # Errors
    /// As [`UserMemory::rebuild`].
    pub async fn rebuild(&self) -> Result<Rebuilt, CommandError> {
        self.with(UserMemory::rebuild).await
    }

    /// [`UserMemory::recall`], for many rows at once.
    ///
    /// # Errors
    /// As [`UserMemory::recall`].
    pub async fn recall(&self, queries: Rows<'_>) -> Result<Recalled, RecallError> {
        let (key_dim, _) = self.memory.widths();
        let queries = queries.to_f32(RowsOf::Queries, key_dim)?;
        self.with(move |memory| memory.recall(Rows::matrix(&queries, key_dim)))
            .await
    }

    /// [`UserMemory::flush`].
    ///
    /// # Errors
    /// As [`UserMemory::flush`].
    pub async fn flush(&self) -> Result<(), WaitError> {
        self.with(UserMemory::flush).await
    }

    /// [`UserMemory::pin`].
    ///
    /// # Errors
    /// As [`UserMemory::pin`].
    pub async fn pin(&self) -> Result<u64, CommandError> {
        self.with(UserMemory::pin).await
    }

    /// [`UserMemory::roll_back`].
    ///
    /// # Errors
    /// As [`UserMemory::roll_back`].
    pub async fn roll_back(&self) -> Result<RolledBack, CommandError> {
        self.with(UserMemory::roll_back).await
    }

    /// [`UserMemory::resume`].
    ///
    /// # Errors
    /// As [`UserMemory::resume`].
    pub async fn resume(&self) -> Result<Resumed, CommandError> {
        self.with(UserMemory::resume).await
    }

    async fn hand_over(
        &self,
        keys: Rows<'_>,
        values: Rows<'_>,
        observe: impl FnOnce(&UserMemory, Rows<'_>, Rows<'_>) -> Result<Ticket, ObserveError>
        + Send
        + 'static,
    ) -> Result<AsyncTicket, ObserveError> {
        let (key_dim, value_dim) = self.memory.widths();
        let keys = keys.to_f32(RowsOf::Keys, key_dim)?;
        let values = values.to_f32(RowsOf::Values, value_dim)?;
        let ticket = self.with(move |memory| {
            let keys = Rows::matrix(&keys, key_dim);
            observe(memory, keys, Rows::matrix(&values, value_dim))
        });
        Ok(ticket.await?.into())
    }

    async fn with<T, E>(
        &self,
        call: impl FnOnce(&UserMemory) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Stopped> + Send + 'static,
    {
        let memory = self.memory.clone();
        blocking(move || call(&memory)).await
    }
}

/// [`Ticket`] for programs on tokio, which may be dropped as that may. Clones are the same
/// receipt.
#[derive(Clone, Debug)]
pub struct AsyncTicket {
    ticket: Arc<Ticket>,
}

impl From<Ticket> for AsyncTicket {
    fn from(ticket: Ticket) -> Self {
        Self {
            ticket: Arc::new(ticket),
        }
    }
}

impl AsyncTicket {
    /// The ticket itself, for what does not wait.
    pub fn sync(&self) -> &Ticket {
        &self.ticket
    }

    /// [`Ticket::wait`].
    ///
    /// # Errors
    /// As [`Ticket::wait`].
    pub async fn wait(&self) -> Result<(), WaitError> {
        self.with(Ticket::wait).await
    }

    /// [`Ticket::wait_timeout`].
    ///
    /// # Errors
    /// As [`Ticket::wait_timeout`].
    pub async fn wait_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.with(move |ticket| ticket.wait_timeout(timeout)).await
    }

    /// [`Ticket::wait_visible`].
    ///
    /// # Errors
    /// As [`Ticket::wait_visible`].
    pub async fn wait_visible(&self) -> Result<(), WaitError> {
        self.with(Ticket::wait_visible).await
    }

    async fn with(
        &self,
        call: impl FnOnce(&Ticket) -> Result<(), WaitError> + Send + 'static,
    ) -> Result<(), WaitError> {
        let ticket = Arc::clone(&self.ticket);
        blocking(move || call(&ticket)).await
    }
}

/// Runs `call` on a thread for blocking work. Its panic is the caller's.
async fn blocking<T, E>(call: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Stopped> + Send + 'static,
{
    match spawn_blocking(call).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // tokio is shutting down and began nothing new.
            Err(_) => Err(Stopped::Closed.into()),
        },
    }
}
