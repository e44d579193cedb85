//! What the memory is: `M(key; weights)`.

mod sparse_channel_mlp;

pub use sparse_channel_mlp::SparseChannelMlp;

use super::descriptor::ChoiceDescriptor;
use crate::error::ConfigError;

/// The memory architecture: which tensors a memory has and how it predicts.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum MemoryArchitecture {
    /// Two layers, of which the first is frozen and the second is written sparsely.
    SparseChannelMlp(SparseChannelMlp),
}

impl MemoryArchitecture {
    const CHOICE: &'static str = "memory architecture";

    /// The name and parameters that a file header stores.
    pub fn descriptor(&self) -> ChoiceDescriptor {
        match self {
            Self::SparseChannelMlp(mlp) => ChoiceDescriptor::new(
                SparseChannelMlp::NAME,
                [
                    ("channels", mlp.channels as f64),
                    ("active_channels", mlp.active_channels as f64),
                ],
            ),
        }
    }

    /// The choice that a header names.
    ///
    /// # Errors
    /// An unknown name or parameters that the choice does not take.
    pub fn from_descriptor(descriptor: &ChoiceDescriptor) -> Result<Self, ConfigError> {
        if descriptor.name != SparseChannelMlp::NAME {
            return Err(descriptor.unknown(Self::CHOICE, &[SparseChannelMlp::NAME]));
        }
        let [channels, active_channels] =
            descriptor.take(Self::CHOICE, ["channels", "active_channels"])?;
        let choice = Self::SparseChannelMlp(SparseChannelMlp {
            channels: channels as usize,
            active_channels: active_channels as usize,
        });
        choice.validate()?;
        Ok(choice)
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::SparseChannelMlp(mlp) => mlp.validate(),
        }
    }
}
