//! The gradient times a step.

use super::rule::AlgorithmRule;
use crate::error::{ConfigError, in_range};
use crate::miras::descriptor::{ParamReader, Params, params};

/// `update = -step_size * gradient` (TTT, arXiv:2407.04620; the delta rule with a matrix
/// and half the squared error).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientDescent {
    /// The step, `>= 0`.
    pub step_size: f32,
}

impl GradientDescent {
    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            step_size: params.float("step_size")?,
        })
    }
}

impl AlgorithmRule for GradientDescent {
    fn name(&self) -> &'static str {
        "gradient-descent"
    }

    fn params(&self) -> Params {
        params([("step_size", f64::from(self.step_size))])
    }

    fn validate(&self) -> Result<(), ConfigError> {
        in_range("step_size", self.step_size, "a number >= 0", |step| {
            step >= 0.0
        })
    }

    fn step_size(&self) -> f32 {
        self.step_size
    }
}
