//! One tensor, or what changed in it, as the raw bytes of a section and back.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]

use std::io;

use super::coordinates::{self, Form};
use super::frame;
use super::values::{self, Element};
use crate::format::layout::{CODEC_BITMAP, CODEC_DENSE, CODEC_GAPS, CODEC_SHARED};

/// Values and where they go. `None` says everywhere.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sparse {
    pub(crate) coordinates: Option<Vec<u32>>,
    pub(crate) values: Vec<f32>,
}

/// Coordinates of an earlier section that a later one may refer to.
#[derive(Debug)]
pub(super) struct Earlier {
    /// Which tensor, counted from 0.
    pub(super) tensor: u16,
    pub(super) count: usize,
    pub(super) coordinates: Vec<u32>,
}

/// The packed form of a tensor, before it gets its place in a file.
pub(super) struct PackedTensor {
    pub(super) codec: u8,
    pub(super) elem: u8,
    pub(super) raw_len: usize,
    pub(super) crc_raw: u32,
    pub(super) stored: Vec<u8>,
}

/// All of `values`, every one of them.
pub(super) fn pack_dense(values: &[f32]) -> io::Result<PackedTensor> {
    let mut raw = Vec::with_capacity(values.len().saturating_mul(4));
    let element = values::append(values, &mut raw);
    finish(CODEC_DENSE, element, &raw)
}

/// The values at `coordinates` of a tensor of `count`, in the shortest form worth trying.
pub(super) fn pack_sparse(
    coordinates: &[u32],
    values: &[f32],
    count: usize,
    earlier: &[Earlier],
) -> io::Result<PackedTensor> {
    let same = |earlier: &&Earlier| earlier.count == count && earlier.coordinates == coordinates;
    if let Some(same) = earlier.iter().find(same) {
        let mut raw = same.tensor.to_le_bytes().to_vec();
        let element = values::append(values, &mut raw);
        return finish(CODEC_SHARED, element, &raw);
    }
    let mut best: Option<PackedTensor> = None;
    for &form in coordinates::forms(coordinates.len(), count) {
        let mut raw = Vec::new();
        coordinates::append(form, coordinates, count, &mut raw);
        let element = values::append(values, &mut raw);
        let codec = match form {
            Form::Bitmap => CODEC_BITMAP,
            Form::Gaps => CODEC_GAPS,
        };
        let packed = finish(codec, element, &raw)?;
        if best
            .as_ref()
            .is_none_or(|best| packed.stored.len() < best.stored.len())
        {
            best = Some(packed);
        }
    }
    best.ok_or_else(|| io::Error::other("no form was tried"))
}

/// A whole tensor: dense, or without its zeros when that is shorter.
pub(super) fn pack_full(
    values: &[f32],
    earlier: &mut Vec<Earlier>,
    tensor: u16,
) -> io::Result<PackedTensor> {
    let zeros = values.iter().filter(|value| value.to_bits() == 0).count();
    // Below a quarter of zeros, both are worth trying; above, dense never wins.
    let dense = if zeros <= values.len() / 4 {
        let dense = pack_dense(values)?;
        if zeros == 0 {
            return Ok(dense);
        }
        Some(dense)
    } else {
        None
    };
    let coordinates = coordinates::set_coordinates(values);
    let set: Vec<f32> = values
        .iter()
        .copied()
        .filter(|value| value.to_bits() != 0)
        .collect();
    let sparse = pack_sparse(&coordinates, &set, values.len(), earlier)?;
    match dense {
        Some(dense) if dense.stored.len() <= sparse.stored.len() => Ok(dense),
        _ => {
            remember(earlier, tensor, values.len(), coordinates, sparse.codec);
            Ok(sparse)
        }
    }
}

