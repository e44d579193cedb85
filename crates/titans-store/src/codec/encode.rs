//! An image to bytes: the same image and stamp always give the same bytes, unless a key
//! seals them.

use std::io;

use super::Precision;
use super::planes;
use super::tensor::{self, Earlier, PackedTensor, Sparse};
use crate::error::StoreError;
use crate::format::carried::Carried;
use crate::format::header::{Digest, Header, value_count};
use crate::format::layout::{
    CODEC_PLAIN, ELEM_BYTES, INCOMPAT_ENCRYPTED, PREAMBLE_LEN, ROW_LEN, SECTION_HEADER,
    SECTION_TENSOR, TRAILER_LEN, align,
};
use crate::format::limits::{MAX_TENSOR_VALUES, at_most};
use crate::format::preamble::{Kind, Preamble};
use crate::format::section::Section;
use crate::format::trailer;
use crate::image::{MemoryImage, Stamp, TensorRecord};
use crate::key::{SEAL_BYTES, UserKey, seal};

/// The bytes of `image` as the generation `stamp`, every bit of it.
///
/// # Errors
/// [`StoreError::NotFinite`] when a number is NaN or infinite, [`StoreError::HeaderField`] or
/// [`StoreError::Limit`] when a name, shape or count breaks a rule of the format.
pub fn encode(image: &MemoryImage, stamp: &Stamp) -> Result<Vec<u8>, StoreError> {
    encode_as(image, stamp, Precision::Exact)
}

/// The bytes of `image`, rounded to `precision`.
///
/// # Errors
/// As [`encode`], and [`StoreError::TooLargeForHalf`] from [`Precision::round`].
pub fn encode_as(
    image: &MemoryImage,
    stamp: &Stamp,
    precision: Precision,
) -> Result<Vec<u8>, StoreError> {
    Plan::new(precision).full(&*precision.round(image)?, stamp)
}

/// What a file is to be, beside the image in it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plan<'a> {
    /// Said in the file; rounding is the caller's.
    pub(crate) precision: Precision,
    /// Digest of the journal record that says the same.
    pub(crate) repeats: Option<[u8; 32]>,
    pub(crate) carried: Option<&'a Carried>,
    pub(crate) key: Option<&'a UserKey>,
}

impl Plan<'_> {
    pub(crate) fn new(precision: Precision) -> Self {
        Self {
            precision,
            ..Self::default()
        }
    }

    /// The file that holds all of `image`.
    pub(crate) fn full(&self, image: &MemoryImage, stamp: &Stamp) -> Result<Vec<u8>, StoreError> {
        let mut earlier = Vec::new();
        let tensors = image.tensors.iter().enumerate().map(|(index, tensor)| {
            check_tensor(tensor)?;
            let packed = tensor::pack_full(&tensor.values, &mut earlier, fits(index)?);
            packed.map_err(unpackable)
        });
        let tensors = tensors.collect::<Result<_, _>>()?;
        self.assemble(Kind::Full, image, stamp, tensors)
    }

    /// The file that holds what `changes` say of the tensors of `image`, in their order, and
    /// the changes as they are written. Of the tensors themselves only names and shapes count.
    pub(crate) fn delta(
        &self,
        image: &MemoryImage,
        stamp: &Stamp,
        changes: Vec<Sparse>,
    ) -> Result<(Vec<u8>, Vec<Sparse>), StoreError> {
        let mut earlier = Vec::new();
        let mut tensors = Vec::with_capacity(changes.len());
        let mut written = Vec::with_capacity(changes.len());
        for (index, (tensor, changes)) in image.tensors.iter().zip(changes).enumerate() {
            let count = value_count(&tensor.shape).unwrap_or(u64::MAX);
            at_most("values of a tensor", count, MAX_TENSOR_VALUES)?;
            let count = fits(count)?;
            let changes = self.checked(tensor, count, changes)?;
            tensors.push(pack_changes(&changes, count, &mut earlier, fits(index)?)?);
            written.push(changes);
        }
        let bytes = self.assemble(Kind::Delta, image, stamp, tensors)?;
        Ok((bytes, written))
    }

    /// What a delta says of one tensor of `count` values, rounded.
    fn checked(
        &self,
        tensor: &TensorRecord,
        count: usize,
        changes: Sparse,
    ) -> Result<Sparse, StoreError> {
        let Sparse {
            coordinates,
            values,
        } = changes;
        let told = coordinates.as_ref().map_or(count, Vec::len);
        let bad = |reason: String| StoreError::BadDelta {
            tensor: tensor.name.clone(),
            reason,
        };
        if values.len() != told {
            let found = values.len();
            return Err(bad(format!("{found} values for {told} coordinates")));
        }
        let mut next = 0;
        for &at in coordinates.iter().flatten() {
            if at < next || at as usize >= count {
                return Err(bad(format!(
                    "coordinate {at} is out of order or past the {count} there are"
                )));
            }
            next = at.saturating_add(1);
        }
        let field = || format!("{} {:?}", tensor.role, tensor.name);
        planes::all_finite(&values, field)?;
        let values = self
            .precision
            .round_values(tensor.role, &tensor.name, &values)?;
        Ok(Sparse {
            coordinates: coordinates.filter(|_| told < count || count == 0),
            values: values.into_owned(),
        })
    }

    fn assemble(
        &self,
        kind: Kind,
        image: &MemoryImage,
        stamp: &Stamp,
        tensors: Vec<PackedTensor>,
    ) -> Result<Vec<u8>, StoreError> {
        let header = Header {
            repeats: self.repeats.map(Digest),
            ..Header::new(image, stamp)
        };
        let mut packed = vec![Packed::header(header.to_bytes()?)];
        packed.extend(tensors.into_iter().map(Packed::tensor));
        let carried = self.carried.iter().flat_map(|carried| &carried.sections);
        packed.extend(carried.map(|section| Packed {
            row: section.row,
            stored: section.stored.clone(),
        }));
        let mut preamble = Preamble::new(stamp.sequence, stamp.writer_epoch, image.shard);
        preamble.kind = kind;
        preamble.precision = self.precision;
        preamble.compat = self.carried.map_or(0, |carried| carried.compat);
        if self.key.is_some() {
            preamble.incompat |= INCOMPAT_ENCRYPTED;
        }
        assemble(packed, preamble, self.key)
    }
}

