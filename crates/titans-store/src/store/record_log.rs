//! A list of records beside the generations: what belongs to a memory and is no weight.
//!
//! A log is a file `<name>-<20 digits>.titanrec`. It is created whole, under a temporary
//! name, and then appended to by the writer that created it and by nobody after: a tail that
//! a power loss has cut is never written over. The first change of a later writer is a
//! [`rewrite`](MemoryStore::rewrite_log), which is also how a log gets rid of records that
//! mean nothing any more. What survives is always a prefix of what was appended.
//!
//! The generations do not depend on a log, and a lost log never keeps a memory from opening.

use std::path::PathBuf;

use super::files::{io_error, path_of};
use super::generation::twenty_digits;
use super::names::TEMPORARY;
use super::record_bytes::HEAD_LEN;
use super::{MemoryStore, files, save};
use crate::error::StoreError;
use crate::format::limits::at_most;
use crate::fs::{StorageFile, write_whole};

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
