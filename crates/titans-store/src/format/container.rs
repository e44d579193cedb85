//! A file taken apart and checked, with its tensor sections still packed.

use super::fields::{checksum, matches};
use super::header::Header;
use super::layout::{CODEC_PLAIN, ELEM_BYTES, SECTION_HEADER};
use super::limits::{Limits, MAX_HEADER_LEN, MAX_SECTIONS, at_most};
use super::preamble::Preamble;
use super::section::{Section, parse_table};
use super::trailer;
use crate::error::StoreError;
use crate::image::Stamp;

/// Everything a file says before any section is unpacked.
pub(crate) struct Container<'a> {
    pub(crate) file: &'a [u8],
    pub(crate) preamble: Preamble,
    pub(crate) sections: Vec<Section>,
    pub(crate) header: Header,
    pub(crate) digest: [u8; 32],
}

impl<'a> Container<'a> {
    /// Checks a file from the cheapest fact to the dearest, so that most damage is found
    /// before anything is parsed and everything is bounded before anything is allocated.
    pub(crate) fn parse(file: &'a [u8], limits: &Limits) -> Result<Self, StoreError> {
        at_most("file length", file.len() as u64, limits.max_file_bytes)?;
        let preamble = Preamble::parse(file)?;
        let digest = trailer::verify(file, &preamble)?;
        let count = preamble.section_count;
        at_most("number of sections", u64::from(count), MAX_SECTIONS)?;
        at_most(
            "header length",
            u64::from(preamble.header_len),
            MAX_HEADER_LEN,
        )?;
        let sections = parse_table(file, count)?;
        let header = parse_header(file, &preamble, &sections, limits)?;
        Ok(Self {
            file,
            preamble,
            sections,
            header,
            digest,
        })
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
    limits: &Limits,
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
    matches("raw header length", row.offset, header_len, row.raw_len)?;
    let stored = row.stored(0, file)?;
    checksum(|| "the header".to_owned(), stored, row.offset, row.crc_raw)?;
    Header::parse(stored, limits)
}
