//! What a save may round before it packs. Packing itself never loses a bit.

use std::borrow::Cow;

use serde::Serialize;

use super::values;
use crate::error::StoreError;
use crate::image::{MemoryImage, TensorRecord, TensorRole};

/// How much of the values a file keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Precision {
    /// Every bit of every value. A memory that restarts learns as one that never does.
    #[default]
    Exact,
    /// Every bit of weights and pending values; momenta as 16-bit floats with one scale per
    /// tensor. About a quarter less in bytes.
    ExactWeights,
    /// All values as 16-bit floats. For export and for idle users only: a change smaller
    /// than half a step of the 16-bit float is lost with every save, so a memory that learns
    /// from such files learns differently.
    Compact,
}

impl Precision {
    /// The image that a file of this precision gives back. Rounding twice changes nothing.
    ///
    /// # Errors
    /// [`StoreError::TooLargeForHalf`] for a weight beyond 65504 in [`Precision::Compact`].
    pub fn round(self, image: &MemoryImage) -> Result<Cow<'_, MemoryImage>, StoreError> {
        if !image.tensors.iter().any(|tensor| self.rounds(tensor.role)) {
            return Ok(Cow::Borrowed(image));
        }
        let tensors = image.tensors.iter().map(|tensor| {
            Ok(TensorRecord {
                values: self
                    .round_values(tensor.role, &tensor.name, &tensor.values)?
                    .into_owned(),
                name: tensor.name.clone(),
                role: tensor.role,
                shape: tensor.shape.clone(),
            })
        });
        let tensors = tensors.collect::<Result<_, StoreError>>()?;
        Ok(Cow::Owned(MemoryImage {
            tensors,
            ..image.without_tensors()
        }))
    }

    fn rounds(self, role: TensorRole) -> bool {
        match self {
            Self::Exact => false,
            Self::ExactWeights => role == TensorRole::Momentum,
            Self::Compact => true,
        }
    }

    pub(super) fn round_values<'a>(
        self,
        role: TensorRole,
        name: &str,
        values: &'a [f32],
    ) -> Result<Cow<'a, [f32]>, StoreError> {
        // Not-a-numbers are the encoder's to refuse, with a better error.
        if !self.rounds(role) || values.iter().any(|value| !value.is_finite()) {
            return Ok(Cow::Borrowed(values));
        }
        // Weights lie near one by design, so they keep the plain reading of their bits; a
        // momentum may be a millionth of that and would drown without a scale.
        if role != TensorRole::Weights {
            return Ok(Cow::Owned(values::round_scaled(values)));
        }
        match values::round_plain(values) {
            Ok(rounded) => Ok(Cow::Owned(rounded)),
            Err(index) => Err(StoreError::TooLargeForHalf {
                tensor: name.to_owned(),
                index: index as u64,
                found: values.get(index).copied().map_or(0.0, f64::from),
            }),
        }
    }
}
