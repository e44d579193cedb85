//! A power of the error, coordinate by coordinate.

use burn::tensor::Tensor;

use super::rule::BiasRule;
use crate::error::{ConfigError, in_range};
use crate::miras::descriptor::{ParamReader, Params, params};

/// Errors under this count as this in the power, so that the derivative of a power under
/// one stays finite when the outer training differentiates the gradient.
const SMALLEST: f64 = 1e-12;

/// `loss = sum_j |e_j|^p`, gradient `p sign(e) |e|^(p-1)`, with `e = M(key) - value`
/// (MIRAS, arXiv:2504.13173, eq. 10-11; Moneta has p = 3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lp {
    /// The power p, over 1.
    pub power: f32,
}

impl Lp {
    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            power: params.float("power")?,
        })
    }
}

impl BiasRule for Lp {
    fn name(&self) -> &'static str {
        "lp"
    }

    fn params(&self) -> Params {
        params([("power", f64::from(self.power))])
    }

    fn validate(&self) -> Result<(), ConfigError> {
        in_range("power", self.power, "a number over 1", |power| power > 1.0)
    }

    fn loss(
        &self,
        prediction: Tensor<3>,
        values: Tensor<3>,
        _threshold: Option<Tensor<3>>,
    ) -> Tensor<3> {
        let error = prediction - values;
        (error.clone().abs() * self.size_to_power_less_one(&error)).sum_dim(2)
    }

    fn gradient(
        &self,
        prediction: Tensor<3>,
        values: Tensor<3>,
        _threshold: Option<Tensor<3>>,
    ) -> Tensor<3> {
        let error = prediction - values;
        error.clone().sign() * self.size_to_power_less_one(&error) * f64::from(self.power)
    }
}

impl Lp {
    fn size_to_power_less_one(&self, error: &Tensor<3>) -> Tensor<3> {
        error
            .clone()
            .abs()
            .clamp_min(SMALLEST)
            .powf_scalar(f64::from(self.power) - 1.0)
    }
}
