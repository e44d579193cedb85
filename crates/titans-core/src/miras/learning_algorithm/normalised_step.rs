//! The normalised step (Kaczmarz, NLMS).

use super::rule::AlgorithmRule;
use crate::error::{ConfigError, in_range};
use crate::miras::descriptor::{ParamReader, Params, params};

/// `update_t = -step_size * gradient_t / ||f_t||^2`, where `f_t` is the input of the last
/// linear map.
///
/// With half the squared error, a linear read-out and `step_size` 1 the association is
/// stored at once, whatever the size of its key, which one-shot facts need. A token
/// without features (a zero key) is not written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormalisedStep {
    /// Fraction of the error that one write removes, in `(0, 1]`.
    pub step_size: f32,
}

impl NormalisedStep {
    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            step_size: params.float("step_size")?,
        })
    }
}

impl AlgorithmRule for NormalisedStep {
    fn name(&self) -> &'static str {
        "normalised-step"
    }

    fn params(&self) -> Params {
        params([("step_size", f64::from(self.step_size))])
    }

    fn validate(&self) -> Result<(), ConfigError> {
        in_range("step_size", self.step_size, "0 < step_size <= 1", |step| {
            step > 0.0 && step <= 1.0
        })
    }

    fn step_size(&self) -> f32 {
        self.step_size
    }
}
