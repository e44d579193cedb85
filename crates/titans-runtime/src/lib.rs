//! Learning while serving: many users' memories, read without a lock while they learn.
//!
//! The life of a token:
//!
//! ```text
//! observe --> queue of the user --> learner: one chunk --> publish --> saver: one file
//!   returns at once      bounded       private copy        a swap       fsync, then durable
//!                                                            |
//!                                                recall <----+   loads the newest snapshot
//! ```
//!
//! - [`Runtime`] owns a folder, [`UserMemory`] is one user in it, [`Ticket`] tells when what
//!   was handed over is visible and durable.
//! - Rows come in as host slices ([`Rows`]); no tensor type is in any signature.
//! - Chunks end at multiples of the configured length in the whole stream, so what is learned
//!   does not depend on how the caller cut it.
//! - A failure is one user's. A full disk is waited for, with what was handed over kept; a
//!   chunk that cannot be learned is dropped and its ticket says so; a panic makes the memory
//!   read-only until [`UserMemory::resume`]. [`UserMemory::health`] tells.
//! - [`Runtime::tick`] takes cold backups that are due.
//!
//! Metrics go through the `metrics` facade, for whatever recorder the program installs, and
//! [`Runtime::stats`] says the same without one; `docs/observability.md` lists them and the
//! `tracing` spans. No user id is in a label or a field; traces name shards by their hash.
//!
//! ```
//! use titans_runtime::{Rows, Runtime, RuntimeConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! # let dir = root.path().join("memories");
//! let runtime = Runtime::open(&dir, RuntimeConfig::default())?;
//! let alice = runtime.user("alice")?;
//!
//! let key: Vec<f32> = (0..64).map(|i| (i as f32).sin()).collect();
//! let value: Vec<f32> = (0..64).map(|i| (i as f32).cos()).collect();
//! let ticket = alice.observe(Rows::row(&key), Rows::row(&value))?;
//! ticket.wait()?;
//!
//! let recalled = alice.recall(Rows::row(&key))?;
//! assert_eq!(recalled.info().lag, 0);
//! assert!(recalled.row(0).iter().zip(&value).all(|(r, v)| (r - v).abs() < 1e-4));
//! # Ok(())
//! # }
//! ```
//! # Asynchronous programs
//!
//! Nothing here knows an executor, and what waits is a future of any: tickets
//! ([`Ticket::durable`], [`Ticket::visible`]), rows that wait for room
//! ([`UserMemory::observe_async`]), a flush ([`UserMemory::flush_async`]). No thread waits for
//! them; a waker is called when what they wait for has come or will not come. It is called on a
//! thread of the runtime, so it should schedule a task, as those of executors do, and not run it.
//! Time limits are the executor's, and a future that is dropped has cancelled nothing that was
//! handed over.
//!
//! [`recall`](UserMemory::recall) is computed where it is called: tens of microseconds for one
//! query of the default memory, as `docs/benchmarks.md` has it. Hundreds of queries at once belong
//! on a thread for blocking work.
//!
//! The rest blocks, because it opens, reads or removes files: [`Runtime::open`],
//! [`user`](Runtime::user) of a memory that is not loaded, `forget`, `pin`, `roll_back`,
//! `rebuild`, `resume`, `tick`, `Runtime::flush`, and `close`, which dropping the runtime does,
//! too. Call those on a thread for blocking work, which every executor has. A thread of the
//! executor that blocks in one of them, or in [`UserMemory::observe`], may wait for a future
//! that only this thread could go on with.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use titans_runtime::{Rows, Runtime, RuntimeConfig};
//! use tokio::task::spawn_blocking;
//! use tokio::time::timeout;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! # let dir = root.path().join("memories");
//! # let mut executor = tokio::runtime::Builder::new_current_thread();
//! # executor.enable_time().build()?.block_on(async {
//! let runtime = spawn_blocking(|| Runtime::open(dir, RuntimeConfig::default())).await??;
//! let runtime = Arc::new(runtime);
//!
//! let users = Arc::clone(&runtime);
//! let alice = spawn_blocking(move || users.user("alice")).await??;
//!
//! let row = [0.125; 64];
//! let row = Rows::row(&row);
//! let ticket = alice.observe_async(row, row).await?;
//! timeout(Duration::from_secs(10), ticket.durable()).await??;
//!
//! let recalled = alice.recall(row)?;
//! assert_eq!(recalled.info().lag, 0);
//!
//! let report = spawn_blocking(move || runtime.close(Duration::from_secs(30))).await?;
//! assert!(report.is_durable());
//! # Ok(())
//! # })
//! # }
//! ```
#![forbid(unsafe_code)]

#[cfg(not(unix))]
compile_error!("titans-runtime needs a Unix, as its files do: see docs/platforms.md");
#[cfg(not(target_pointer_width = "64"))]
compile_error!("titans-runtime counts bytes and tokens in 64 bits: see docs/platforms.md");

mod alert;
mod backup;
mod block_on;
mod checkpoint;
mod closing;
mod compute;
mod config;
mod context;
mod devices;
mod engine;
mod error;
mod existing;
mod forgetting;
mod gate;
mod health;
mod learner;
mod ledger;
mod locks;
mod memory;
mod memory_snapshot;
mod metric;
mod number_ids;
mod published;
mod recall;
mod recalled;
mod replay;
mod root;
mod rows;
mod runtime;
mod saver;
mod scheduler;
mod setters;
mod shard;
mod snapshot;
mod stats;
mod sync;
mod table;
mod ticket;
mod ticket_future;
mod user;
mod user_id;
mod users;
mod watch;

pub use alert::{Alert, AlertKind, AlertSink, Alerts};
pub use backup::{BackupConfig, BackupDriver, BackupFailure, TickReport};
pub use closing::{CloseReport, UserReport};
#[doc(hidden)]
pub use config::StorageHook;
pub use config::{Durability, RuntimeConfig, SettingName, SettingsError, WhenFull};
pub use error::{
    CommandError, IoError, ObserveError, OpenError, RecallError, RowsError, RuntimeError, Stopped,
    WaitError,
};
pub use existing::ExistingError;
pub use forgetting::ForgottenItem;
pub use health::Health;
pub use ledger::{ItemId, LedgerConfig, Neighbour};
#[cfg(debug_assertions)]
#[doc(hidden)]
pub use locks::shake_locks;
pub use memory::UserMemory;
pub use memory_snapshot::{MemorySnapshot, StoredItem};
pub use metric::describe_metrics;
pub use recalled::{RecallInfo, Recalled};
pub use rows::{Element, Rows};
pub use runtime::Runtime;
pub use shard::{Progress, Rebuilt, Resumed, RolledBack};
pub use stats::{Latency, Stats};
pub use ticket::Ticket;
pub use ticket_future::TicketFuture;
pub use titans_store::{
    BackupSummary, Erasure, FolderMode, ForgetReceipt, Left, Place, PlaceReport, ShardId,
};
pub use user_id::UserId;
pub use users::{StoredUser, Users};
pub use watch::{OnDrop, ProbeScore, RecallWatch};

/// The example of the crate's page is compiled, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
