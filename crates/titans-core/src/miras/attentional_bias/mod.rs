//! What counts as an error: loss per token, and from it the surprise.

use super::descriptor::ChoiceDescriptor;
use crate::error::ConfigError;

/// The attentional bias: the inner objective that a write descends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttentionalBias {
    /// `loss = 1/2 ||M(key) - value||^2`, gradient `M(key) - value` (Titans, arXiv:2501.00663,
    /// eq. 12, in the 1/2 form of its appendix C).
    L2,
}

impl AttentionalBias {
    const CHOICE: &'static str = "attentional bias";

    /// The name and parameters that a file header stores.
    pub fn descriptor(&self) -> ChoiceDescriptor {
        match self {
            Self::L2 => ChoiceDescriptor::new("l2", []),
        }
    }

    /// The choice that a header names.
    ///
    /// # Errors
    /// An unknown name or parameters that the choice does not take.
    pub fn from_descriptor(descriptor: &ChoiceDescriptor) -> Result<Self, ConfigError> {
        if descriptor.name != "l2" {
            return Err(descriptor.unknown(Self::CHOICE, &["l2"]));
        }
        let [] = descriptor.take(Self::CHOICE, [])?;
        Ok(Self::L2)
    }
}
