//! What changed between two images: the callers' word for it, and how it is applied.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]

use super::decode::{Sections, image};
use super::tensor::Sparse;
use crate::error::StoreError;
use crate::format::carried::Carried;
use crate::format::container::Container;
use crate::format::fields::matches;
use crate::format::preamble::Kind;
use crate::image::{MemoryImage, Stamp, TensorRecord, TensorRole};
use crate::key::Access;

/// Which coordinates of an image changed since the image saved before it.
///
/// The new values stand in the image itself, unless they are told. Tensors that are not listed did not change.
/// What is not a tensor - counters, scalars, recall - is always saved whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageDelta {
    /// The tensors that changed, in any order.
    pub tensors: Vec<TensorDelta>,
}

/// What changed in one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorDelta {
    /// Name of the tensor.
    pub name: String,
    /// Its role.
    pub role: TensorRole,
    /// What may have changed. Naming too much costs bytes, naming too little loses a change.
    pub changed: Changed,
}

/// The part of a tensor that changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Changed {
    /// These coordinates of the flattened tensor, ascending.
    Coordinates(Vec<u32>),
    /// As [`Changed::Coordinates`], with the new values, so that the image need not hold any.
    Values {
        /// Ascending.
        coordinates: Vec<u32>,
        /// One for each coordinate.
        values: Vec<f32>,
    },
    /// These rows, ascending: all coordinates with that index before the last dimension.
    Rows(Vec<u32>),
    /// Everything.
    All,
}

impl ImageDelta {
    /// What differs between two images with the same tensors, or `None` when the tensors are
    /// not the same ones. Compares bits: `0.0` and `-0.0` differ.
    pub fn between(before: &MemoryImage, after: &MemoryImage) -> Option<Self> {
        if !before.has_tensors_of(after) {
            return None;
        }
        let mut delta = Self::default();
        for (before, after) in before.tensors.iter().zip(&after.tensors) {
            let pairs = before.values.iter().zip(&after.values).enumerate();
            let differs = pairs.filter(|(_, (before, after))| before.to_bits() != after.to_bits());
            let coordinates: Vec<u32> = differs
                .map(|(at, _)| u32::try_from(at))
                .collect::<Result<_, _>>()
                .ok()?;
            if !coordinates.is_empty() {
                delta.tensors.push(TensorDelta {
                    name: after.name.clone(),
                    role: after.role,
                    changed: Changed::Coordinates(coordinates),
                });
            }
        }
        Some(delta)
    }

    /// Per tensor of `image`, the coordinates that changed; `None` for all of them.
    pub(crate) fn coordinates(
        &self,
        image: &MemoryImage,
    ) -> Result<Vec<Option<Vec<u32>>>, StoreError> {
        let mut changed = vec![Some(Vec::new()); image.tensors.len()];
        for delta in &self.tensors {
            let bad = |reason: &str| StoreError::BadDelta {
                tensor: delta.name.clone(),
                reason: reason.to_owned(),
            };
            let is_it =
                |tensor: &TensorRecord| tensor.name == delta.name && tensor.role == delta.role;
            let index = image.tensors.iter().position(is_it);
            let tensor = index.and_then(|index| image.tensors.get(index));
            let slot = index.and_then(|index| changed.get_mut(index));
            let (tensor, slot) = tensor
                .zip(slot)
                .ok_or_else(|| bad("the image has no such tensor"))?;
            if slot.as_ref().is_none_or(|slot| !slot.is_empty()) {
                return Err(bad("the tensor is listed twice"));
            }
            *slot = match &delta.changed {
                Changed::All => None,
                Changed::Coordinates(coordinates) | Changed::Values { coordinates, .. } => {
                    Some(coordinates.clone())
                }
                Changed::Rows(rows) => {
                    let width = tensor.shape.last().copied().unwrap_or(1);
                    let width = u32::try_from(width).map_err(|_| bad("a row is too long"))?;
                    let start = |row: u32| row.checked_mul(width);
                    let starts: Option<Vec<u32>> = rows.iter().map(|&row| start(row)).collect();
                    let starts = starts.ok_or_else(|| bad("a row lies past the end"))?;
                    let row = |start: u32| start..start.saturating_add(width);
                    Some(starts.into_iter().flat_map(row).collect())
                }
            };
        }
        Ok(changed)
    }

    /// What is to be written of each tensor of `image`: the values that are told, and else
    /// those that the image has.
    pub(crate) fn changes(&self, image: &MemoryImage) -> Result<Vec<Sparse>, StoreError> {
        let coordinates = self.coordinates(image)?;
        let tensors = image.tensors.iter().zip(coordinates);
        tensors
            .map(|(tensor, coordinates)| {
                let is_it =
                    |delta: &&TensorDelta| delta.name == tensor.name && delta.role == tensor.role;
                let told = self.tensors.iter().find(is_it);
                let values = match (told.map(|delta| &delta.changed), &coordinates) {
                    (Some(Changed::Values { values, .. }), _) => values.clone(),
                    (_, Some(coordinates)) => gather(tensor, coordinates)?,
                    (_, None) => tensor.values.clone(),
                };
                Ok(Sparse {
                    coordinates,
                    values,
                })
            })
            .collect()
    }

