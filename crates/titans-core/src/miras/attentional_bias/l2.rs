//! Squared error.

use burn::tensor::Tensor;

use super::rule::BiasRule;
use crate::error::ConfigError;
use crate::miras::descriptor::{ParamReader, Params, Word};

/// `loss = c ||e||^2`, gradient `2 c e`, with `e = M(key) - value` (Titans,
/// arXiv:2501.00663, eq. 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L2 {
    /// The factor `c`.
    pub scale: L2Scale,
}

/// The factor of a squared error. Papers and code differ in it, and it multiplies the
/// step size: two memories that differ only here learn at different speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L2Scale {
    /// `c = 1`: Titans, equation 12.
    Sum,
    /// `c = 1 / value_dim`: titans-pytorch.
    Mean,
    /// `c = 1/2`: the delta rule; Titans, appendix C.
    Half,
}

impl L2 {
    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            scale: params.word()?,
        })
    }

    /// Twice `c`: what multiplies the error in the gradient.
    pub(crate) fn slope(&self, value_dim: usize) -> f64 {
        match self.scale {
            L2Scale::Sum => 2.0,
            L2Scale::Mean => 2.0 / value_dim as f64,
            L2Scale::Half => 1.0,
        }
    }
}

impl BiasRule for L2 {
    fn name(&self) -> &'static str {
        "l2"
    }

    fn params(&self) -> Params {
        Params::from([self.scale.param()])
    }

    fn loss(
        &self,
        prediction: Tensor<3>,
        values: Tensor<3>,
        _threshold: Option<Tensor<3>>,
    ) -> Tensor<3> {
        let [_, _, value_dim] = values.dims();
        let error = prediction - values;
        (error.clone() * error).sum_dim(2) * (0.5 * self.slope(value_dim))
    }

    fn gradient(
        &self,
        prediction: Tensor<3>,
        values: Tensor<3>,
        _threshold: Option<Tensor<3>>,
    ) -> Tensor<3> {
        let [_, _, value_dim] = values.dims();
        (prediction - values) * self.slope(value_dim)
    }
}

impl Word for L2Scale {
    const KIND: &'static str = "scale";
    const ALL: &'static [Self] = &[Self::Sum, Self::Mean, Self::Half];

    fn word(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::Half => "half",
        }
    }
}
