//! A journal: one writer's changes since one generation, each record a generation.
//!
//! ```text
//! head    128 B   preamble of kind 3, digest of the generation that the first record follows
//! record   32 B   length, number of the generation, last chunk, rolling CRC-32
//!                 payload (a delta in the form of a file), zeros up to a multiple of 8
//! ```
//!
//! The checksum of a record continues the one before it, so a record that survived a power
//! loss while an earlier one did not is not believed, nor is one from another journal. A
//! journal is appended to by the writer that created it and by nobody after: a cut tail is
//! never overwritten, and a journal whose flush failed is never flushed again.

use std::io;
use std::ops::Range;

use super::files::{io_error, path_of};
use super::generation::{Generation, JournalName};
use crate::error::StoreError;
use crate::format::fields::{FieldReader, all_zero, matches};
use crate::format::layout::{JOURNAL_HEAD_LEN, PREAMBLE_LEN, RECORD_ALIGN, RECORD_HEAD_LEN};
use crate::format::limits::{Limits, at_most};
use crate::format::preamble::{Kind, Preamble};
use crate::fs::{Storage, StorageFile, write_whole};
use crate::image::ShardId;

/// Bytes of a record head that its checksum covers; the checksum follows them.
const RECORD_CHECKED: usize = 24;

/// A journal that was read, as far as it is whole.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) name: JournalName,
    bytes: Vec<u8>,
    pub(super) records: Vec<Record>,
    /// Where and why reading ended before the end of the file.
    pub(super) end: Option<End>,
}

/// One whole record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) generation: Generation,
    /// The generation that it follows.
    pub(super) follows: Generation,
    pub(super) last_chunk_id: u64,
    payload: Range<usize>,
}

/// Why a journal ends before its file does.
#[derive(Debug)]
pub(super) enum End {
    /// Nothing follows the broken record: an append was cut short.
    Torn(StoreError),
    /// More follows, so the record was whole once.
    Damaged(StoreError),
}

impl Journal {
    /// Reads a journal and checks the frames of its records, not their contents.
    ///
    /// # Errors
    /// When the file cannot be read, belongs to another shard or is too new. Damage is no
    /// error: it is where the journal ends.
    pub(super) fn read(
        storage: &dyn Storage,
        name: JournalName,
        shard: Option<ShardId>,
        limits: &Limits,
    ) -> Result<Self, StoreError> {
        let file_name = name.file_name();
        // A journal gives way to a new base once it is as long as the old one.
        let most = limits.max_file_bytes.saturating_mul(2);
        let bytes = storage
            .read(&file_name, most.saturating_add(1))
            .map_err(io_error(storage, "read", &file_name))?;
        let path = path_of(storage, &file_name);
        at_most("journal length", bytes.len() as u64, most)
            .map_err(|error| error.in_file(&path))?;
        let mut journal = Self {
            name,
            bytes,
            records: Vec::new(),
            end: None,
        };
        match journal.scan(shard) {
            Ok(()) => Ok(journal),
            Err(error) if error.is_damage() => {
                // The first append flushes the head with its record, so a head that is not
                // whole belongs to an append that was cut, unless a second record proves
                // that the first was acknowledged.
                let is_continued = is_continued(&journal.bytes, JOURNAL_HEAD_LEN, name.base, 0);
                journal.end = Some(match is_continued {
                    true => End::Damaged(error),
                    false => End::Torn(error),
                });
                Ok(journal)
            }
            Err(error) => Err(error.in_file(&path)),
        }
    }

    /// A journal of which the disk gives nothing.
    pub(super) fn unreadable(name: JournalName, error: StoreError) -> Self {
        Self {
            name,
            bytes: Vec::new(),
            records: Vec::new(),
            end: Some(End::Damaged(error)),
        }
    }

    /// The bytes of a record's delta.
    pub(super) fn payload(&self, record: &Record) -> &[u8] {
        self.bytes.get(record.payload.clone()).unwrap_or_default()
    }

