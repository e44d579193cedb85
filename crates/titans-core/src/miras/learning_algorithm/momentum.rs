//! Accumulated gradients.

use super::rule::AlgorithmRule;
use crate::error::{ConfigError, in_range};
use crate::miras::descriptor::{ParamReader, Params, params};

/// Momentum of order 1 or 2 (Titans, arXiv:2501.00663, eq. 14; order 2 in
/// titans-pytorch).
///
/// ```text
/// order 1:  S_t = momentum_decay * S_(t-1) - step_size * gradient_t;   update = S_t
/// order 2:  Z_t = second_momentum_decay * Z_(t-1) + S_t;               update = Z_t
/// ```
///
/// The buffers are part of the state and carry over from update to update. One gradient
/// counts `1 / (1 - momentum_decay)` times in all, so a decay near one needs a smaller step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Momentum {
    /// The step, `>= 0`.
    pub step_size: f32,
    /// Decay of the first buffer, in `[0, 1]`.
    pub momentum_decay: f32,
    /// Decay of the second buffer, in `[0, 1]`; order 1 if absent.
    pub second_momentum_decay: Option<f32>,
}

impl Momentum {
    pub(super) fn params_by_name(&self) -> Params {
        let mut params = params([
            ("step_size", f64::from(self.step_size)),
            ("momentum_decay", f64::from(self.momentum_decay)),
        ]);
        params.extend(
            self.second_momentum_decay
                .map(|decay| ("second_momentum_decay".to_owned(), f64::from(decay))),
        );
        params
    }

    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            step_size: params.float("step_size")?,
            momentum_decay: params.float("momentum_decay")?,
            second_momentum_decay: params.optional_float("second_momentum_decay")?,
        })
    }

    pub(super) fn decays(&self) -> Vec<f32> {
        [Some(self.momentum_decay), self.second_momentum_decay]
            .into_iter()
            .flatten()
            .collect()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        in_range("step_size", self.step_size, "a number >= 0", |step| {
            step >= 0.0
        })?;
        for decay in self.decays() {
            in_range("momentum_decay", decay, "0 to 1", |decay| {
                (0.0..=1.0).contains(&decay)
            })?;
        }
        Ok(())
    }
}

impl AlgorithmRule for Momentum {
    fn name(&self) -> &'static str {
        "momentum"
    }

    fn params(&self) -> Params {
        self.params_by_name()
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.check()
    }

    fn step_size(&self) -> f32 {
        self.step_size
    }

    fn momentum_decays(&self) -> Vec<f32> {
        self.decays()
    }
}
