//! The bytes of a record log.
//!
//! ```text
//! head     40 B   magic, version, flags, zeros, shard, CRC-32, zeros
//! record    8 B   length, rolling CRC-32
//!                 payload
//! ```
//!
//! The checksum of a record continues the one before it, and the first that of the head: a
//! record in another place, or behind another one, is damage.

use super::{MemoryStore, files};
use crate::error::StoreError;
use crate::format::limits::at_most;
use crate::image::ShardId;
use crate::key;

/// What every log begins with.
pub(super) const MAGIC: [u8; 8] = *b"TITANREC";
const VERSION: u16 = 1;
const FLAG_SEALED: u16 = 1;
/// Bytes in front of the records.
pub(super) const HEAD_LEN: usize = 40;
const HEAD_CHECKED: usize = 32;
const FRAME_LEN: usize = 8;

impl MemoryStore {
    pub(super) fn log_head(&self) -> [u8; HEAD_LEN] {
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
    pub(super) fn push_record(
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
    pub(super) fn scan_log(
        &self,
        bytes: &[u8],
    ) -> Result<(Vec<Vec<u8>>, Option<StoreError>), StoreError> {
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
