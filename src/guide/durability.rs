//! What survives which failure.
//!
//! # Three moments in the life of a row
//!
//! | moment | means | who tells |
//! | --- | --- | --- |
//! | accepted | [`observe`](crate::UserMemory::observe) has returned: the row waits in RAM | the [`Ticket`](crate::Ticket) |
//! | visible | it is learned, and recalls see it | [`Ticket::wait_visible`](crate::Ticket::wait_visible), or [`visible`](crate::Ticket::visible) to await it |
//! | durable | a file holds it, flushed to the device | [`Ticket::wait`](crate::Ticket::wait), or [`durable`](crate::Ticket::durable) to await it |
//!
//! [`UserMemory::progress`](crate::UserMemory::progress) gives all three as positions in the
//! user's stream. A crash takes what is not durable, and never more. Waiting is for those who
//! need an answer: a ticket that is dropped cancels nothing.
//!
//! A row is learned when its chunk is full, or earlier when somebody waits, flushes or closes.
//!
//! # When snapshots are saved
//!
//! [`RuntimeConfig::durability`](crate::RuntimeConfig::durability) says how far the file may be
//! behind what readers see:
//!
//! | [`Durability`](crate::Durability) | a crash takes at most | for |
//! | --- | --- | --- |
//! | `EveryChunk`, the default | the queue, and two chunks that wait for the disk | most programs |
//! | `Async { max_lag }` | the queue, and `max_lag` chunks | disks that are slower than learning |
//! | `Interval(pause)` | the queue, and what was learned since the last save | many users, few writes to the disk |
//!
//! ```
//! use std::time::Duration;
//! use titanmem::{Durability, Rows, Runtime, RuntimeConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! # let dir = root.path().join("memories");
//! let mut config = RuntimeConfig::default();
//! config.durability = Durability::Interval(Duration::from_secs(3600));
//! let runtime = Runtime::open(&dir, config.clone())?;
//! let memory = runtime.user("ada")?;
//! let row = [0.125_f32; 64];
//! let ticket = memory.observe(Rows::row(&row), Rows::row(&row))?;
//! ticket.wait_visible()?; // recalls see it
//! ticket.wait()?; // whoever waits for the disk does not wait for the hour
//! assert_eq!(memory.progress().durable, 1);
//!
//! let report = runtime.close(Duration::from_secs(30));
//! assert!(report.is_durable());
//! let memory = Runtime::open(&dir, config)?.user("ada")?;
//! assert_eq!(memory.progress().durable, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # What happens when something fails
//!
//! | failure | what you see | what you do |
//! | --- | --- | --- |
//! | the process is killed, the power fails | the newest generation that was acknowledged opens, or a newer one; never a mixture | nothing |
//! | the disk is full, a write is refused | [`Health::Retrying`](crate::Health::Retrying); what was handed over is kept, recalls go on, the save is tried again with a growing pause | make room; [`resume`](crate::UserMemory::resume) tries at once |
//! | a file is damaged | the generation before it opens, the damaged file moves to `quarantine/`, [`skipped`](crate::UserMemory::skipped) is not empty, an alert `damaged_file` | find out why; restore a backup if too much is lost |
//! | a chunk cannot be learned, because numbers leave the finite ones | its tickets report [`Dropped`](crate::WaitError::Dropped), the memory goes on without it | look at the rows, or take a smaller step |
//! | a panic, or an error that trying again does not mend | [`Health::Failed`](crate::Health::Failed): this user is read-only, the others go on | [`resume`](crate::UserMemory::resume): it goes on from the newest durable generation and says what is lost |
//! | bad rows were learned | nothing fails; see [`guide::recall`](super::recall) | [`roll_back`](crate::UserMemory::roll_back) to the generation that you [pinned](crate::UserMemory::pin) |
//!
//! Each kind of call has an error of its own, with a table of what can happen and what to do; all of
//! them become a [`RuntimeError`](crate::RuntimeError) by `?`. `is_retryable` says of each whether
//! the same call can succeed later.
//!
//! # What it rests on
//!
//! That the device keeps what it has acknowledged to `fsync`. Mount options that switch write
//! barriers off (`nobarrier`, `barrier=0`) void every promise on this page. Folders on network
//! file systems are refused unless
//! [`NetworkFolders::Accept`](crate::store::NetworkFolders::Accept) is set, and recognised on
//! Linux only. A device that lies, or damage to everything at once, is what
//! [backups](super::operations#backups) are for.
//!
//! The order of every write and flush, what is done on file systems that lack a call, and how all
//! of it is tested: [docs/durability.md]. The bytes: [docs/titanmem-format.md].
//!
//! [docs/durability.md]: https://github.com/titanmem/titanmem/blob/main/docs/durability.md
//! [docs/titanmem-format.md]: https://github.com/titanmem/titanmem/blob/main/docs/titanmem-format.md
