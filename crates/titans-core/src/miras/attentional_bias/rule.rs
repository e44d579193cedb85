//! What the enum asks of each of its biases.

use std::fmt::Debug;

use burn::tensor::Tensor;

use crate::error::ConfigError;
use crate::miras::descriptor::Params;

/// What every bias offers; sealed until the contract has aged.
pub(super) trait BiasRule: Debug {
    /// The name. Files store it, so it never changes.
    fn name(&self) -> &'static str;
    fn params(&self) -> Params;
    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
    fn loss(
        &self,
        prediction: Tensor<3>,
        values: Tensor<3>,
        threshold: Option<Tensor<3>>,
    ) -> Tensor<3>;
    fn gradient(
        &self,
        prediction: Tensor<3>,
        values: Tensor<3>,
        threshold: Option<Tensor<3>>,
    ) -> Tensor<3>;
}
