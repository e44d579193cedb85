//! A list of records beside the generations: what belongs to a memory and is no weight.
//!
//! ```text
//! head     40 B   magic, version, flags, zeros, shard, CRC-32, zeros
//! record    8 B   length, rolling CRC-32
//!                 payload
//! ```
//!
//! A log is a file `<name>-<20 digits>.titanrec`. It is created whole, under a temporary
//! name, and then appended to by the writer that created it and by nobody after: a tail that
//! a power loss has cut is never written over. The first change of a later writer is a
//! [`rewrite`](MemoryStore::rewrite_log), which is also how a log gets rid of records that
//! mean nothing any more. The checksum of a record continues the one before it, so what
//! survives is always a prefix of what was appended.
//!
//! The generations do not depend on a log, and a lost log never keeps a memory from opening.

use std::path::PathBuf;

use super::files::{io_error, path_of};
use super::generation::twenty_digits;
use super::recovery::TEMPORARY;
use super::{MemoryStore, files, save};
use crate::error::StoreError;
use crate::format::limits::at_most;
use crate::fs::{StorageFile, write_whole};
use crate::image::ShardId;
use crate::key;

pub(super) const MAGIC: [u8; 8] = *b"TITANREC";
const VERSION: u16 = 1;
const FLAG_SEALED: u16 = 1;
const HEAD_LEN: usize = 40;
const HEAD_CHECKED: usize = 32;
const FRAME_LEN: usize = 8;
const EXTENSION: &str = ".titanrec";

/// A log that can be appended to. Made by [`MemoryStore::open_log`].
#[derive(Debug)]
pub struct RecordLog {
    name: &'static str,
    /// Number of the newest file; 0 when there is none.
    number: u64,
    bytes: u64,
    writing: Option<Writing>,
}

/// The file that this writer has created.
#[derive(Debug)]
struct Writing {
    file: Box<dyn StorageFile>,
    head: [u8; HEAD_LEN],
    records: u64,
    rolling: u32,
}

/// What a log held when it was opened.
#[derive(Debug, Default)]
pub struct LogContents {
    /// The records, in the order in which they were appended.
    pub records: Vec<Vec<u8>>,
    /// Where and why reading ended early. A tail that was cut held nothing acknowledged;
    /// whether it was cut or damaged cannot be told.
    pub ends_early: Option<(PathBuf, StoreError)>,
}

impl RecordLog {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Bytes of its file.
    pub fn file_bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether [`append_to_log`](MemoryStore::append_to_log) is possible: this writer has
    /// created the file, and no append to it has failed.
    pub fn is_appendable(&self) -> bool {
        self.writing.is_some()
    }
}