    /// A tensor that is listed without its new values, if there is one.
    pub(crate) fn without_values(&self) -> Option<&TensorDelta> {
        let is_told = |delta: &&TensorDelta| matches!(delta.changed, Changed::Values { .. });
        self.tensors.iter().find(|delta| !is_told(delta))
    }
}

/// The values at `coordinates`, which must be there.
fn gather(tensor: &TensorRecord, coordinates: &[u32]) -> Result<Vec<f32>, StoreError> {
    let value = |&at: &u32| {
        let value = usize::try_from(at)
            .ok()
            .and_then(|at| tensor.values.get(at));
        value.copied().ok_or_else(|| StoreError::BadDelta {
            tensor: tensor.name.clone(),
            reason: format!(
                "coordinate {at} is past the {} there are",
                tensor.values.len()
            ),
        })
    };
    coordinates.iter().map(value).collect()
}

/// Where a delta belongs, by the frame around it and the state before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) parent: (u64, [u8; 32]),
    pub(crate) sequence: u64,
    pub(crate) last_chunk_id: u64,
}

/// What the bytes of a delta say of themselves, before they are applied.
#[derive(Clone, Debug)]
pub(crate) struct DeltaFacts {
    pub(crate) stamp: Stamp,
    pub(crate) digest: [u8; 32],
    pub(crate) carried: Carried,
    pub(crate) unknown_ro_compat: u32,
}

/// `Ok` when the bytes are a whole delta, whatever it follows.
pub(crate) fn check(bytes: &[u8], access: Access<'_>) -> Result<(), StoreError> {
    let container = Container::parse(bytes, access, Kind::Delta)?;
    Sections::parse(&container).map(drop)
}

/// The digest of a delta just written, once it is known to read back as `written`.
pub(crate) fn check_against(
    bytes: &[u8],
    written: &[Sparse],
    access: Access<'_>,
) -> Result<[u8; 32], StoreError> {
    let container = Container::parse(bytes, access, Kind::Delta)?;
    let back = Sections::parse(&container)?.tensors;
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for ((entry, back), written) in back.iter().zip(written) {
        if back.coordinates != written.coordinates || bits(&back.values) != bits(&written.values) {
            return Err(StoreError::SelfCheck {
                field: format!("{} {:?}", entry.role, entry.name),
            });
        }
    }
    Ok(container.digest)
}

/// Turns `image` into the one that the delta in `bytes` was saved for.
///
/// `None` when the delta follows another generation than the link says. Nothing is changed
/// unless everything fits.
pub(crate) fn apply(
    before: &mut MemoryImage,
    bytes: &[u8],
    link: &Link,
    access: Access<'_>,
) -> Result<Option<DeltaFacts>, StoreError> {
    let container = Container::parse(bytes, access, Kind::Delta)?;
    if container.header.parent() != Some(link.parent) {
        return Ok(None);
    }
    let (sequence, chunk) = (container.preamble.sequence, container.header.last_chunk_id);
    matches("generation of a record", 40, link.sequence, sequence)?;
    matches("last chunk of a record", 0, link.last_chunk_id, chunk)?;
    let sections = Sections::parse(&container)?;
    let facts = DeltaFacts {
        stamp: container.stamp(),
        digest: container.digest,
        carried: sections.carried,
        unknown_ro_compat: container.preamble.unknown_ro_compat(),
    };
    let shard = container.preamble.shard;
    let mut after = image(container.header, shard, Vec::new());
    if shard != before.shard {
        return Err(StoreError::WrongShard {
            expected: before.shard,
            found: shard,
        });
    }
    let entries = sections
        .tensors
        .iter()
        .map(|(entry, _)| (&entry.name, entry.role, &entry.shape));
    let same = before
        .tensors
        .iter()
        .map(|tensor| (&tensor.name, tensor.role, &tensor.shape));
    if !entries.eq(same) {
        return Err(StoreError::HeaderField {
            field: "tensors",
            expected: "the tensors of the generation before".to_owned(),
            found: "others".to_owned(),
        });
    }
    after.tensors = std::mem::take(&mut before.tensors);
    for (tensor, (_, sparse)) in after.tensors.iter_mut().zip(sections.tensors) {
        // The coordinates were checked against the shape, and the shape is the same.
        let applied = sparse.apply_to(&mut tensor.values);
        applied.map_err(|reason| StoreError::BadDelta {
            tensor: tensor.name.clone(),
            reason: reason.to_owned(),
        })?;
    }
    *before = after;
    Ok(Some(facts))
}
