//! Similarity to the value.

use burn::tensor::Tensor;

use super::rule::BiasRule;
use crate::miras::descriptor::Params;

/// `loss = -M(key) . value`, gradient `-value` (linear attention; LaCT,
/// arXiv:2505.23884).
///
/// The gradient does not depend on what is known already, so a repeated association is
/// written again at full strength.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DotProduct;

impl BiasRule for DotProduct {
    fn name(&self) -> &'static str {
        "dot-product"
    }

    fn params(&self) -> Params {
        Params::new()
    }

    fn loss(
        &self,
        prediction: Tensor<3>,
        values: Tensor<3>,
        _threshold: Option<Tensor<3>>,
    ) -> Tensor<3> {
        (prediction * values).sum_dim(2).neg()
    }

    fn gradient(
        &self,
        _prediction: Tensor<3>,
        values: Tensor<3>,
        _threshold: Option<Tensor<3>>,
    ) -> Tensor<3> {
        values.neg()
    }
}
