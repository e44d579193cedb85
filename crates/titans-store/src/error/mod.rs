//! Every way a file or a folder of files can be refused.

mod class;
mod path;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

pub use self::class::{ErrorClass, is_passing};
use crate::image::ShardId;
use crate::store::Generation;

/// Why a memory could not be written, read or trusted.
///
/// Errors about bytes say where in the file they arose (`offset`, counted from its first
/// byte) and, where there is one, which row of the section table they belong to
/// (`section`). [`StoreError::InFile`] adds the path.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// An error about one file, with its path.
    #[error("{}: {source}", .path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<StoreError>,
    },
    /// The operating system refused an operation.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file does not begin with the magic bytes of this format.
    #[error("not a titanmem file: expected magic {expected}, found {found}")]
    NotTitanmem {
        /// The magic bytes in hexadecimal.
        expected: String,
        /// The first bytes of the file in hexadecimal.
        found: String,
    },
    /// The file is shorter than the smallest possible one.
    #[error("file is {found} bytes, expected at least {expected}")]
    TooShort {
        /// Bytes that every file has.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// The file was written by a later, incompatible version of the format.
    #[error("format version {found} is newer than this build reads ({expected})")]
    UnknownMajor {
        /// The major version this build reads.
        expected: u16,
        /// The major version of the file.
        found: u16,
    },
    /// The file uses a feature without which it cannot be understood.
    #[error("file needs features that this build lacks (bits {found:#010x})")]
    UnknownFeature {
        /// The feature bits this build does not know.
        found: u32,
    },
    /// A field holds a code that this version does not define.
    #[error("{field} at byte {offset} has the undefined value {found}")]
    UnknownCode {
        /// Which field.
        field: &'static str,
        /// Where it lies.
        offset: u64,
        /// What it holds.
        found: u64,
    },
    /// A required section is of a kind that this build does not know.
    #[error("section {section} at byte {offset} has the unknown kind {found} and is not optional")]
    UnknownSection {
        /// Row of the section table.
        section: usize,
        /// Where the section lies.
        offset: u64,
        /// Its kind.
        found: u16,
    },
    /// Bytes that must be zero are not.
    #[error("{field} at byte {offset} must be zero")]
    NotZero {
        /// What the bytes are.
        field: &'static str,
        /// Where they begin.
        offset: u64,
    },
    /// A length is not what the rest of the file implies.
    #[error("{field} at byte {offset} is {found}, expected {expected}")]
    Mismatch {
        /// Which field.
        field: &'static str,
        /// Where it lies.
        offset: u64,
        /// What the rest of the file implies.
        expected: u64,
        /// What it holds.
        found: u64,
    },
    /// A number exceeds what this reader accepts.
    #[error("{field} is {found}, the limit is {limit}")]
    Limit {
        /// Which number.
        field: &'static str,
        /// The largest accepted value.
        limit: u64,
        /// What was found.
        found: u64,
    },
    /// A checksum does not match its bytes.
    #[error("checksum of {section} at byte {offset} is {found:#010x}, expected {expected:#010x}")]
    Checksum {
        /// What was checked.
        section: String,
        /// Where it lies.
        offset: u64,
        /// The recorded checksum.
        expected: u32,
        /// The checksum of the bytes.
        found: u32,
    },
    /// The digest of the whole file does not match its bytes.
    #[error("digest of the file is {found}, expected {expected}")]
    Digest {
        /// The recorded digest in hexadecimal.
        expected: String,
        /// The digest of the bytes in hexadecimal.
        found: String,
    },
    /// A section does not begin where the one before it ends.
    #[error("section {section} begins at byte {found}, expected {expected}")]
    Misplaced {
        /// Row of the section table.
        section: usize,
        /// The only offset that leaves neither hole nor overlap.
        expected: u64,
        /// The recorded offset.
        found: u64,
    },
    /// The header is not the MessagePack map it must be.
    #[error("header is malformed: {source}")]
    HeaderEncoding {
        /// What the MessagePack reader said.
        source: rmp_serde::decode::Error,
    },
    /// The header could not be put into MessagePack.
    #[error("header cannot be encoded: {source}")]
    HeaderUnwritable {
        /// What the MessagePack writer said.
        source: rmp_serde::encode::Error,
    },
    /// A header field breaks a rule, on the way in or on the way out.
    #[error("header field {field} is {found}, expected {expected}")]
    HeaderField {
        /// Which field.
        field: &'static str,
        /// The rule in words.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// A compressed section is not the single plain frame it must be.
    #[error("compressed section {section} at byte {offset}: {reason}")]
    Frame {
        /// Row of the section table.
        section: usize,
        /// Where the section lies.
        offset: u64,
        /// Which rule it breaks.
        reason: String,
    },
    /// The coordinates of a sparse tensor are not strictly increasing, in range and canonical.
    #[error("coordinates of section {section} at byte {offset}: {reason}")]
    Coordinates {
        /// Row of the section table.
        section: usize,
        /// Where the section lies.
        offset: u64,
        /// Which rule they break.
        reason: &'static str,
    },
    /// A number is NaN or infinite.
    #[error("{field} holds {found} at index {index}, expected finite numbers")]
    NotFinite {
        /// Tensor or header field.
        field: String,
        /// Position inside it.
        index: u64,
        /// The number.
        found: f64,
    },
    /// A weight is too large for the 16-bit floats of a compact file.
    #[error("weights {tensor:?} hold {found} at index {index}, 16-bit floats end at 65504")]
    TooLargeForHalf {
        /// Name of the tensor.
        tensor: String,
        /// Position inside it.
        index: u64,
        /// The weight.
        found: f64,
    },
    /// A caller's account of what changed does not fit the image.
    #[error("changes of tensor {tensor:?} do not fit the image: {reason}")]
    BadDelta {
        /// Name of the tensor.
        tensor: String,
        /// What does not fit.
        reason: String,
    },
    /// The file is encrypted and no key was given.
    #[error("the file is encrypted, a key is needed")]
    KeyNeeded,
    /// A key was given and the file is not encrypted.
    #[error("the file is not encrypted, though a key was given")]
    NotEncrypted,
    /// The seal of a section does not open with this key.
    #[error("section {section} at byte {offset} does not open with this key")]
    WrongKey {
        /// Row of the section table.
        section: usize,
        /// Where the section lies.
        offset: u64,
    },
    /// A key file has another length than a key.
    #[error("{} does not hold a key of 32 bytes", .path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The operating system has no randomness to give.
    #[error("no random numbers: {source}")]
    NoRandomness {
        /// What the operating system said.
        source: io::Error,
    },
    /// A memory of a stranger holds a value beyond what the rules of the import allow.
    #[error("{field} holds {found} at index {index}, the limit of this import is {limit}")]
    TooLarge {
        /// Tensor.
        field: String,
        /// Position inside it.
        index: u64,
        /// The largest accepted absolute value.
        limit: f32,
        /// The value.
        found: f32,
    },
    /// The root mean square of a stranger's tensor is beyond what the import allows.
    #[error("{field} has a root mean square of {found}, the limit of this import is {limit}")]
    TooLoud {
        /// Tensor.
        field: String,
        /// The largest accepted root mean square.
        limit: f64,
        /// What the tensor has.
        found: f64,
    },
    /// A memory of a stranger does not belong to the model or base that is expected.
    #[error("{field} of the imported memory is {found}, expected {expected}")]
    WrongOrigin {
        /// Which digest or shape.
        field: &'static str,
        /// What is expected.
        expected: String,
        /// What the memory says.
        found: String,
    },
    /// The proof that came with a memory does not fit it.
    #[error("the keyed digest of the imported memory is {found}, expected {expected}")]
    WrongProof {
        /// The digest that came with it, in hexadecimal.
        expected: String,
        /// The digest of the bytes, in hexadecimal.
        found: String,
    },
    /// Bytes just written do not read back as the image they came from.
    #[error("encoded bytes do not decode to the image they came from: {field} differs")]
    SelfCheck {
        /// What differs.
        field: String,
    },
    /// The file belongs to another shard.
    #[error("file belongs to shard {found}, expected {expected}")]
    WrongShard {
        /// The shard asked for.
        expected: ShardId,
        /// The shard in the file.
        found: ShardId,
    },
    /// The number inside the file is not the number in its name.
    #[error("file says generation {found}, its name says {expected}")]
    WrongSequence {
        /// The number in the name.
        expected: Generation,
        /// The number in the file.
        found: Generation,
    },
    /// A record of a journal is not whole.
    #[error("record {record} at byte {offset} {reason}")]
    Record {
        /// Which record, counted from 0.
        record: usize,
        /// Where it begins in the journal.
        offset: u64,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A record cannot be applied, because what it follows is lost.
    #[error("generation {generation} follows generation {follows}, which is lost")]
    Orphan {
        /// The generation of the record.
        generation: Generation,
        /// The generation that it changes.
        follows: Generation,
    },
    /// Another store, in this process or another, is open on the folder.
    #[error("{} is held by another writer", .path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The folder can be written by other users of the machine.
    #[error(
        "{} can be written by other users (mode {mode:04o}); take their rights away, or accept the group with FolderMode::Group",
        .path.display()
    )]
    OpenToOthers {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The newest generation uses features that this build can read but not write.
    #[error("{} may only be read: its newest file has write features {found:#010x}", .path.display())]
    ReadOnly {
        /// The folder.
        path: PathBuf,
        /// The feature bits this build does not know.
        found: u32,
    },
    /// The folder lies on a network file system, where locks and flushes promise less.
    #[error("{} lies on a network file system ({kind})", .path.display())]
    NetworkFolder {
        /// The folder.
        path: PathBuf,
        /// Which file system.
        kind: &'static str,
    },
    /// The file system has no locks, without which two writers would not know of each other.
    #[error("{} lies on a file system without locks, and a memory needs one: {source}", .path.display())]
    NoLocks {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The memory was forgotten; its folder only remembers that.
    #[error("the memory in {} was forgotten", .path.display())]
    Forgotten {
        /// The folder.
        path: PathBuf,
    },
    /// An older generation stands where this reader has already seen a newer one.
    #[error(
        "generation {found} of epoch {found_epoch} is older than what was read before ({seen} of epoch {seen_epoch})"
    )]
    Replayed {
        /// The generation read before.
        seen: Generation,
        /// The epoch of its writer.
        seen_epoch: u64,
        /// The generation found.
        found: Generation,
        /// The epoch of its writer.
        found_epoch: u64,
    },
    /// A generation appeared that this store did not write, so it is no longer the only writer.
    #[error("generation {found} appeared beside the next one of this writer ({expected})")]
    Overtaken {
        /// The generation this store was about to write.
        expected: Generation,
        /// The generation found in the folder.
        found: Generation,
    },
    /// The folder holds no such generation.
    #[error("there is no generation {generation} in {}", .path.display())]
    NoSuchGeneration {
        /// The generation asked for.
        generation: Generation,
        /// The folder.
        path: PathBuf,
    },
    /// No generation is pinned as last known good.
    #[error("no generation is pinned in {}", .path.display())]
    NothingPinned {
        /// The folder.
        path: PathBuf,
    },
    /// The folder already holds a memory.
    #[error("{} already holds a memory", .path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A part of a backup is not what its digest says.
    #[error("digest of {blob} in the backup is {found}, expected {expected}")]
    BackupDigest {
        /// Which part.
        blob: String,
        /// The recorded SHA-256 in hexadecimal.
        expected: String,
        /// The SHA-256 of the bytes in hexadecimal.
        found: String,
    },
    /// A backup lacks something, or its parts do not fit together.
    #[error("the backup cannot be used: {reason}")]
    BackupLayout {
        /// What is missing or wrong.
        reason: String,
    },
    /// The memory belongs to another frozen model.
    #[error("{} is not the model of the memory: its digest is {found}, expected {expected}", .path.display())]
    WrongModel {
        /// The model file, or the backup with the model in it.
        path: PathBuf,
        /// The digest that the memory names, in hexadecimal.
        expected: String,
        /// The SHA-256 of the model in hexadecimal.
        found: String,
    },
    /// The file has its name, but the folder could not be flushed: a power loss may undo it.
    #[error("{} is written but not durable: {source}", .path.display())]
    NotDurable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}
