//! How a gradient moves the weights, and which gradients do.

mod normalised_step;

pub use normalised_step::NormalisedStep;

use super::descriptor::ChoiceDescriptor;
use crate::error::ConfigError;

/// The learning algorithm: gradient to update.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum LearningAlgorithm {
    /// A step divided by the energy of the active features, taken by surprising tokens only.
    NormalisedStep(NormalisedStep),
}

impl LearningAlgorithm {
    const CHOICE: &'static str = "learning algorithm";

    /// The name and parameters that a file header stores.
    pub fn descriptor(&self) -> ChoiceDescriptor {
        match self {
            Self::NormalisedStep(step) => ChoiceDescriptor::new(
                NormalisedStep::NAME,
                [
                    ("step_size", f64::from(step.step_size)),
                    ("surprise_threshold", f64::from(step.surprise_threshold)),
                    ("momentum_decay", f64::from(step.momentum_decay)),
                ],
            ),
        }
    }

    /// The choice that a header names.
    ///
    /// # Errors
    /// An unknown name or parameters that the choice does not take.
    pub fn from_descriptor(descriptor: &ChoiceDescriptor) -> Result<Self, ConfigError> {
        if descriptor.name != NormalisedStep::NAME {
            return Err(descriptor.unknown(Self::CHOICE, &[NormalisedStep::NAME]));
        }
        let [step_size, surprise_threshold, momentum_decay] = descriptor.take(
            Self::CHOICE,
            ["step_size", "surprise_threshold", "momentum_decay"],
        )?;
        let choice = Self::NormalisedStep(NormalisedStep {
            step_size: step_size as f32,
            surprise_threshold: surprise_threshold as f32,
            momentum_decay: momentum_decay as f32,
        });
        choice.validate()?;
        Ok(choice)
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::NormalisedStep(step) => step.validate(),
        }
    }
}
