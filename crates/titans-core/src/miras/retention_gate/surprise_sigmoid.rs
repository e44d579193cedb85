//! Forgetting driven by the smoothed surprise of the stream.

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;

use super::rule::RetentionRule;
use crate::error::{ConfigError, in_range};
use crate::miras::descriptor::{ParamReader, Params, params};

/// `forgotten = sigmoid(gain * smoothed - offset)` with
/// `smoothed_t = smoothing * smoothed_(t-1) + (1 - smoothing) * surprise_t`.
///
/// The surprise is the relative error of a token where gates act per token, and the norm
/// of the update's gradient, without the step size, where they act per update.
///
/// The article sets gain 0.8, offset 0.2 and smoothing 0.9 and decays every weight, which
/// forgets at least 45 % of the memory per update. The default preset decays the *written*
/// coordinates only, and its offset is large enough that next to nothing is forgotten at
/// rest: what is not written again does not drift.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SurpriseSigmoid {
    /// Slope against the smoothed surprise.
    pub gain: f32,
    /// Subtracted before the sigmoid; 9 forgets 0.01 % at zero surprise.
    pub offset: f32,
    /// Decay of the smoothed surprise, in `[0, 1)`: the article's scalar momentum.
    pub smoothing: f32,
}

impl SurpriseSigmoid {
    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            gain: params.float("gain")?,
            offset: params.float("offset")?,
            smoothing: params.float("smoothing")?,
        })
    }

    pub(crate) fn forgotten(&self, smoothed_surprise: f32) -> f32 {
        1.0 / (1.0 + (self.offset - self.gain * smoothed_surprise).exp())
    }

    /// The fraction kept for each smoothed surprise.
    pub(crate) fn retention<const D: usize>(&self, smoothed_surprise: Tensor<D>) -> Tensor<D> {
        sigmoid((smoothed_surprise * self.gain - self.offset).neg())
    }
}

impl RetentionRule for SurpriseSigmoid {
    fn name(&self) -> &'static str {
        "surprise-sigmoid"
    }

    fn params(&self) -> Params {
        params([
            ("gain", f64::from(self.gain)),
            ("offset", f64::from(self.offset)),
            ("smoothing", f64::from(self.smoothing)),
        ])
    }

    fn validate(&self) -> Result<(), ConfigError> {
        in_range("gain", self.gain, "a number >= 0", |gain| gain >= 0.0)?;
        in_range("offset", self.offset, "a finite number", |_| true)?;
        in_range("smoothing", self.smoothing, "0 <= smoothing < 1", |decay| {
            (0.0..1.0).contains(&decay)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_articles_constants_forget_almost_half_at_rest() {
        let article = SurpriseSigmoid {
            gain: 0.8,
            offset: 0.2,
            smoothing: 0.9,
        };
        // sigmoid(-0.2), computed by hand in float64.
        assert!((article.forgotten(0.0) - 0.450_166).abs() < 1e-6);
    }

    #[test]
    fn more_surprise_forgets_more() {
        let gate = SurpriseSigmoid {
            gain: 0.8,
            offset: 9.0,
            smoothing: 0.9,
        };
        assert!(gate.forgotten(1.0) > gate.forgotten(0.0));
        assert!(gate.forgotten(1.0) < 3e-4);
    }
}
