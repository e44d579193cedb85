//! Bytes to an image. Bytes may come from anywhere: no input panics, none allocates more
//! than the limits allow.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::expect_used
)]

use super::tensor::{self, Earlier, Sparse};
use super::values::Element;
use super::{Precision, frame, planes};
use crate::error::StoreError;
use crate::format::carried::{Carried, CarriedSection};
use crate::format::container::Container;
use crate::format::fields::{checksum, matches};
use crate::format::header::{Header, TensorEntry};
use crate::format::layout::{CODEC_BITMAP, CODEC_DENSE, CODEC_GAPS, SECTION_TENSOR};
use crate::format::limits::Limits;
use crate::format::preamble::Kind;
use crate::format::section::Section;
use crate::image::{MemoryImage, ShardId, Stamp, TensorRecord};
use crate::key::{Access, UserKey};

/// The image and the stamp that `bytes` hold.
///
/// # Errors
/// Any damage, any unknown major version or required feature, and anything past `limits`.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<(MemoryImage, Stamp), StoreError> {
    let decoded = decode_all(bytes, Access::plain(limits))?;
    Ok((decoded.image, decoded.stamp))
}

/// [`decode`] of a file that may be encrypted.
///
/// # Errors
/// As [`decode`], and [`StoreError::WrongKey`].
pub fn decode_with(
    bytes: &[u8],
    limits: &Limits,
    key: Option<&UserKey>,
) -> Result<(MemoryImage, Stamp), StoreError> {
    let decoded = decode_all(bytes, Access { limits, key })?;
    Ok((decoded.image, decoded.stamp))
}

/// An image with the facts that only the store asks for.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) image: MemoryImage,
    pub(crate) stamp: Stamp,
    pub(crate) digest: [u8; 32],
    /// What the next generation names as its parent: the digest of the form in which this
    /// one was first written.
    pub(crate) identity: [u8; 32],
    pub(crate) precision: Precision,
    pub(crate) carried: Carried,
    pub(crate) unknown_ro_compat: u32,
}

/// [`decode`] with all that the file says.
pub(crate) fn decode_all(bytes: &[u8], access: Access<'_>) -> Result<Decoded, StoreError> {
    let container = Container::parse(bytes, access, Kind::Full)?;
    let sections = Sections::parse(&container)?;
    let stamp = container.stamp();
    let preamble = container.preamble;
    let digest = container.digest;
    let repeats = container.header.repeats.map(|digest| digest.0);
    let tensors = sections.tensors.into_iter().map(|(entry, sparse)| {
        let count = value_count(&entry)?;
        let full = sparse.into_full(count);
        Ok(TensorRecord {
            values: full.map_err(|reason| StoreError::HeaderField {
                field: "tensors",
                expected: format!("set coordinates of {:?} that hold a value", entry.name),
                found: reason.to_owned(),
            })?,
            name: entry.name,
            role: entry.role,
            shape: entry.shape,
        })
    });
    let tensors = tensors.collect::<Result<_, StoreError>>()?;
    Ok(Decoded {
        image: image(container.header, preamble.shard, tensors),
        stamp,
        digest,
        identity: repeats.unwrap_or(digest),
        precision: preamble.precision,
        carried: sections.carried,
        unknown_ro_compat: preamble.unknown_ro_compat(),
    })
}

/// The sections of a file, unpacked.
pub(super) struct Sections {
    pub(super) tensors: Vec<(TensorEntry, Sparse)>,
    pub(super) carried: Carried,
}

impl Sections {
    pub(super) fn parse(container: &Container<'_>) -> Result<Self, StoreError> {
        let mut entries = container.header.tensors.iter();
        let mut tensors = Vec::with_capacity(entries.len());
        let mut earlier = Vec::new();
        let mut carried = Carried {
            compat: container.preamble.compat,
            sections: Vec::new(),
        };
        for (index, section) in container.sections.iter().enumerate().skip(1) {
            let stored = container.stored(index, section)?;
            if section.kind == SECTION_TENSOR {
                let entry = entries.next().ok_or_else(|| count_mismatch(container))?;
                let unpacker = Unpacker {
                    section,
                    index,
                    has_raw_checksum: !container.preamble.is_encrypted(),
                };
                let sparse = unpacker.unpack(&stored, entry, &earlier)?;
                if let (Some(coordinates), CODEC_BITMAP | CODEC_GAPS) =
                    (&sparse.coordinates, section.codec)
                {
                    earlier.push(Earlier {
                        tensor: u16::try_from(tensors.len()).unwrap_or(u16::MAX),
                        count: value_count(entry)?,
                        coordinates: coordinates.clone(),
                    });
                }
                tensors.push((entry.clone(), sparse));
            } else if section.is_optional() {
                carried.sections.push(CarriedSection {
                    row: *section,
                    stored: stored.into_owned(),
                });
            } else {
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
        Ok(Self { tensors, carried })
    }
}

/// One section on its way to being values.
struct Unpacker<'a> {
    section: &'a Section,
    index: usize,
    has_raw_checksum: bool,
}

impl Unpacker<'_> {
    fn unpack(
        &self,
        stored: &[u8],
        entry: &TensorEntry,
        earlier: &[Earlier],
    ) -> Result<Sparse, StoreError> {
        let Self { section, index, .. } = *self;
        let offset = section.offset;
        let element = Element::from_code(section.elem)
            .ok_or_else(|| self.unknown("element of a section", section.elem))?;
        let count = value_count(entry)?;
        let raw_len = self.raw_len(element, count as u64)?;
        let raw = frame::decompress(stored, raw_len).map_err(|reason| StoreError::Frame {
            section: index,
            offset,
            reason,
        })?;
        if self.has_raw_checksum {
            let name = || format!("the raw bytes of section {index}");
            checksum(name, &raw, offset, section.crc_raw)?;
        }
        let sparse = tensor::unpack(section.codec, element, &raw, count, earlier);
        let sparse = sparse.map_err(|reason| StoreError::Coordinates {
            section: index,
            offset,
            reason,
        })?;
        planes::all_finite(&sparse.values, || {
            format!("{} {:?}", entry.role, entry.name)
        })?;
        Ok(sparse)
    }

    /// How many bytes to make room for, once the shape says that they are plausible.
    fn raw_len(&self, element: Element, count: u64) -> Result<usize, StoreError> {
        let Section {
            codec,
            offset,
            raw_len: found,
            ..
        } = *self.section;
        let most = tensor::most_raw_bytes(codec, element, count)
            .ok_or_else(|| self.unknown("codec of a section", codec))?;
        let has_one_length = codec == CODEC_DENSE && element != Element::Split;
        if has_one_length {
            matches("raw length of a section", offset, most, found)?;
        }
        match usize::try_from(found) {
            Ok(len) if found <= most => Ok(len),
            _ => Err(StoreError::Mismatch {
                field: "raw length of a section, at most",
                offset,
                expected: most,
                found,
            }),
        }
    }

    fn unknown(&self, field: &'static str, found: u8) -> StoreError {
        StoreError::UnknownCode {
            field,
            offset: self.section.offset,
            found: u64::from(found),
        }
    }
}

fn value_count(entry: &TensorEntry) -> Result<usize, StoreError> {
    let count = entry.value_count();
    let count = count.and_then(|count| usize::try_from(count).ok());
    count.ok_or_else(|| StoreError::HeaderField {
        field: "tensors.shape",
        expected: "a number of values that this machine can address".to_owned(),
        found: format!("{:?}", entry.shape),
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

pub(super) fn image(header: Header, shard: ShardId, tensors: Vec<TensorRecord>) -> MemoryImage {
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
