//! The section table: where each section lies, how it is packed, and that they tile the file.

use super::fields::{FieldReader, all_zero, checksum};
use super::layout::{ALIGN, FLAG_OPTIONAL, PREAMBLE_LEN, ROW_LEN, TRAILER_LEN, align};
use crate::error::StoreError;

/// One row of the section table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Section {
    pub(crate) kind: u16,
    pub(crate) codec: u8,
    pub(crate) elem: u8,
    pub(crate) flags: u32,
    pub(crate) offset: u64,
    pub(crate) stored_len: u64,
    pub(crate) raw_len: u64,
    pub(crate) crc_stored: u32,
    pub(crate) crc_raw: u32,
}

impl Section {
    /// A row whose place and stored checksum are still to come.
    pub(crate) fn new(kind: u16, codec: u8, elem: u8, raw_len: u64, crc_raw: u32) -> Self {
        Self {
            kind,
            codec,
            elem,
            flags: 0,
            offset: 0,
            stored_len: 0,
            raw_len,
            crc_stored: 0,
            crc_raw,
        }
    }

    /// What the seal of an encrypted section binds beside its contents: the preamble and
    /// this row, without the checksum of what is sealed.
    pub(crate) fn bound(&self, preamble: &[u8]) -> Vec<u8> {
        let mut bound = preamble.to_vec();
        let row = Self {
            crc_stored: 0,
            ..*self
        };
        row.append(&mut bound);
        bound
    }

    pub(crate) fn append(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend([self.codec, self.elem]);
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend(self.offset.to_le_bytes());
        bytes.extend(self.stored_len.to_le_bytes());
        bytes.extend(self.raw_len.to_le_bytes());
        bytes.extend(self.crc_stored.to_le_bytes());
        bytes.extend(self.crc_raw.to_le_bytes());
        bytes.extend([0; 8]);
    }

    fn parse(row: &[u8], at: u64) -> Result<Self, StoreError> {
        let mut fields = FieldReader::new(row);
        let section = Self {
            kind: fields.u16(),
            codec: fields.u8(),
            elem: fields.u8(),
            flags: fields.u32(),
            offset: fields.u64(),
            stored_len: fields.u64(),
            raw_len: fields.u64(),
            crc_stored: fields.u32(),
            crc_raw: fields.u32(),
        };
        let reserved: [u8; 8] = fields.bytes();
        fields.finish(ROW_LEN)?;
        all_zero("section table padding", &reserved, at.saturating_add(40))?;
        if section.flags & !FLAG_OPTIONAL != 0 {
            return Err(StoreError::UnknownCode {
                field: "section flags",
                offset: at.saturating_add(4),
                found: u64::from(section.flags),
            });
        }
        Ok(section)
    }

    /// Whether a reader that does not know the kind may skip it.
    pub(crate) fn is_optional(&self) -> bool {
        self.flags & FLAG_OPTIONAL != 0
    }

    /// The stored bytes, checked against their checksum.
    pub(crate) fn stored<'a>(&self, index: usize, file: &'a [u8]) -> Result<&'a [u8], StoreError> {
        let stored = slice(file, self.offset, self.offset.checked_add(self.stored_len))?;
        checksum(
            || format!("section {index}"),
            stored,
            self.offset,
            self.crc_stored,
        )?;
        Ok(stored)
    }
}

/// Reads `count` rows and checks that their sections tile the file.
///
/// Each section begins at the first multiple of 64 after the one before, the bytes between
/// are zero, and the trailer follows the last. So no byte is claimed twice, and none is
/// outside every checksum's reach.
pub(crate) fn parse_table(file: &[u8], count: u16) -> Result<Vec<Section>, StoreError> {
    let table_start = PREAMBLE_LEN as u64;
    let table_end = u64::from(count)
        .checked_mul(ROW_LEN as u64)
        .and_then(|len| len.checked_add(table_start));
    let table = slice(file, table_start, table_end)?;
    let mut sections = Vec::with_capacity(usize::from(count));
    let mut end = table_end.unwrap_or_default();
    for (index, row) in table.chunks_exact(ROW_LEN).enumerate() {
        let at = (index as u64)
            .saturating_mul(ROW_LEN as u64)
            .saturating_add(table_start);
        let section = Section::parse(row, at)?;
        let expected = padded(file, end)?;
        if section.offset != expected {
            return Err(StoreError::Misplaced {
                section: index,
                expected,
                found: section.offset,
            });
        }
        let section_end = section.offset.checked_add(section.stored_len);
        slice(file, section.offset, section_end)?;
        end = section_end.unwrap_or_default();
        sections.push(section);
    }
    let trailer = padded(file, end)?;
    super::fields::matches(
        "end of the last section",
        end,
        (file.len() as u64).saturating_sub(TRAILER_LEN as u64),
        trailer,
    )?;
    Ok(sections)
}

/// The aligned offset at or after `end`, once the bytes between are known to be zero.
fn padded(file: &[u8], end: u64) -> Result<u64, StoreError> {
    let next = align(end);
    let padding = slice(file, end, next)?;
    debug_assert!((padding.len() as u64) < ALIGN);
    all_zero("section padding", padding, end)?;
    Ok(next.unwrap_or_default())
}

/// The bytes from `start` to `end`; `end` is `None` when adding it up overflowed.
fn slice(file: &[u8], start: u64, end: Option<u64>) -> Result<&[u8], StoreError> {
    let range = usize::try_from(start)
        .ok()
        .zip(end.and_then(|end| usize::try_from(end).ok()));
    range
        .and_then(|(start, end)| file.get(start..end))
        .ok_or(StoreError::TooShort {
            expected: end.unwrap_or(u64::MAX),
            found: file.len() as u64,
        })
}
