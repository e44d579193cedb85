//! What the enum asks of each of its architectures.

use std::fmt::Debug;

use burn::tensor::Tensor;

use super::maps::{LinearMaps, TensorSpec, TokenGradients};
use crate::error::{ConfigError, in_range};
use crate::miras::descriptor::Params;

/// What every architecture offers; sealed until the contract has aged.
pub(super) trait ArchitectureRule: Debug {
    /// The name. Files store it, so it never changes.
    fn name(&self) -> &'static str;
    fn params(&self) -> Params;
    fn validate(&self) -> Result<(), ConfigError>;
    fn validate_widths(&self, _key_dim: usize, _value_dim: usize) -> Result<(), ConfigError> {
        Ok(())
    }
    fn tensors(&self, key_dim: usize, value_dim: usize) -> Vec<TensorSpec>;
    fn predict(&self, maps: &dyn LinearMaps, inputs: Tensor<3>) -> Tensor<3>;
    fn gradients(
        &self,
        weights: &[Tensor<3>],
        inputs: Tensor<3>,
        at_prediction: &dyn Fn(&Tensor<3>) -> Tensor<3>,
    ) -> TokenGradients;
}

/// `Ok` for the depths that the ablation of Titans covers.
pub(super) fn validate_depth(depth: usize) -> Result<(), ConfigError> {
    in_range("depth", depth as f32, "1 to 4", |depth| {
        (1.0..=4.0).contains(&depth)
    })
}
