//! What the enum asks of each of its algorithms.

use std::fmt::Debug;

use burn::tensor::Tensor;

use crate::error::ConfigError;
use crate::miras::descriptor::Params;

/// What every algorithm offers; sealed until the contract has aged.
pub(super) trait AlgorithmRule: Debug {
    /// The name. Files store it, so it never changes.
    fn name(&self) -> &'static str;
    fn params(&self) -> Params;
    fn validate(&self) -> Result<(), ConfigError>;
    fn step_size(&self) -> f32;
    fn momentum_decays(&self) -> Vec<f32> {
        Vec::new()
    }
    fn update(&self, momentum: Tensor<3>) -> Tensor<3> {
        momentum
    }
    fn is_ill_conditioned(&self) -> bool {
        false
    }
}
