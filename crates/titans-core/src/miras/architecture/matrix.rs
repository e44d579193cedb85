//! One matrix per memory.

use burn::tensor::Tensor;

use super::Wrap;
use super::maps::{LinearMaps, OuterGradient, TensorSpec, TokenGradients};
use super::rule::ArchitectureRule;
use crate::error::ConfigError;
use crate::miras::descriptor::{ParamReader, Params, Word};

/// `M(key) = key @ W`: linear attention with the dot product, the delta rule with l2
/// (Gated DeltaNet, arXiv:2412.06464; Titans, arXiv:2501.00663, appendix C).
///
/// Starts at zero: it knows nothing, and a read returns nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matrix {
    /// Residual path and normalisation.
    pub wrap: Wrap,
}

impl Matrix {
    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            wrap: params.word()?,
        })
    }
}

impl ArchitectureRule for Matrix {
    fn name(&self) -> &'static str {
        "matrix"
    }

    fn params(&self) -> Params {
        Params::from([self.wrap.param()])
    }

    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    fn validate_widths(&self, key_dim: usize, value_dim: usize) -> Result<(), ConfigError> {
        self.wrap.validate_widths(key_dim, value_dim)
    }

    fn tensors(&self, key_dim: usize, value_dim: usize) -> Vec<TensorSpec> {
        let mut tensors = vec![TensorSpec::zero("w.0", key_dim, value_dim)];
        self.wrap.push_tensors(&mut tensors, value_dim);
        tensors
    }

    fn predict(&self, maps: &dyn LinearMaps, inputs: Tensor<3>) -> Tensor<3> {
        let hidden = maps.apply(0, inputs.clone());
        self.wrap.predict(maps, 1, hidden, inputs)
    }

    fn gradients(
        &self,
        weights: &[Tensor<3>],
        inputs: Tensor<3>,
        at_prediction: &dyn Fn(&Tensor<3>) -> Tensor<3>,
    ) -> TokenGradients {
        let maps = super::StaticMaps(weights);
        let hidden = maps.apply(0, inputs.clone());
        let prediction = self.wrap.predict(&maps, 1, hidden.clone(), inputs.clone());
        let mut gain = Vec::new();
        let deltas = self
            .wrap
            .backward(weights, 1, hidden, at_prediction(&prediction), &mut gain);
        let mut outers = vec![OuterGradient {
            inputs: inputs.clone(),
            deltas,
        }];
        outers.append(&mut gain);
        TokenGradients {
            prediction,
            outers,
            features: inputs,
        }
    }
}