impl MemoryStore {
    /// Opens the log with this name and reads what it holds; an absent one is empty.
    ///
    /// # Errors
    /// What the operating system says, a log of another shard, of a later version, sealed
    /// with another key, or longer than the limits allow. Damage is no error: it is where
    /// the records end.
    ///
    /// # Panics
    /// If `name` is not made of lower-case letters.
    pub fn open_log(&self, name: &'static str) -> Result<(RecordLog, LogContents), StoreError> {
        assert!(
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase()),
            "the name of a log is lower-case letters, not {name:?}"
        );
        let mut log = RecordLog {
            name,
            number: 0,
            bytes: 0,
            writing: None,
        };
        let mut numbers = self.log_numbers(name)?;
        let Some(newest) = numbers.pop() else {
            return Ok((log, LogContents::default()));
        };
        // What a rewrite has replaced and could not remove.
        for number in numbers {
            self.remove_log_file(name, number)?;
        }
        log.number = newest;
        let file_name = file_name(name, newest);
        let storage = &*self.storage;
        let bytes = files::read_bytes(storage, &file_name, &self.config.limits)?;
        log.bytes = bytes.len() as u64;
        let path = path_of(storage, &file_name);
        let (records, end) = self
            .scan_log(&bytes)
            .map_err(|error| error.in_file(&path))?;
        let ends_early = end.map(|error| (path, error));
        Ok((
            log,
            LogContents {
                records,
                ends_early,
            },
        ))
    }

    /// Replaces everything in the log by `records`, durably. A power loss leaves the old
    /// records or the new ones.
    ///
    /// # Errors
    /// What the operating system says; the old records stay.
    pub fn rewrite_log(
        &self,
        log: &mut RecordLog,
        records: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<(), StoreError> {
        log.writing = None;
        let head = self.log_head();
        let mut bytes = head.to_vec();
        let mut rolling = crc32fast::hash(&head);
        let mut count = 0;
        for record in records {
            rolling = self.push_record(&mut bytes, &head, count, rolling, record.as_ref())?;
            count += 1;
        }
        at_most(
            "log length",
            bytes.len() as u64,
            self.config.limits.max_file_bytes,
        )?;

        let storage = &*self.storage;
        let number = log.number + 1;
        let temporary = format!("{TEMPORARY}{}-{}-{number}", std::process::id(), log.name);
        let name = file_name(log.name, number);
        let written = || {
            let mut file = save::create_temporary(storage, &temporary, bytes.len() as u64)
                .map_err(io_error(storage, "create", &temporary))?;
            write_whole(&mut *file, &bytes).map_err(io_error(storage, "write", &temporary))?;
            file.sync()
                .map_err(io_error(storage, "flush", &temporary))?;
            storage
                .rename_new(&temporary, &name)
                .map_err(io_error(storage, "name", &name))?;
            Ok(file)
        };
        let file = match written() {
            Ok(file) => file,
            Err(error) => {
                let _ = storage.remove(&temporary);
                return Err(error);
            }
        };
        // The number is spent even when nobody knows whether the name survives.
        let replaced = std::mem::replace(&mut log.number, number);
        storage
            .sync_folder()
            .map_err(|source| StoreError::NotDurable {
                path: path_of(storage, &name),
                source,
            })?;
        log.bytes = bytes.len() as u64;
        log.writing = Some(Writing {
            file,
            head,
            records: count,
            rolling,
        });
        if replaced > 0 {
            // The next opening tries again.
            let _ = self.remove_log_file(log.name, replaced);
        }
        Ok(())
    }

    /// Appends records, durably, with one flush.
    ///
    /// # Errors
    /// What the operating system says. The log must be rewritten then: nobody knows how much
    /// of the records is in the file.
    ///
    /// # Panics
    /// If the log [cannot be appended to](RecordLog::is_appendable).
    pub fn append_to_log(
        &self,
        log: &mut RecordLog,
        records: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<(), StoreError> {
        let mut writing = log
            .writing
            .take()
            .expect("a log is appended to by the writer that has created its file");
        let mut bytes = Vec::new();
        for record in records {
            let (head, at, rolling) = (&writing.head, writing.records, writing.rolling);
            writing.rolling = self.push_record(&mut bytes, head, at, rolling, record.as_ref())?;
            writing.records += 1;
        }
        let total = log.bytes + bytes.len() as u64;
        at_most("log length", total, self.config.limits.max_file_bytes)?;
        let storage = &*self.storage;
        let name = file_name(log.name, log.number);
        write_whole(&mut *writing.file, &bytes).map_err(io_error(storage, "append to", &name))?;
        writing
            .file
            .sync_data()
            .map_err(io_error(storage, "flush", &name))?;
        log.bytes = total;
        log.writing = Some(writing);
        Ok(())
    }

    /// Removes the log.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn remove_log(&self, log: &mut RecordLog) -> Result<(), StoreError> {
        log.writing = None;
        for number in self.log_numbers(log.name)? {
            self.remove_log_file(log.name, number)?;
        }
        log.bytes = 0;
        self.storage
            .sync_folder()
            .map_err(|source| StoreError::NotDurable {
                path: self.path().to_owned(),
                source,
            })
    }

    /// Removes what rewriting logs has replaced and could not remove at once, durably: for a
    /// memory that must not keep what its logs held before.
    ///
    /// # Errors
    /// What the operating system says. Until this has succeeded, assume that the older records
    /// are there.
    pub fn remove_replaced_logs(&self) -> Result<(), StoreError> {
        let storage = &*self.storage;
        let names = files::list(storage, "")?;
        let logs: Vec<_> = names.iter().filter_map(|n| parse_file_name(n)).collect();
        let is_replaced =
            |log: &&(&str, u64)| logs.iter().any(|other| other.0 == log.0 && other.1 > log.1);
        for (name, number) in logs.iter().filter(is_replaced) {
            self.remove_log_file(name, *number)?;
        }
        storage
            .sync_folder()
            .map_err(|source| StoreError::NotDurable {
                path: self.path().to_owned(),
                source,
            })
    }

    /// Whether there is a file of the log with this name.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn has_log(&self, name: &str) -> Result<bool, StoreError> {
        self.log_numbers(name).map(|numbers| !numbers.is_empty())
    }

    fn remove_log_file(&self, name: &str, number: u64) -> Result<(), StoreError> {
        let storage = &*self.storage;
        let file = file_name(name, number);
        match storage.remove(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(io_error(storage, "remove", &file)),
        }
    }

    /// The numbers of the files of a log, ascending.
    fn log_numbers(&self, name: &str) -> Result<Vec<u64>, StoreError> {
        let names = files::list(&*self.storage, "")?;
        let number = |file: &String| match parse_file_name(file) {
            Some((found, number)) if found == name => Some(number),
            _ => None,
        };
        let mut numbers: Vec<_> = names.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn log_head(&self) -> [u8; HEAD_LEN] {
        let flags = if self.key.is_some() { FLAG_SEALED } else { 0 };
        let mut bytes = Vec::with_capacity(HEAD_LEN);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.shard.0);
        debug_assert_eq!(bytes.len(), HEAD_CHECKED);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        let mut head = [0; HEAD_LEN];
        for (to, from) in head.iter_mut().zip(bytes) {
            *to = from;
        }
        head
    }

    /// Appends the frame of one record to `bytes`; returns the checksum up to its end.
    fn push_record(
        &self,
        bytes: &mut Vec<u8>,
        head: &[u8; HEAD_LEN],
        index: u64,
        rolling: u32,
        record: &[u8],
    ) -> Result<u32, StoreError> {
        let sealed;
        let payload = match &self.key {
            Some(key) => {
                sealed = key::seal(key, &bound_to(head, index), record)?;
                &sealed
            }
            None => record,
        };
        at_most("record length", payload.len() as u64, u64::from(u32::MAX))?;
        let len = payload.len() as u32;
        let crc = record_crc(rolling, len, payload);
        bytes.extend(len.to_le_bytes());
        bytes.extend(crc.to_le_bytes());
        bytes.extend(payload);
        Ok(crc)
    }

    /// The records in the bytes of a log, and why they end before the bytes do.
    #[allow(clippy::type_complexity)]
    fn scan_log(&self, bytes: &[u8]) -> Result<(Vec<Vec<u8>>, Option<StoreError>), StoreError> {
        let mut records = Vec::new();
        let head = match self.check_log_head(bytes) {
            Ok(head) => head,
            Err(error) if error.is_damage() => return Ok((records, Some(error))),
            Err(error) => return Err(error),
        };
        let mut rolling = crc32fast::hash(head);
        let mut rest = bytes.get(HEAD_LEN..).unwrap_or_default();
        while !rest.is_empty() {
            let index = records.len();
            let Some((payload, behind, crc)) = next_record(rest, rolling) else {
                let error = StoreError::Record {
                    record: index,
                    offset: (bytes.len() - rest.len()) as u64,
                    reason: "does not continue the checksum before it",
                };
                return Ok((records, Some(error)));
            };
            records.push(match &self.key {
                None => payload.to_vec(),
                Some(key) => key::unseal(key, &bound_to(head, index as u64), payload).ok_or(
                    StoreError::WrongKey {
                        section: index,
                        offset: (bytes.len() - rest.len()) as u64,
                    },
                )?,
            });
            (rest, rolling) = (behind, crc);
        }
        Ok((records, None))
    }

    fn check_log_head<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8; HEAD_LEN], StoreError> {
        let head = bytes
            .first_chunk::<HEAD_LEN>()
            .ok_or(StoreError::TooShort {
                expected: HEAD_LEN as u64,
                found: bytes.len() as u64,
            })?;
        let expected = self.log_head();
        if head == &expected {
            return Ok(head);
        }
        // Only a head that is whole is believed about what it says.
        let checked = head.get(..HEAD_CHECKED).unwrap_or_default();
        let crc = field(head, HEAD_CHECKED);
        if crc != crc32fast::hash(checked) || !checked.starts_with(&MAGIC) {
            return Err(StoreError::Record {
                record: 0,
                offset: 0,
                reason: "has a damaged head in front of it",
            });
        }
        let version = field(head, 8) as u16;
        if version != VERSION {
            return Err(StoreError::UnknownMajor {
                expected: VERSION,
                found: version,
            });
        }
        let shard = head.get(16..).and_then(<[u8]>::first_chunk::<16>);
        let shard = ShardId(shard.copied().unwrap_or_default());
        files::check_shard(self.shard, shard)?;
        match self.key {
            Some(_) => Err(StoreError::NotEncrypted),
            None => Err(StoreError::KeyNeeded),
        }
    }
}

