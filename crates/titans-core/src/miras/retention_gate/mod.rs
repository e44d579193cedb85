//! What is kept of the old weights when something is written.
//!
//! A gate acts on an *accumulator*, because not every gate is a multiplication of
//! weights: `lq` renormalises and `kl` is a scaled softmax of what is accumulated. Every
//! accumulator obeys
//!
//! ```text
//! a_t = retention_t * a_(t-1) + (1 - retention_t) * target + update_t
//! ```
//!
//! with target zero or the initial weights; a gate that does more than this after each
//! update (`elastic-net`, `row-norm`) is not affine, and is applied update by update.

mod elastic_net;
mod kl;
mod l2;
mod lq;
mod none;
mod row_norm;
mod rule;
mod surprise_sigmoid;

pub use elastic_net::ElasticNet;
pub use kl::Kl;
pub use l2::{L2Retention, RetentionTarget};
pub use lq::Lq;
pub use none::NoRetention;
pub use row_norm::RowNorm;
pub(crate) use rule::RetentionStep;
pub use surprise_sigmoid::SurpriseSigmoid;

use burn::tensor::Tensor;

use self::rule::RetentionRule;
use super::descriptor::ChoiceDescriptor;
use crate::error::ConfigError;

/// The retention gate: what a write keeps of the weights it meets.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RetentionGate {
    /// Everything is kept.
    None(NoRetention),
    /// A constant or learned fraction is kept.
    L2(L2Retention),
    /// Forget more while the stream surprises: the article's sigmoid.
    SurpriseSigmoid(SurpriseSigmoid),
    /// Decay and soft threshold: small weights become exactly zero.
    ElasticNet(ElasticNet),
    /// Weights are the accumulator, divided by a power of its norm.
    Lq(Lq),
    /// Weights are a scaled softmax of the accumulator.
    Kl(Kl),
    /// Weights keep the norms they began with.
    RowNorm(RowNorm),
}

impl RetentionGate {
    const CHOICE: &'static str = "retention gate";

    /// One of each form. They are what [`from_descriptor`](Self::from_descriptor) knows by name,
    /// what a text of a configuration may name, and what tests try for every gate.
    pub const EXAMPLES: &'static [Self] = &[
        Self::None(NoRetention),
        Self::L2(L2Retention {
            retention: 0.9,
            target: RetentionTarget::Zero,
        }),
        Self::L2(L2Retention {
            retention: 0.9,
            target: RetentionTarget::Initial,
        }),
        Self::SurpriseSigmoid(SurpriseSigmoid {
            gain: 0.8,
            offset: 2.0,
            smoothing: 0.9,
        }),
        Self::ElasticNet(ElasticNet {
            retention: 0.9,
            threshold: 0.05,
        }),
        Self::Lq(Lq {
            retention: 0.9,
            power: 4.0,
        }),
        Self::Kl(Kl {
            retention: 0.9,
            mass: 1.0,
        }),
        Self::RowNorm(RowNorm),
    ];

    fn rule(&self) -> &dyn RetentionRule {
        match self {
            Self::None(rule) => rule,
            Self::L2(rule) => rule,
            Self::SurpriseSigmoid(rule) => rule,
            Self::ElasticNet(rule) => rule,
            Self::Lq(rule) => rule,
            Self::Kl(rule) => rule,
            Self::RowNorm(rule) => rule,
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
            Self::None(rule) => Self::None(*rule),
            Self::L2(_) => Self::L2(L2Retention::read(&mut params)?),
            Self::SurpriseSigmoid(_) => Self::SurpriseSigmoid(SurpriseSigmoid::read(&mut params)?),
            Self::ElasticNet(_) => Self::ElasticNet(ElasticNet::read(&mut params)?),
            Self::Lq(_) => Self::Lq(Lq::read(&mut params)?),
            Self::Kl(_) => Self::Kl(Kl::read(&mut params)?),
            Self::RowNorm(rule) => Self::RowNorm(*rule),
        };
        params.finish()?;
        choice.validate()?;
        Ok(choice)
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        self.rule().validate()
    }

    /// The fraction kept where no gate says otherwise.
    pub(crate) fn constant(&self) -> f32 {
        self.rule().constant()
    }

    /// What random initial values are multiplied with to become an accumulator.
    pub(crate) fn initial_scale(&self) -> f32 {
        self.rule().initial_scale()
    }

    /// The initial weights are part of what the gate needs.
    pub(crate) fn needs_initial(&self) -> bool {
        self.rule().needs_initial()
    }

    /// Decay goes to the initial weights and not to zero.
    pub(crate) fn decays_to_initial(&self) -> bool {
        matches!(self, Self::L2(gate) if gate.target == RetentionTarget::Initial)
    }

    /// Nothing happens to the accumulator but the affine step.
    pub(crate) fn is_affine(&self) -> bool {
        self.rule().is_affine()
    }

    /// The weights are the accumulator itself.
    pub(crate) fn is_identity(&self) -> bool {
        self.rule().is_identity()
    }

    /// The weights that an accumulator stands for.
    ///
    /// # Shapes
    /// - `accumulator`: `[memories, rows, columns]`
    pub fn weights(&self, accumulator: Tensor<3>) -> Tensor<3> {
        self.rule().weights(accumulator)
    }

    /// The accumulator after one update.
    pub(crate) fn advance(&self, step: RetentionStep) -> Tensor<3> {
        self.rule().advance(step)
    }
}