fn pack_changes(
    changes: &Sparse,
    count: usize,
    earlier: &mut Vec<Earlier>,
    index: u16,
) -> Result<PackedTensor, StoreError> {
    let values = &changes.values;
    let Some(coordinates) = &changes.coordinates else {
        return tensor::pack_dense(values).map_err(unpackable);
    };
    let packed = tensor::pack_sparse(coordinates, values, count, earlier).map_err(unpackable)?;
    tensor::remember(earlier, index, count, coordinates.to_vec(), packed.codec);
    Ok(packed)
}

/// A section that is ready to be placed.
struct Packed {
    row: Section,
    stored: Vec<u8>,
}

impl Packed {
    fn header(bytes: Vec<u8>) -> Self {
        let crc = crc32fast::hash(&bytes);
        let row = Section::new(
            SECTION_HEADER,
            CODEC_PLAIN,
            ELEM_BYTES,
            bytes.len() as u64,
            crc,
        );
        Self { row, stored: bytes }
    }

    fn tensor(packed: PackedTensor) -> Self {
        let raw_len = packed.raw_len as u64;
        let (codec, elem) = (packed.codec, packed.elem);
        Self {
            row: Section::new(SECTION_TENSOR, codec, elem, raw_len, packed.crc_raw),
            stored: packed.stored,
        }
    }
}

/// `Ok` when every tensor has as many values as its shape says.
pub(crate) fn check_shapes(image: &MemoryImage) -> Result<(), StoreError> {
    image.tensors.iter().try_for_each(check_shape)
}

fn check_tensor(tensor: &TensorRecord) -> Result<(), StoreError> {
    check_shape(tensor)?;
    planes::all_finite(&tensor.values, || {
        format!("{} {:?}", tensor.role, tensor.name)
    })
}

fn check_shape(tensor: &TensorRecord) -> Result<(), StoreError> {
    let found = tensor.values.len() as u64;
    if value_count(&tensor.shape) != Some(found) {
        return Err(StoreError::HeaderField {
            field: "tensors.shape",
            expected: format!("a shape of {found} values for {:?}", tensor.name),
            found: format!("{:?}", tensor.shape),
        });
    }
    Ok(())
}

fn assemble(
    mut packed: Vec<Packed>,
    mut preamble: Preamble,
    key: Option<&UserKey>,
) -> Result<Vec<u8>, StoreError> {
    let seal_bytes = key.map_or(0, |_| SEAL_BYTES);
    let mut end = (PREAMBLE_LEN + ROW_LEN * packed.len()) as u64;
    for section in &mut packed {
        section.row.offset = aligned(end)?;
        section.row.stored_len = section.stored.len() as u64 + seal_bytes;
        if key.is_some() {
            // It would tell something of the contents, and the seal is the better check.
            section.row.crc_raw = 0;
        }
        end = section.row.offset + section.row.stored_len;
    }
    let trailer_start = aligned(end)?;

    preamble.file_len = trailer_start + TRAILER_LEN as u64;
    preamble.section_count = fits(packed.len())?;
    preamble.header_len = fits(packed.first().map_or(0, |header| header.row.stored_len))?;
    let front = preamble.to_bytes();
    for section in &mut packed {
        if let Some(key) = key {
            section.stored = seal(key, &section.row.bound(&front), &section.stored)?;
        }
        section.row.crc_stored = crc32fast::hash(&section.stored);
    }

    let mut bytes = Vec::with_capacity(fits(preamble.file_len)?);
    bytes.extend(front);
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

fn unpackable(error: io::Error) -> StoreError {
    StoreError::SelfCheck {
        field: format!("compressed length ({error})"),
    }
}

fn fits<From, To>(number: From) -> Result<To, StoreError>
where
    To: TryFrom<From>,
{
    To::try_from(number).map_err(|_| StoreError::SelfCheck {
        field: "a length that does not fit its field".to_owned(),
    })
}
