//! What is protected, and what is not.
//!
//! # Who is trusted
//!
//! The process, its owner on the machine, and the root user. Everything else is treated as
//! somebody else's: other users of the machine, files that come from elsewhere, rows that come
//! from your own users.
//!
//! # Protected
//!
//! | against | how |
//! | --- | --- |
//! | other users of the machine | folders are made with mode 0700 and files with 0600; a folder that others may write, and a `root.key` that others may read, are refused. [`FolderMode::Group`](crate::FolderMode::Group) accepts the group of a shared volume, nobody more |
//! | names in listings, logs and metrics | the id of a user never reaches the disk: the folder is a keyed hash under `root.key`. Names of items are no secret: of a text the files hold a hash that needs no key. No label, field or message has an id; traces and alerts name the hash |
//! | ids as paths | the hash has a fixed form, so no id climbs out of the folder or meets another's |
//! | one user's memory reaching another | a memory, a queue and a folder for each; shared parameters are frozen. A reader that meets another user's snapshot gets [`ForeignSnapshot`](crate::RecallError::ForeignSnapshot), no rows |
//! | a second writer | locks on the root and on each memory, with a number in the files for whoever lost a lock and comes back |
//! | damage by chance | every byte of a file is covered by a checksum |
//! | hostile files | no bytes make a reader panic, or allocate more than its [`Limits`](crate::store::Limits); symbolic links below a folder are not followed. A file of a stranger comes in by [`import_untrusted`](crate::store::import_untrusted), which bounds its values and strips what it claims |
//! | rows that poison by their form | NaN, infinities and rows too long to be squared are refused before anything is taken |
//! | rows that poison by their content | only in part: the [watch over recall](super::recall), [`pin`](crate::UserMemory::pin) and [`roll_back`](crate::UserMemory::roll_back) find and take back what makes a memory forget. What makes it remember a wrong thing is yours to keep out |
//!
//! # Not protected
//!
//! - **Secrecy on disk.** The files of a [`Runtime`](crate::Runtime) are not encrypted, nor are
//!   its backups. `root.key` hides names, not contents. A memory is personal data: rows that were
//!   handed over can be recalled from it, the ledger holds the keys of items, and the probes hold
//!   pairs as they came. Put the folder on an encrypted volume.
//! - **A key for each user.** [`UserKey`](crate::store::UserKey) and
//!   [`MemoryStore::open_encrypted`](crate::store::MemoryStore::open_encrypted) seal every section
//!   of a file, for programs that use the [`store`](crate::store) by themselves. The runtime has
//!   no setting for a key, and refuses a folder that needs one.
//! - **Deliberate change of a file.** Checksums and digests have no key: whoever can write into
//!   the folder can make a file that verifies. A keyed proof exists for imports alone
//!   ([`ImportRules::proof`](crate::store::ImportRules::proof)).
//! - **RAM.** States, queues and recalled rows are not wiped, and may reach swap and core dumps.
//! - **A model that is steered.** A file can be well formed and hold associations that somebody
//!   chose. Ask an imported memory questions before you use it.
//! - **Quotas.** `observe` takes what fits the queue. How often a user may call it is yours to
//!   limit.
//!
//! # Forgetting
//!
//! [`Runtime::forget_user`](crate::Runtime::forget_user) removes everything of a memory in every
//! place that it knows, the backups that the runtime made among them, and returns a
//! [receipt](crate::ForgetReceipt): for each place what was there and what remains.
//! [`is_complete`](crate::ForgetReceipt::is_complete) is what an auditor wants to see.
//!
//! ```
//! use titanmem::store::Erasure;
//! use titanmem::{Rows, Runtime, RuntimeConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! # let dir = root.path().join("memories");
//! let runtime = Runtime::open(&dir, RuntimeConfig::default())?;
//! let row = [0.125_f32; 64];
//! runtime.user("ada")?.observe(Rows::row(&row), Rows::row(&row))?.wait()?;
//!
//! let receipt = runtime.forget_user("ada")?.expect("there was a memory");
//! assert!(receipt.is_complete());
//! // The names are gone. What a flash device keeps of the blocks is beyond this program.
//! assert_eq!(receipt.erasure, Erasure::Unlinked);
//! # Ok(())
//! # }
//! ```
//!
//! It does not reach backups that were moved, copies outside the folders, nor blocks that a
//! device still holds. One [item](crate::UserMemory::forget) can be taken back at once and
//! approximately; [`rebuild`](crate::UserMemory::rebuild) takes it back exactly, if
//! [`replay_bytes`](crate::LedgerConfig::replay_bytes) kept what is needed. The places and the
//! order: [docs/forgetting.md].
//!
//! # Code
//!
//! This crate, the runtime, the store, the mathematics and the GPU kernels forbid `unsafe`. What
//! the libraries of this family have of it is vector instructions and one matrix product in
//! `titans-cpu`, and one call of the C library in `titans-process`. Nothing opens a network connection.
//!
//! [docs/forgetting.md]: https://github.com/titanmem/titanmem/blob/main/docs/forgetting.md
