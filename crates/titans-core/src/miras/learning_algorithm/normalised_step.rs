//! The normalised step (Kaczmarz, NLMS) behind a surprise gate.

use crate::error::{ConfigError, in_range};

/// One token's step, normalised by the energy of its active features.
///
/// ```text
/// surprise_t = ||M(key_t) - value_t|| / ||value_t||
/// smoothed_t = momentum_decay * smoothed_(t-1) + (1 - momentum_decay) * surprise_t
/// update_t   = -step_size * gradient_t / ||f_t||^2     if surprise_t > surprise_threshold
///              exactly nothing                         otherwise
/// ```
///
/// With `step_size` 1 the association is stored at once, which one-shot facts need. A
/// token at or under the threshold leaves the weights bit for bit as they were: a memory
/// that is not written cannot drift, so recall does not depend on how much unsurprising
/// text follows. `smoothed` is the article's scalar momentum and drives forgetting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormalisedStep {
    /// Fraction of the error that one write removes, in `(0, 1]`.
    pub step_size: f32,
    /// Relative error above which a token is written, `>= 0`.
    pub surprise_threshold: f32,
    /// Decay of the smoothed surprise, in `[0, 1)`.
    pub momentum_decay: f32,
}

impl NormalisedStep {
    pub(crate) const NAME: &'static str = "normalised-step";

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        in_range("step_size", self.step_size, "0 < step_size <= 1", |step| {
            step > 0.0 && step <= 1.0
        })?;
        in_range(
            "surprise_threshold",
            self.surprise_threshold,
            "a number >= 0",
            |threshold| threshold >= 0.0,
        )?;
        in_range(
            "momentum_decay",
            self.momentum_decay,
            "0 <= momentum_decay < 1",
            |decay| (0.0..1.0).contains(&decay),
        )
    }
}