    fn scan(&mut self, shard: Option<ShardId>) -> Result<(), StoreError> {
        let preamble = Preamble::parse(&self.bytes)?;
        preamble.expect_kind(Kind::Journal)?;
        if let Some(expected) = shard.filter(|&shard| shard != preamble.shard) {
            return Err(StoreError::WrongShard {
                expected,
                found: preamble.shard,
            });
        }
        matches(
            "generation of a journal",
            40,
            self.name.base.number(),
            preamble.sequence,
        )?;
        matches(
            "epoch of a journal",
            48,
            self.name.epoch,
            preamble.writer_epoch,
        )?;
        let Some(head) = self.bytes.get(..JOURNAL_HEAD_LEN) else {
            return Err(StoreError::TooShort {
                expected: JOURNAL_HEAD_LEN as u64,
                found: self.bytes.len() as u64,
            });
        };
        let mut rolling = crc32fast::hash(head);
        let mut follows = self.name.base;
        let mut at = JOURNAL_HEAD_LEN;
        while at < self.bytes.len() {
            let index = self.records.len();
            match parse_record(&self.bytes, at, index, follows, rolling) {
                Ok((record, next, crc)) => {
                    follows = record.generation;
                    rolling = crc;
                    at = next;
                    self.records.push(record);
                }
                Err(error) => {
                    self.end = Some(match is_continued(&self.bytes, at, follows, rolling) {
                        false => End::Torn(error),
                        true => End::Damaged(error),
                    });
                    break;
                }
            }
        }
        Ok(())
    }
}

/// The record at byte `at`, where the next one begins, and the checksum up to there.
fn parse_record(
    bytes: &[u8],
    at: usize,
    index: usize,
    follows: Generation,
    rolling: u32,
) -> Result<(Record, usize, u32), StoreError> {
    let broken = |reason: &'static str| StoreError::Record {
        record: index,
        offset: at as u64,
        reason,
    };
    let rest = bytes.get(at..).unwrap_or_default();
    let head = rest
        .get(..RECORD_HEAD_LEN)
        .ok_or_else(|| broken("is cut off"))?;
    let mut fields = FieldReader::new(head);
    let len = fields.u32();
    let flags = fields.u32();
    let generation = Generation::new(fields.u64());
    let last_chunk_id = fields.u64();
    let crc = fields.u32();
    let reserved = fields.u32();
    let start = at.saturating_add(RECORD_HEAD_LEN);
    let end = usize::try_from(len)
        .ok()
        .and_then(|len| start.checked_add(len));
    let end = end.ok_or_else(|| broken("is cut off"))?;
    let next = end
        .checked_next_multiple_of(RECORD_ALIGN)
        .filter(|&next| next <= bytes.len())
        .ok_or_else(|| broken("is cut off"))?;
    let body = bytes.get(start..next).unwrap_or_default();
    let mut hasher = crc32fast::Hasher::new_with_initial(rolling);
    hasher.update(head.get(..RECORD_CHECKED).unwrap_or_default());
    hasher.update(body);
    if hasher.finalize() != crc {
        return Err(broken("does not continue the checksum before it"));
    }
    if flags != 0 || reserved != 0 {
        return Err(broken("has reserved bytes that are not zero"));
    }
    all_zero(
        "record padding",
        bytes.get(end..next).unwrap_or_default(),
        end as u64,
    )?;
    if generation <= follows {
        return Err(broken("has a number that does not rise"));
    }
    let record = Record {
        generation,
        follows,
        last_chunk_id,
        payload: start..end,
    };
    Ok((record, next, crc))
}

/// How many places are tried for a record behind a broken one, so that a hostile journal
/// cannot make this slow.
const MAX_TRIES: usize = 64;

