//! An image to bytes: the same image and stamp always give the same bytes.

use super::{frame, planes, sparse};
use crate::error::StoreError;
use crate::format::header::{Header, value_count};
use crate::format::layout::{
    CODEC_BITMAP, CODEC_DENSE, CODEC_GAPS, CODEC_PLAIN, ELEM_BYTES, ELEM_F32, PREAMBLE_LEN,
    ROW_LEN, SECTION_HEADER, SECTION_TENSOR, TRAILER_LEN, align,
};
use crate::format::preamble::Preamble;
use crate::format::section::Section;
use crate::format::trailer;
use crate::image::{MemoryImage, Stamp, TensorRecord};

/// The bytes of `image` as the generation `stamp`.
///
/// # Errors
/// [`StoreError::NotFinite`] when a number is NaN or infinite, [`StoreError::HeaderField`] or
/// [`StoreError::Limit`] when a name, shape or count breaks a rule of the format.
pub fn encode(image: &MemoryImage, stamp: &Stamp) -> Result<Vec<u8>, StoreError> {
    image.tensors.iter().try_for_each(check_tensor)?;
    let header = Header::new(image, stamp);
    let mut packed = vec![Packed::header(header.to_bytes()?)];
    for tensor in &image.tensors {
        packed.push(Packed::tensor(tensor)?);
    }
    assemble(
        packed,
        Preamble::new(stamp.sequence, stamp.writer_epoch, image.shard),
    )
}

/// A section that is ready to be placed.
struct Packed {
    row: Section,
    stored: Vec<u8>,
}

impl Packed {
    fn header(bytes: Vec<u8>) -> Self {
        let crc = crc32fast::hash(&bytes);
        Self::new(
            SECTION_HEADER,
            CODEC_PLAIN,
            ELEM_BYTES,
            (bytes.len(), crc),
            bytes,
        )
    }

    /// The shortest of the forms worth trying.
    fn tensor(tensor: &TensorRecord) -> Result<Self, StoreError> {
        let values = &tensor.values;
        let mut raw = Vec::with_capacity(values.len() * 4);
        planes::append(values.iter().map(|value| value.to_bits()), &mut raw);
        let mut best = Self::compressed(CODEC_DENSE, &raw)?;
        for form in sparse::candidates(values) {
            raw.clear();
            sparse::append(form, values, &mut raw);
            let codec = match form {
                sparse::Form::Bitmap => CODEC_BITMAP,
                sparse::Form::Gaps => CODEC_GAPS,
            };
            let candidate = Self::compressed(codec, &raw)?;
            if candidate.stored.len() < best.stored.len() {
                best = candidate;
            }
        }
        Ok(best)
    }

    fn compressed(codec: u8, raw: &[u8]) -> Result<Self, StoreError> {
        let stored = frame::compress(raw).map_err(|error| StoreError::SelfCheck {
            field: format!("compressed length ({error})"),
        })?;
        let facts = (raw.len(), crc32fast::hash(raw));
        Ok(Self::new(SECTION_TENSOR, codec, ELEM_F32, facts, stored))
    }

    fn new(
        kind: u16,
        codec: u8,
        elem: u8,
        (raw_len, crc_raw): (usize, u32),
        stored: Vec<u8>,
    ) -> Self {
        let row = Section {
            kind,
            codec,
            elem,
            flags: 0,
            offset: 0,
            stored_len: stored.len() as u64,
            raw_len: raw_len as u64,
            crc_stored: crc32fast::hash(&stored),
            crc_raw,
        };
        Self { row, stored }
    }
}

fn check_tensor(tensor: &TensorRecord) -> Result<(), StoreError> {
    let found = tensor.values.len() as u64;
    if value_count(&tensor.shape) != Some(found) {
        return Err(StoreError::HeaderField {
            field: "tensors.shape",
            expected: format!("a shape of {found} values for {:?}", tensor.name),
            found: format!("{:?}", tensor.shape),
        });
    }
    planes::all_finite(&tensor.values, || {
        format!("{} {:?}", tensor.role, tensor.name)
    })
}

fn assemble(mut packed: Vec<Packed>, mut preamble: Preamble) -> Result<Vec<u8>, StoreError> {
    let mut end = (PREAMBLE_LEN + ROW_LEN * packed.len()) as u64;
    for section in &mut packed {
        section.row.offset = aligned(end)?;
        end = section.row.offset + section.row.stored_len;
    }
    let trailer_start = aligned(end)?;

    preamble.file_len = trailer_start + TRAILER_LEN as u64;
    preamble.section_count = fits(packed.len())?;
    preamble.header_len = fits(packed.first().map_or(0, |header| header.stored.len()))?;

    let mut bytes = Vec::with_capacity(fits(preamble.file_len)?);
    bytes.extend(preamble.to_bytes());
    for section in &packed {
        section.row.append(&mut bytes);
    }
    for section in &packed {
        bytes.resize(fits(section.row.offset)?, 0);
        bytes.extend(&section.stored);
    }
    bytes.resize(fits(trailer_start)?, 0);
    trailer::append(&mut bytes, &preamble);
    Ok(bytes)
}

fn aligned(offset: u64) -> Result<u64, StoreError> {
    align(offset).ok_or(StoreError::Limit {
        field: "file length",
        limit: u64::MAX,
        found: offset,
    })
}

fn fits<From, To>(number: From) -> Result<To, StoreError>
where
    To: TryFrom<From>,
{
    To::try_from(number).map_err(|_| StoreError::SelfCheck {
        field: "a length that does not fit its field".to_owned(),
    })
}
