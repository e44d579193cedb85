//! What is kept of the old weights when something is written.

mod surprise_sigmoid;

pub use surprise_sigmoid::SurpriseSigmoid;

use super::descriptor::ChoiceDescriptor;
use crate::error::ConfigError;

/// The retention gate: the fraction of the written coordinates that a write keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RetentionGate {
    /// Everything is kept.
    None,
    /// Forget more while the stream surprises: the article's sigmoid.
    SurpriseSigmoid(SurpriseSigmoid),
}

impl RetentionGate {
    const CHOICE: &'static str = "retention gate";
    const NONE: &'static str = "none";

    /// The name and parameters that a file header stores.
    pub fn descriptor(&self) -> ChoiceDescriptor {
        match self {
            Self::None => ChoiceDescriptor::new(Self::NONE, []),
            Self::SurpriseSigmoid(gate) => ChoiceDescriptor::new(
                SurpriseSigmoid::NAME,
                [
                    ("gain", f64::from(gate.gain)),
                    ("offset", f64::from(gate.offset)),
                ],
            ),
        }
    }

    /// The choice that a header names.
    ///
    /// # Errors
    /// An unknown name or parameters that the choice does not take.
    pub fn from_descriptor(descriptor: &ChoiceDescriptor) -> Result<Self, ConfigError> {
        match descriptor.name.as_str() {
            Self::NONE => {
                let [] = descriptor.take(Self::CHOICE, [])?;
                Ok(Self::None)
            }
            SurpriseSigmoid::NAME => {
                let [gain, offset] = descriptor.take(Self::CHOICE, ["gain", "offset"])?;
                Ok(Self::SurpriseSigmoid(SurpriseSigmoid {
                    gain: gain as f32,
                    offset: offset as f32,
                }))
            }
            _ => Err(descriptor.unknown(Self::CHOICE, &[Self::NONE, SurpriseSigmoid::NAME])),
        }
    }

    /// The fraction of the written coordinates that is kept, in `[0, 1]`, given the
    /// smoothed surprise of the stream.
    pub fn retention(&self, smoothed_surprise: f32) -> f32 {
        match self {
            Self::None => 1.0,
            Self::SurpriseSigmoid(gate) => 1.0 - gate.forgotten(smoothed_surprise),
        }
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::None => Ok(()),
            Self::SurpriseSigmoid(gate) => gate.validate(),
        }
    }
}
