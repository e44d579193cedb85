//! A file taken apart and checked, with its tensor sections still packed.

use std::borrow::Cow;

use super::fields::{checksum, matches};
use super::header::Header;
use super::layout::{CODEC_PLAIN, ELEM_BYTES, PREAMBLE_LEN, SECTION_HEADER};
use super::limits::{MAX_HEADER_LEN, MAX_SECTIONS, at_most};
use super::preamble::{Kind, Preamble};
use super::section::{Section, parse_table};
use super::trailer;
use crate::error::StoreError;
use crate::image::Stamp;
use crate::key::{Access, SEAL_BYTES, unseal};

/// Everything a file says before any section is unpacked.
pub(crate) struct Container<'a> {
    pub(crate) file: &'a [u8],
    access: Access<'a>,
    pub(crate) preamble: Preamble,
    pub(crate) sections: Vec<Section>,
    pub(crate) header: Header,
    pub(crate) digest: [u8; 32],
}

impl<'a> Container<'a> {
    /// Checks a file from the cheapest fact to the dearest, so that most damage is found
    /// before anything is parsed and everything is bounded before anything is allocated.
    pub(crate) fn parse(
        file: &'a [u8],
        access: Access<'a>,
        kind: Kind,
    ) -> Result<Self, StoreError> {
        let limits = access.limits;
        at_most("file length", file.len() as u64, limits.max_file_bytes)?;
        let preamble = Preamble::parse(file)?;
        preamble.expect_kind(kind)?;
        match (preamble.is_encrypted(), access.key) {
            (true, None) => return Err(StoreError::KeyNeeded),
            // A plain file in the place of a sealed one would be believed without any proof.
            (false, Some(_)) => return Err(StoreError::NotEncrypted),
            _ => {}
        }
        let digest = trailer::verify(file, &preamble)?;
        let count = preamble.section_count;
        at_most("number of sections", u64::from(count), MAX_SECTIONS)?;
        at_most(
            "header length",
            u64::from(preamble.header_len),
            MAX_HEADER_LEN.saturating_add(SEAL_BYTES),
        )?;
        let sections = parse_table(file, count)?;
        let header = parse_header(file, &preamble, &sections, access)?;
        Ok(Self {
            file,
            access,
            preamble,
            sections,
            header,
            digest,
        })
    }

    /// The stored bytes of a section, checked, and freed of the seal of an encrypted file.
    pub(crate) fn stored(
        &self,
        index: usize,
        section: &Section,
    ) -> Result<Cow<'a, [u8]>, StoreError> {
        unsealed(self.file, &self.preamble, (index, section), self.access)
    }

    /// What the store added to the image.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp {
            sequence: self.preamble.sequence,
            writer_epoch: self.preamble.writer_epoch,
            parent: self.header.parent(),
        }
    }
}

fn parse_header(
    file: &[u8],
    preamble: &Preamble,
    sections: &[Section],
    access: Access<'_>,
) -> Result<Header, StoreError> {
    let Some(row) = sections.first() else {
        return Err(StoreError::Mismatch {
            field: "number of sections",
            offset: 28,
            expected: 1,
            found: 0,
        });
    };
    let is_header =
        row.kind == SECTION_HEADER && row.codec == CODEC_PLAIN && row.elem == ELEM_BYTES;
    if !is_header {
        return Err(StoreError::UnknownCode {
            field: "kind, codec or element of the header section",
            offset: row.offset,
            found: u64::from(row.kind),
        });
    }
    let header_len = u64::from(preamble.header_len);
    matches(
        "stored header length",
        row.offset,
        header_len,
        row.stored_len,
    )?;
    let seal_bytes = match preamble.is_encrypted() {
        true => SEAL_BYTES,
        false => 0,
    };
    let raw_len = header_len.saturating_sub(seal_bytes);
    matches("raw header length", row.offset, raw_len, row.raw_len)?;
    let stored = unsealed(file, preamble, (0, row), access)?;
    if !preamble.is_encrypted() {
        checksum(|| "the header".to_owned(), &stored, row.offset, row.crc_raw)?;
    }
    Header::parse(&stored, access.limits)
}

/// The stored bytes of a section, checked against their checksum, and against their seal
/// where there is one.
fn unsealed<'a>(
    file: &'a [u8],
    preamble: &Preamble,
    (index, section): (usize, &Section),
    access: Access<'_>,
) -> Result<Cow<'a, [u8]>, StoreError> {
    let stored = section.stored(index, file)?;
    let Some(key) = access.key.filter(|_| preamble.is_encrypted()) else {
        return Ok(Cow::Borrowed(stored));
    };
    matches(
        "raw checksum of a sealed section",
        section.offset,
        0,
        u64::from(section.crc_raw),
    )?;
    let front = file.get(..PREAMBLE_LEN).unwrap_or_default();
    let plain = unseal(key, &section.bound(front), stored).ok_or(StoreError::WrongKey {
        section: index,
        offset: section.offset,
    })?;
    Ok(Cow::Owned(plain))
}
