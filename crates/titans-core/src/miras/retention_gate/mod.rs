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
mod surprise_sigmoid;

pub use elastic_net::ElasticNet;
pub use kl::Kl;
pub use l2::{L2Retention, RetentionTarget};
pub use lq::Lq;
pub use none::NoRetention;
pub use row_norm::RowNorm;
pub use surprise_sigmoid::SurpriseSigmoid;

use std::fmt::Debug;

use burn::tensor::Tensor;

use super::descriptor::{ChoiceDescriptor, Params};
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

    /// One of each form, for tests of what every gate obeys.
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
        let known = Self::EXAMPLES.iter().map(|example| example.rule());
        let choice = known
            .clone()
            .find(|rule| rule.name() == descriptor.name)
            .ok_or_else(|| {
                let mut names: Vec<_> = known.map(|rule| rule.name()).collect();
                names.dedup();
                descriptor.unknown(Self::CHOICE, &names)
            })?
            .with_params(descriptor)?;
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

/// One update of one accumulator.
pub(crate) struct RetentionStep {
    /// `[memories, rows, columns]`.
    pub(crate) accumulator: Tensor<3>,
    /// What the learning algorithm adds, of the same shape.
    pub(crate) update: Tensor<3>,
    /// Fraction kept, `[memories, 1, 1]`.
    pub(crate) retention: Tensor<3>,
    /// The weights that the memory began with, for gates that need them.
    pub(crate) initial: Option<Tensor<3>>,
}

impl RetentionStep {
    /// `retention * accumulator + (1 - retention) * target + update`.
    fn affine(self, target: Option<Tensor<3>>) -> Tensor<3> {
        let kept = self.accumulator * self.retention.clone();
        let pulled = match target {
            Some(target) => kept + target * (self.retention - 1.0).neg(),
            None => kept,
        };
        pulled + self.update
    }
}

/// What every gate offers; sealed until the contract has aged.
trait RetentionRule: Debug {
    /// The name, for ever: files store it.
    fn name(&self) -> &'static str;
    fn params(&self) -> Params;
    fn with_params(&self, descriptor: &ChoiceDescriptor) -> Result<RetentionGate, ConfigError>;
    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
    fn constant(&self) -> f32 {
        1.0
    }
    fn initial_scale(&self) -> f32 {
        1.0
    }
    fn needs_initial(&self) -> bool {
        false
    }
    fn is_affine(&self) -> bool {
        true
    }
    fn is_identity(&self) -> bool {
        true
    }
    fn weights(&self, accumulator: Tensor<3>) -> Tensor<3> {
        accumulator
    }
    fn advance(&self, step: RetentionStep) -> Tensor<3> {
        step.affine(None)
    }
}