/// Lets later tensors refer to these coordinates, if they are written down here.
pub(super) fn remember(
    earlier: &mut Vec<Earlier>,
    tensor: u16,
    count: usize,
    coordinates: Vec<u32>,
    codec: u8,
) {
    // Referring costs more than repeating an empty set.
    if matches!(codec, CODEC_BITMAP | CODEC_GAPS) && !coordinates.is_empty() {
        earlier.push(Earlier {
            tensor,
            count,
            coordinates,
        });
    }
}

fn finish(codec: u8, element: Element, raw: &[u8]) -> io::Result<PackedTensor> {
    Ok(PackedTensor {
        codec,
        elem: element.code(),
        raw_len: raw.len(),
        crc_raw: crc32fast::hash(raw),
        stored: frame::compress(raw)?,
    })
}

/// How many bytes the raw form may have at most; `None` for an undefined codec.
///
/// A coordinate gap costs one byte and one more for at least 128 coordinates skipped, so all
/// gaps of a tensor fit in `count` bytes.
pub(super) fn most_raw_bytes(codec: u8, element: Element, count: u64) -> Option<u64> {
    let values = element.most_bytes(count);
    match codec {
        CODEC_DENSE => Some(values),
        CODEC_BITMAP => Some(values.saturating_add(count.div_ceil(8))),
        CODEC_GAPS => Some(values.saturating_add(count).saturating_add(8)),
        CODEC_SHARED => Some(values.saturating_add(2)),
        _ => None,
    }
}

/// Takes the raw form apart, or says which rule it breaks.
pub(super) fn unpack(
    codec: u8,
    element: Element,
    raw: &[u8],
    count: usize,
    earlier: &[Earlier],
) -> Result<Sparse, &'static str> {
    let (coordinates, block) = match codec {
        CODEC_DENSE => (None, raw),
        CODEC_BITMAP => written(coordinates::parse(Form::Bitmap, raw, count)?),
        CODEC_GAPS => written(coordinates::parse(Form::Gaps, raw, count)?),
        _ => {
            let (tensor, block) = raw
                .split_first_chunk::<2>()
                .ok_or("the reference is missing")?;
            let tensor = u16::from_le_bytes(*tensor);
            let earlier = earlier
                .iter()
                .find(|earlier| earlier.tensor == tensor && earlier.count == count)
                .ok_or("the section referred to has no coordinates for this shape")?;
            (Some(earlier.coordinates.clone()), block)
        }
    };
    let expected = coordinates.as_ref().map_or(count, Vec::len);
    let values = values::parse(element, block, expected)?;
    Ok(Sparse {
        coordinates,
        values,
    })
}

fn written((coordinates, rest): (Vec<u32>, &[u8])) -> (Option<Vec<u32>>, &[u8]) {
    (Some(coordinates), rest)
}

impl Sparse {
    /// A whole tensor of `count` values from its set ones.
    pub(super) fn into_full(self, count: usize) -> Result<Vec<f32>, &'static str> {
        let Some(coordinates) = self.coordinates else {
            return Ok(self.values);
        };
        let mut full = vec![0.0; count];
        for (at, value) in coordinates.into_iter().zip(self.values) {
            if value.to_bits() == 0 {
                return Err("a coordinate that is set holds zero");
            }
            let slot = usize::try_from(at).ok().and_then(|at| full.get_mut(at));
            *slot.ok_or("a coordinate lies past the end of the tensor")? = value;
        }
        Ok(full)
    }

    /// Puts the values where they go.
    pub(super) fn apply_to(self, full: &mut [f32]) -> Result<(), &'static str> {
        match self.coordinates {
            None if self.values.len() == full.len() => full.copy_from_slice(&self.values),
            None => return Err("the values are not those of the tensor"),
            Some(coordinates) => {
                for (at, value) in coordinates.into_iter().zip(self.values) {
                    let slot = usize::try_from(at).ok().and_then(|at| full.get_mut(at));
                    *slot.ok_or("a coordinate lies past the end of the tensor")? = value;
                }
            }
        }
        Ok(())
    }
}
