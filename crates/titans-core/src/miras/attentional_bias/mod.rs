//! What counts as an error: loss per token, and from it the surprise.

mod dot_product;
mod huber;
mod l2;
mod lp;
mod rule;

pub use dot_product::DotProduct;
pub use huber::{Huber, HuberForm};
pub use l2::{L2, L2Scale};
pub use lp::Lp;

use burn::tensor::Tensor;

use self::rule::BiasRule;
use super::descriptor::ChoiceDescriptor;
use crate::error::ConfigError;

/// The attentional bias: the inner objective that a write descends.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum AttentionalBias {
    /// Similarity to the value.
    DotProduct(DotProduct),
    /// Squared error.
    L2(L2),
    /// A power of the error, coordinate by coordinate.
    Lp(Lp),
    /// Squared error up to a threshold, linear above.
    Huber(Huber),
}

impl AttentionalBias {
    const CHOICE: &'static str = "attentional bias";

    /// One of each form. They are what [`from_descriptor`](Self::from_descriptor) knows by name,
    /// what a text of a configuration may name, and what tests try for every bias.
    pub const EXAMPLES: &'static [Self] = &[
        Self::DotProduct(DotProduct),
        Self::L2(L2 {
            scale: L2Scale::Sum,
        }),
        Self::L2(L2 {
            scale: L2Scale::Mean,
        }),
        Self::L2(L2 {
            scale: L2Scale::Half,
        }),
        Self::Lp(Lp { power: 3.0 }),
        Self::Lp(Lp { power: 1.5 }),
        Self::Huber(Huber {
            threshold: 0.5,
            form: HuberForm::PerCoordinate,
        }),
        Self::Huber(Huber {
            threshold: 1.5,
            form: HuberForm::Norm,
        }),
        Self::Huber(Huber {
            threshold: 1.5,
            form: HuberForm::TokenSwitch,
        }),
    ];

    fn rule(&self) -> &dyn BiasRule {
        match self {
            Self::DotProduct(rule) => rule,
            Self::L2(rule) => rule,
            Self::Lp(rule) => rule,
            Self::Huber(rule) => rule,
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
            Self::DotProduct(rule) => Self::DotProduct(*rule),
            Self::L2(_) => Self::L2(L2::read(&mut params)?),
            Self::Lp(_) => Self::Lp(Lp::read(&mut params)?),
            Self::Huber(_) => Self::Huber(Huber::read(&mut params)?),
        };
        params.finish()?;
        choice.validate()?;
        Ok(choice)
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        self.rule().validate()
    }

    /// Whether a gate may set the threshold of each token.
    pub fn takes_threshold(&self) -> bool {
        matches!(self, Self::Huber(_))
    }

    /// The threshold where no gate says otherwise; anything where none is taken.
    pub(crate) fn constant_threshold(&self) -> f32 {
        match self {
            Self::Huber(huber) => huber.threshold,
            _ => 1.0,
        }
    }

    /// The loss of each token.
    ///
    /// # Shapes
    /// - `prediction`, `values`: `[memories, tokens, value_dim]`
    /// - `threshold`: `[memories, tokens, 1]`, in place of the configured one, for the
    ///   biases that [take one](Self::takes_threshold)
    /// - returns: `[memories, tokens, 1]`
    pub fn loss(
        &self,
        prediction: Tensor<3>,
        values: Tensor<3>,
        threshold: Option<Tensor<3>>,
    ) -> Tensor<3> {
        self.rule().loss(prediction, values, threshold)
    }

    /// The gradient of each token's loss with respect to its prediction.
    ///
    /// # Shapes
    /// As [`loss`](Self::loss); returns `[memories, tokens, value_dim]`.
    pub fn gradient(
        &self,
        prediction: Tensor<3>,
        values: Tensor<3>,
        threshold: Option<Tensor<3>>,
    ) -> Tensor<3> {
        self.rule().gradient(prediction, values, threshold)
    }
}
