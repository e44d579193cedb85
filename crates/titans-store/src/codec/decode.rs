//! Bytes to an image. Bytes may come from anywhere: no input panics, none allocates more
//! than the limits allow.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::expect_used
)]

use super::{frame, planes, sparse};
use crate::error::StoreError;
use crate::format::container::Container;
use crate::format::fields::{checksum, matches};
use crate::format::header::{Header, TensorEntry};
use crate::format::layout::{CODEC_BITMAP, CODEC_DENSE, CODEC_GAPS, ELEM_F32, SECTION_TENSOR};
use crate::format::limits::Limits;
use crate::format::section::Section;
use crate::image::{MemoryImage, ShardId, Stamp, TensorRecord};

/// The image and the stamp that `bytes` hold.
///
/// # Errors
/// Any damage, any unknown major version or required feature, and anything past `limits`.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<(MemoryImage, Stamp), StoreError> {
    let decoded = decode_all(bytes, limits)?;
    Ok((decoded.image, decoded.stamp))
}

/// An image with the facts that only the store asks for.
pub(crate) struct Decoded {
    pub(crate) image: MemoryImage,
    pub(crate) stamp: Stamp,
    pub(crate) digest: [u8; 32],
    pub(crate) unknown_ro_compat: u32,
}

/// [`decode`] with the digest and the features of the file.
pub(crate) fn decode_all(bytes: &[u8], limits: &Limits) -> Result<Decoded, StoreError> {
    let container = Container::parse(bytes, limits)?;
    let tensors = decode_tensors(&container)?;
    let stamp = container.stamp();
    let preamble = container.preamble;
    Ok(Decoded {
        image: image(container.header, preamble.shard, tensors),
        stamp,
        digest: container.digest,
        unknown_ro_compat: preamble.unknown_ro_compat(),
    })
}

fn decode_tensors(container: &Container<'_>) -> Result<Vec<TensorRecord>, StoreError> {
    let mut entries = container.header.tensors.iter();
    let mut tensors = Vec::with_capacity(entries.len());
    for (index, section) in container.sections.iter().enumerate().skip(1) {
        let stored = section.stored(index, container.file)?;
        if section.kind == SECTION_TENSOR {
            let entry = entries.next().ok_or_else(|| count_mismatch(container))?;
            let values = decode_values(section, index, stored, entry)?;
            tensors.push(TensorRecord {
                name: entry.name.clone(),
                role: entry.role,
                shape: entry.shape.clone(),
                values,
            });
        } else if !section.is_optional() {
            return Err(StoreError::UnknownSection {
                section: index,
                offset: section.offset,
                found: section.kind,
            });
        }
    }
    if entries.next().is_some() {
        return Err(count_mismatch(container));
    }
    Ok(tensors)
}

fn decode_values(
    section: &Section,
    index: usize,
    stored: &[u8],
    entry: &TensorEntry,
) -> Result<Vec<f32>, StoreError> {
    let offset = section.offset;
    let unknown = |field, found: u8| StoreError::UnknownCode {
        field,
        offset,
        found: u64::from(found),
    };
    if section.elem != ELEM_F32 {
        return Err(unknown("element of a section", section.elem));
    }
    let count = entry
        .value_count()
        .and_then(|count| usize::try_from(count).ok());
    let count = count.ok_or_else(|| count_overflow(entry))?;
    let raw_len = raw_len(section, count as u64)
        .ok_or_else(|| unknown("codec of a section", section.codec))??;

    let raw = frame::decompress(stored, raw_len).map_err(|reason| StoreError::Frame {
        section: index,
        offset,
        reason,
    })?;
    let name = || format!("the raw bytes of section {index}");
    checksum(name, &raw, offset, section.crc_raw)?;

    let values = match section.codec {
        CODEC_BITMAP => sparse::parse(sparse::Form::Bitmap, &raw, count),
        CODEC_GAPS => sparse::parse(sparse::Form::Gaps, &raw, count),
        _ => planes::join(&raw)
            .map(Iterator::collect)
            .ok_or("the values are not whole"),
    };
    let values = values.map_err(|reason| StoreError::Coordinates {
        section: index,
        offset,
        reason,
    })?;
    planes::all_finite(&values, || format!("{} {:?}", entry.role, entry.name))?;
    Ok(values)
}

/// How many bytes to make room for, once the shape says that they are plausible.
///
/// `None` for a codec that this version does not define. A coordinate gap costs one byte and
/// one more for at least 128 zeros skipped, so all gaps of a tensor fit in `count` bytes.
fn raw_len(section: &Section, count: u64) -> Option<Result<usize, StoreError>> {
    let found = section.raw_len;
    let dense = count.saturating_mul(4);
    let most = match section.codec {
        CODEC_DENSE => dense,
        CODEC_BITMAP => dense.saturating_add(count.div_ceil(8)),
        CODEC_GAPS => dense.saturating_add(count).saturating_add(8),
        _ => return None,
    };
    if section.codec == CODEC_DENSE
        && let Err(error) = matches("raw length of a section", section.offset, most, found)
    {
        return Some(Err(error));
    }
    Some(match usize::try_from(found) {
        Ok(len) if found <= most => Ok(len),
        _ => Err(StoreError::Mismatch {
            field: "raw length of a sparse section, at most",
            offset: section.offset,
            expected: most,
            found,
        }),
    })
}

fn count_mismatch(container: &Container<'_>) -> StoreError {
    let is_tensor = |section: &&Section| section.kind == SECTION_TENSOR;
    StoreError::HeaderField {
        field: "tensors",
        expected: format!(
            "{} entries, one per tensor section",
            container.sections.iter().filter(is_tensor).count()
        ),
        found: format!("{} entries", container.header.tensors.len()),
    }
}

fn count_overflow(entry: &TensorEntry) -> StoreError {
    StoreError::HeaderField {
        field: "tensors.shape",
        expected: "a number of values that this machine can address".to_owned(),
        found: format!("{:?}", entry.shape),
    }
}

fn image(header: Header, shard: ShardId, tensors: Vec<TensorRecord>) -> MemoryImage {
    MemoryImage {
        shard,
        model: header.model,
        base_digest: header.base_digest.0,
        model_digest: header.model_digest.map(|digest| digest.0),
        last_chunk_id: header.last_chunk_id,
        tokens_seen: header.tokens_seen,
        tokens_written: header.tokens_written,
        scalars: header.scalars,
        tensors,
        recall: header.recall,
        created_unix: header.created_unix,
        rolled_back_from: header.rolled_back_from,
        extra: header.extra,
    }
}
