//! Fixed-size fields, read in order and without panics.

use crate::error::StoreError;

/// Reads little-endian fields from the front of a slice.
pub(crate) struct FieldReader<'a> {
    rest: &'a [u8],
    missing: u64,
}

impl<'a> FieldReader<'a> {
    /// Begins at the front of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            missing: 0,
        }
    }

    /// The next `N` bytes; zeros once the slice is used up, which `finish` then reports.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        match self.rest.split_first_chunk::<N>() {
            Some((field, rest)) => {
                self.rest = rest;
                *field
            }
            None => {
                self.missing = self.missing.saturating_add(N as u64);
                [0; N]
            }
        }
    }

    pub(crate) fn u8(&mut self) -> u8 {
        let [byte] = self.bytes();
        byte
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.bytes())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    /// `Ok` when every field asked for was there.
    pub(crate) fn finish(self, expected: usize) -> Result<(), StoreError> {
        if self.missing > 0 {
            return Err(StoreError::TooShort {
                expected: expected as u64,
                found: (expected as u64).saturating_sub(self.missing),
            });
        }
        Ok(())
    }
}

/// `Ok` when `bytes`, which begin at `offset`, are all zero.
pub(crate) fn all_zero(field: &'static str, bytes: &[u8], offset: u64) -> Result<(), StoreError> {
    match bytes.iter().position(|&byte| byte != 0) {
        None => Ok(()),
        Some(at) => Err(StoreError::NotZero {
            field,
            offset: offset.saturating_add(at as u64),
        }),
    }
}

/// `Ok` when the CRC-32 of `bytes`, which begin at `offset`, is `expected`.
pub(crate) fn checksum(
    section: impl FnOnce() -> String,
    bytes: &[u8],
    offset: u64,
    expected: u32,
) -> Result<(), StoreError> {
    let found = crc32fast::hash(bytes);
    if found != expected {
        return Err(StoreError::Checksum {
            section: section(),
            offset,
            expected,
            found,
        });
    }
    Ok(())
}

/// `Ok` when a repeated or derivable number is what the rest of the file implies.
pub(crate) fn matches(
    field: &'static str,
    offset: u64,
    expected: u64,
    found: u64,
) -> Result<(), StoreError> {
    if expected != found {
        return Err(StoreError::Mismatch {
            field,
            offset,
            expected,
            found,
        });
    }
    Ok(())
}