/// The log that a file of a folder belongs to.
pub(super) fn log_of(file_name: &str) -> Option<&str> {
    parse_file_name(file_name).map(|(log, _)| log)
}

fn file_name(name: &str, number: u64) -> String {
    format!("{name}-{number:020}{EXTENSION}")
}

fn parse_file_name(file_name: &str) -> Option<(&str, u64)> {
    let (name, digits) = file_name.strip_suffix(EXTENSION)?.split_once('-')?;
    Some((name, twenty_digits(digits)?))
}

/// The payload of the first record of `bytes`, what lies behind it, and the checksum there.
fn next_record(bytes: &[u8], rolling: u32) -> Option<(&[u8], &[u8], u32)> {
    let (frame, rest) = bytes.split_first_chunk::<FRAME_LEN>()?;
    let len = field(frame, 0);
    let (payload, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    let crc = record_crc(rolling, len, payload);
    (crc == field(frame, 4)).then_some((payload, rest, crc))
}

fn record_crc(rolling: u32, len: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(rolling);
    hasher.update(&len.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// What the seal of a record binds beside its contents: no record can be moved to another
/// place or owner.
fn bound_to(head: &[u8; HEAD_LEN], index: u64) -> Vec<u8> {
    [head.as_slice(), &index.to_le_bytes()].concat()
}

fn field(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>);
    field.map_or(0, |field| u32::from_le_bytes(*field))
}
