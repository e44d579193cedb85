//! The last 64 bytes: the digest of everything before, and proof that the end is the end.

use super::fields::{FieldReader, all_zero, matches};
use super::layout::{END_MAGIC, TRAILER_LEN};
use super::preamble::Preamble;
use crate::error::StoreError;
use crate::image::hex;

/// Appends the trailer of the file whose other bytes are `body`.
pub(crate) fn append(body: &mut Vec<u8>, preamble: &Preamble) {
    let digest = blake3::hash(body);
    body.extend(digest.as_bytes());
    body.extend(preamble.file_len.to_le_bytes());
    body.extend(preamble.sequence.to_le_bytes());
    body.extend(END_MAGIC);
    body.extend([0; 8]);
}

/// Checks the end of a file against its preamble and its bytes; returns the digest.
///
/// The cheap checks come first: they catch truncated files and files full of zeros, the
/// common marks of a power loss, before anything is hashed.
pub(crate) fn verify(bytes: &[u8], preamble: &Preamble) -> Result<[u8; 32], StoreError> {
    let len = bytes.len() as u64;
    matches("file length in the preamble", 32, len, preamble.file_len)?;
    let Some((body, tail)) = bytes.split_last_chunk::<TRAILER_LEN>() else {
        return Err(StoreError::TooShort {
            expected: TRAILER_LEN as u64,
            found: len,
        });
    };
    let start = body.len() as u64;
    let mut fields = FieldReader::new(tail);
    let expected: [u8; 32] = fields.bytes();
    let file_len = fields.u64();
    let sequence = fields.u64();
    let end_magic: [u8; 8] = fields.bytes();
    let reserved: [u8; 8] = fields.bytes();
    fields.finish(TRAILER_LEN)?;

    matches(
        "end magic",
        start.saturating_add(48),
        u64::from_le_bytes(END_MAGIC),
        u64::from_le_bytes(end_magic),
    )?;
    matches(
        "file length in the trailer",
        start.saturating_add(32),
        len,
        file_len,
    )?;
    matches(
        "sequence in the trailer",
        start.saturating_add(40),
        preamble.sequence,
        sequence,
    )?;
    all_zero("trailer padding", &reserved, start.saturating_add(56))?;

    let found = blake3::hash(body);
    if found.as_bytes() != &expected {
        return Err(StoreError::Digest {
            expected: hex(&expected),
            found: hex(found.as_bytes()),
        });
    }
    Ok(expected)
}
