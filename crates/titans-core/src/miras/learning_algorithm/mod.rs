//! How a gradient moves the weights.

mod gradient_descent;
mod momentum;
mod newton_schulz;
mod normalised_step;
mod rule;

pub use gradient_descent::GradientDescent;
pub use momentum::Momentum;
pub use newton_schulz::{NewtonSchulz, NewtonSchulzSchedule};
pub use normalised_step::NormalisedStep;

use burn::tensor::Tensor;

use self::rule::AlgorithmRule;
use super::descriptor::ChoiceDescriptor;
use crate::error::ConfigError;

/// The learning algorithm: gradient to update.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum LearningAlgorithm {
    /// The gradient times a step.
    GradientDescent(GradientDescent),
    /// Accumulated gradients, of order 1 or 2.
    Momentum(Momentum),
    /// A step divided by the energy of the active features.
    NormalisedStep(NormalisedStep),
    /// Momentum with all singular values brought near one.
    NewtonSchulz(NewtonSchulz),
}

impl LearningAlgorithm {
    const CHOICE: &'static str = "learning algorithm";

    /// One of each form. They are what [`from_descriptor`](Self::from_descriptor) knows by name,
    /// what a text of a configuration may name, and what tests try for every algorithm.
    pub const EXAMPLES: &'static [Self] = &[
        Self::GradientDescent(GradientDescent { step_size: 0.2 }),
        Self::Momentum(Momentum {
            step_size: 0.2,
            momentum_decay: 0.5,
            second_momentum_decay: None,
        }),
        Self::Momentum(Momentum {
            step_size: 0.2,
            momentum_decay: 0.5,
            second_momentum_decay: Some(0.4),
        }),
        Self::NormalisedStep(NormalisedStep { step_size: 0.5 }),
        Self::NewtonSchulz(NewtonSchulz {
            momentum: Momentum {
                step_size: 0.2,
                momentum_decay: 0.5,
                second_momentum_decay: None,
            },
            schedule: NewtonSchulzSchedule::Constant,
        }),
        Self::NewtonSchulz(NewtonSchulz {
            momentum: Momentum {
                step_size: 0.2,
                momentum_decay: 0.5,
                second_momentum_decay: None,
            },
            schedule: NewtonSchulzSchedule::Lact,
        }),
    ];

    fn rule(&self) -> &dyn AlgorithmRule {
        match self {
            Self::GradientDescent(rule) => rule,
            Self::Momentum(rule) => rule,
            Self::NormalisedStep(rule) => rule,
            Self::NewtonSchulz(rule) => rule,
        }
    }

    /// The name and parameters that a file header stores.
    pub fn descriptor(&self) -> ChoiceDescriptor {
        ChoiceDescriptor::new(self.rule().name(), self.rule().params())
    }

    /// The choice that a header names.
    ///
    /// # Errors
    /// An unknown name or parameters that the choice does not take.
    pub fn from_descriptor(descriptor: &ChoiceDescriptor) -> Result<Self, ConfigError> {
        let known = Self::EXAMPLES.iter();
        let example = known
            .clone()
            .find(|example| example.rule().name() == descriptor.name)
            .ok_or_else(|| {
                let mut names: Vec<_> = known.map(|example| example.rule().name()).collect();
                names.dedup();
                descriptor.unknown(Self::CHOICE, &names)
            })?;
        let mut params = descriptor.reader(Self::CHOICE);
        let choice = match example {
            Self::GradientDescent(_) => Self::GradientDescent(GradientDescent::read(&mut params)?),
            Self::Momentum(_) => Self::Momentum(Momentum::read(&mut params)?),
            Self::NormalisedStep(_) => Self::NormalisedStep(NormalisedStep::read(&mut params)?),
            Self::NewtonSchulz(_) => Self::NewtonSchulz(NewtonSchulz::read(&mut params)?),
        };
        params.finish()?;
        choice.validate()?;
        Ok(choice)
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        self.rule().validate()
    }

    /// The step size where no gate says otherwise.
    pub(crate) fn step_size(&self) -> f32 {
        self.rule().step_size()
    }

    /// Decay of each momentum buffer, first order first; as many as there are buffers.
    pub(crate) fn momentum_decays(&self) -> Vec<f32> {
        self.rule().momentum_decays()
    }

    /// Each token's step is divided by the energy of its features.
    pub(crate) fn is_normalised(&self) -> bool {
        matches!(self, Self::NormalisedStep(_))
    }

    /// The update is the last buffer itself.
    pub(crate) fn is_linear(&self) -> bool {
        !matches!(self, Self::NewtonSchulz(_))
    }

    /// Sums, momentum and update deserve more digits than the element type of the memory.
    pub(crate) fn is_ill_conditioned(&self) -> bool {
        self.rule().is_ill_conditioned()
    }

    /// The update that the last buffer stands for.
    pub(crate) fn update(&self, momentum: Tensor<3>) -> Tensor<3> {
        self.rule().update(momentum)
    }
}
