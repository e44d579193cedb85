//! Weights are a scaled softmax of the accumulator.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

use super::rule::RetentionRule;
use crate::error::{ConfigError, in_range};
use crate::miras::descriptor::{ParamReader, Params, params};

/// Spread of the initial logits beside that of initial weights: with less, all units of a
/// layer begin as the same mean of their inputs, and learn the same.
const INITIAL_SPREAD: f32 = 4.0;

/// `W_t = mass * softmax(retention * log W_(t-1) + update_t)` over the inputs of each
/// output (MIRAS, arXiv:2504.13173, eq. 19 and 27: Memora).
///
/// The accumulator is `log W` up to a constant per output. The softmax ignores that
/// constant, and a fraction of a constant is still one, so the accumulator obeys the
/// affine step and the normalisation waits until weights are needed. Weights are never
/// negative, and those into one output always sum to `mass`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kl {
    /// Fraction of `log W` kept, in `[0, 1]`.
    pub retention: f32,
    /// Sum of the weights into one output, over 0.
    pub mass: f32,
}

impl Kl {
    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            retention: params.float("retention")?,
            mass: params.float("mass")?,
        })
    }
}

impl RetentionRule for Kl {
    fn name(&self) -> &'static str {
        "kl"
    }

    fn params(&self) -> Params {
        params([
            ("retention", f64::from(self.retention)),
            ("mass", f64::from(self.mass)),
        ])
    }

    fn validate(&self) -> Result<(), ConfigError> {
        in_range("retention", self.retention, "0 to 1", |kept| {
            (0.0..=1.0).contains(&kept)
        })?;
        in_range("mass", self.mass, "a number over 0", |mass| mass > 0.0)
    }

    fn constant(&self) -> f32 {
        self.retention
    }

    fn initial_scale(&self) -> f32 {
        INITIAL_SPREAD
    }

    fn is_identity(&self) -> bool {
        false
    }

    fn weights(&self, accumulator: Tensor<3>) -> Tensor<3> {
        let [_, rows, _] = accumulator.dims();
        if rows == 1 {
            // A gain has one input per output: its softmax would be a constant.
            return accumulator;
        }
        softmax(accumulator, 1) * self.mass
    }
}