/// Whether a whole record lies somewhere behind the broken one at `at` and continues it.
///
/// A cut append leaves some sectors of one record, in which no record can be found. A record
/// behind proves that the broken one was acknowledged once.
fn is_continued(bytes: &[u8], at: usize, follows: Generation, rolling: u32) -> bool {
    let Some(head) = bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<RECORD_HEAD_LEN>())
    else {
        return false;
    };
    let field = |from: usize| {
        let field = head.get(from..).and_then(|field| field.first_chunk::<4>());
        field.map_or(0, |field| u32::from_le_bytes(*field))
    };
    // What the record behind continues: the checksum as it stands, in case anything else is
    // broken, or the one that the bytes have, in case the checksum itself is.
    let mut seeds = vec![field(RECORD_CHECKED)];
    let start = at.saturating_add(RECORD_HEAD_LEN);
    let end = usize::try_from(field(0))
        .unwrap_or(usize::MAX)
        .saturating_add(start);
    let end = end
        .checked_next_multiple_of(RECORD_ALIGN)
        .unwrap_or(usize::MAX);
    if let Some(body) = bytes.get(start..end) {
        let mut hasher = crc32fast::Hasher::new_with_initial(rolling);
        hasher.update(head.get(..RECORD_CHECKED).unwrap_or_default());
        hasher.update(body);
        seeds.push(hasher.finalize());
    }
    let is_plausible = |&behind: &usize| {
        let number = bytes
            .get(behind.saturating_add(8)..)
            .and_then(|rest| rest.first_chunk::<8>())
            .map_or(0, |number| u64::from_le_bytes(*number));
        (1..=1024).contains(&number.saturating_sub(follows.number()))
    };
    let continues = |behind: usize| {
        let record = |&seed: &u32| parse_record(bytes, behind, 0, follows, seed);
        seeds.iter().any(|seed| record(seed).is_ok())
    };
    (start..bytes.len())
        .step_by(RECORD_ALIGN)
        .filter(is_plausible)
        .take(MAX_TRIES)
        .any(continues)
}

/// A journal that is being written.
#[derive(Debug)]
pub(super) struct Appender {
    pub(super) file_name: String,
    file: Box<dyn StorageFile>,
    rolling: u32,
    pub(super) bytes: u64,
    pub(super) records: u64,
}

impl Appender {
    /// Creates a journal for what follows the generation with the digest `identity`. Nothing
    /// is durable yet.
    pub(super) fn create(
        storage: &dyn Storage,
        name: JournalName,
        shard: ShardId,
        identity: &[u8; 32],
    ) -> io::Result<Self> {
        let mut preamble = Preamble::new(name.base.number(), name.epoch, shard);
        preamble.kind = Kind::Journal;
        let mut head = preamble.to_bytes().to_vec();
        debug_assert_eq!(head.len(), PREAMBLE_LEN);
        head.extend(identity);
        let file_name = name.file_name();
        let mut file = storage.create(&file_name, 0)?;
        write_whole(&mut *file, &head)?;
        Ok(Self {
            file_name,
            file,
            rolling: crc32fast::hash(&head),
            bytes: head.len() as u64,
            records: 0,
        })
    }

    /// Appends one record and flushes it. After an error the journal must be given up.
    pub(super) fn append(
        &mut self,
        generation: Generation,
        last_chunk_id: u64,
        payload: &[u8],
    ) -> io::Result<u64> {
        let len = u32::try_from(payload.len())
            .map_err(|_| io::Error::other("a record is longer than 4 GiB"))?;
        let mut record = Vec::with_capacity(RECORD_HEAD_LEN + payload.len() + RECORD_ALIGN);
        record.extend(len.to_le_bytes());
        record.extend([0; 4]);
        record.extend(generation.number().to_le_bytes());
        record.extend(last_chunk_id.to_le_bytes());
        let body_len = payload.len().next_multiple_of(RECORD_ALIGN);
        let mut hasher = crc32fast::Hasher::new_with_initial(self.rolling);
        hasher.update(&record);
        hasher.update(payload);
        hasher.update(&[0; RECORD_ALIGN][..body_len - payload.len()]);
        let rolling = hasher.finalize();
        record.extend(rolling.to_le_bytes());
        record.extend([0; 4]);
        record.extend(payload);
        record.resize(RECORD_HEAD_LEN + body_len, 0);
        write_whole(&mut *self.file, &record)?;
        self.file.sync_data()?;
        self.rolling = rolling;
        self.bytes += record.len() as u64;
        self.records += 1;
        Ok(record.len() as u64)
    }
}
