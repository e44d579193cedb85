//! What the enum asks of each of its gates.

use std::fmt::Debug;

use burn::tensor::Tensor;

use crate::error::ConfigError;
use crate::miras::descriptor::Params;

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
    pub(super) fn affine(self, target: Option<Tensor<3>>) -> Tensor<3> {
        let kept = self.accumulator * self.retention.clone();
        let pulled = match target {
            Some(target) => kept + target * (self.retention - 1.0).neg(),
            None => kept,
        };
        pulled + self.update
    }
}

/// What every gate offers; sealed until the contract has aged.
pub(super) trait RetentionRule: Debug {
    /// The name. Files store it, so it never changes.
    fn name(&self) -> &'static str;
    fn params(&self) -> Params;
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
