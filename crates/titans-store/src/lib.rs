//! The `.titanmem` file format and a crash-safe folder of its generations.
//!
//! A memory that learns is saved after every chunk. Each save is a *generation*: one
//! immutable file that says everything about the memory and depends on no other file, or,
//! where files are large, a record in a journal that says what changed.
//!
//! ```text
//! preamble   96 B   magic, version, feature bits, length, sequence, epoch, owner, CRC-32
//! table      48 B   per section: kind, codec, offset, lengths, CRC-32 packed and unpacked
//! header            MessagePack map: model, digests, shapes, counters, recall
//! tensors           one zstd frame each: coordinates (dense, bitmap, gaps or shared), values
//!                   (32-bit, 16-bit, or 16-bit and what is missing)
//! trailer    64 B   BLAKE3 of everything before, length, sequence, end magic
//! ```
//!
//! - [`encode`] and [`decode`] turn a [`MemoryImage`] into bytes and back, bit for bit.
//! - [`MemoryStore`] writes generations so that a power loss leaves the old one or the new
//!   one, and recovers the newest that verifies.
//! - [`MemoryStore::save_delta`] appends what changed to a journal, with one flush.
//! - [`RecordLog`] keeps what belongs to a memory and is no weight, beside its generations.
//! - [`read_newest`], [`MemoryReader`], [`verify_dir`], [`FolderSummary`], [`inspect`] and
//!   [`inspect_newest`] only look.
//! - [`MemoryStore::roll_back_to`] writes an older generation anew; [`forget`] removes all,
//!   and its [receipt](ForgetReceipt) says what remains in each [`Place`].
//! - [`StoreError::class`] and [`StoreError::may_heal`] say what to do about an error.
//! - [`UserKey`] seals every section (feature `encryption`); `create_backup` and
//!   `restore_backup` move memory, model and configuration in one file (feature `backup`).
//! - [`import_untrusted`] reads files of strangers.
//!
//! The format is told in `docs/titanmem-format.md`, what survives which failure in
//! `docs/durability.md`.
//!
//! No bytes make a reader panic, and none make it allocate more than its [`Limits`] allow.
//!
//! ```
//! use std::collections::BTreeMap;
//! use titans_store::{
//!     ChoiceRecord, MemoryImage, MemoryStore, ModelRecord, ShardId, StoreConfig, TensorRecord,
//!     TensorRole,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let choice = |name: &str| ChoiceRecord { name: name.to_owned(), params: BTreeMap::new() };
//! let shard = ShardId([7; 16]);
//! let image = MemoryImage {
//!     shard,
//!     model: ModelRecord {
//!         preset: "titans".to_owned(),
//!         architecture: choice("mlp"),
//!         attentional_bias: choice("l2"),
//!         retention_gate: choice("l2"),
//!         learning_algorithm: choice("momentum"),
//!     },
//!     base_digest: [0; 32],
//!     model_digest: None,
//!     last_chunk_id: 1,
//!     tokens_seen: 512,
//!     tokens_written: 40,
//!     scalars: BTreeMap::new(),
//!     tensors: vec![TensorRecord {
//!         name: "w_in".to_owned(),
//!         role: TensorRole::Weights,
//!         shape: vec![2, 2],
//!         values: vec![0.5, 0.0, -0.0, 1.5],
//!     }],
//!     recall: None,
//!     created_unix: 0,
//!     rolled_back_from: None,
//!     extra: BTreeMap::new(),
//! };
//!
//! let root = tempfile::tempdir()?;
//! let dir = root.path().join("shard");
//! let (mut store, recovery) = MemoryStore::open(&dir, shard, StoreConfig::default())?;
//! assert!(recovery.image.is_none());
//! let saved = store.save(&image)?;
//! drop(store);
//!
//! let (_store, recovery) = MemoryStore::open(&dir, shard, StoreConfig::default())?;
//! assert_eq!(recovery.generation, Some(saved.generation));
//! assert_eq!(recovery.image, Some(image));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

#[cfg(not(unix))]
compile_error!(
    "titans-store needs a Unix, for its locks, permissions and flushes of folders: see docs/platforms.md"
);

#[cfg(feature = "backup")]
mod backup;
mod codec;
mod error;
mod format;
pub mod fs;
mod image;
mod import;
mod key;
mod schedule;
mod store;

#[cfg(feature = "backup")]
pub use backup::{
    BackupRequest, BackupSummary, ModelPart, ModelSummary, RestoreRequest, create_backup,
    restore_backup, verify_backup,
};
pub use codec::{
    Changed, FileSummary, ImageDelta, Precision, SectionSummary, TensorDelta, TensorSummary,
    decode, decode_with, encode, encode_as, inspect, inspect_with,
};
pub use error::{ErrorClass, StoreError, is_passing};
pub use format::limits::Limits;
pub use fs::{FolderMode, Spent};
pub use image::{
    ChoiceRecord, MemoryImage, ModelRecord, RecallRecord, ShardId, Stamp, TensorRecord, TensorRole,
};
pub use import::{ImportRules, import_untrusted};
pub use key::UserKey;
pub use schedule::BackupSchedule;
pub use store::{
    DeltaCheck, Erasure, FileVerdict, FolderSummary, ForgetReceipt, Generation, Inventory, Item,
    Kept, Left, LogContents, MemoryReader, MemoryStore, NetworkFolders, Place, PlaceReport,
    RecordLog, Recovery, SaveMode, Saved, SavedForm, Skipped, StoreConfig, TornTail, forget,
    forget_on, inspect_newest, is_forgotten, read_newest, remove_backup_folder, verify_dir,
    verify_dir_with,
};

/// The example of the crate's page is compiled, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
