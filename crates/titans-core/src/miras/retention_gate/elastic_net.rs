//! Decay and soft threshold.

use burn::tensor::Tensor;

use super::rule::{RetentionRule, RetentionStep};
use crate::error::{ConfigError, in_range};
use crate::miras::descriptor::{ParamReader, Params, params};

/// `W_t = soft(retention * (W_(t-1) + update_t), (1 - retention) * threshold)` with
/// `soft(x, t) = sign(x) max(|x| - t, 0)` (MIRAS, arXiv:2504.13173, eq. 20-21).
///
/// In the paper's letters, with `G = ||W||^2 / (2 be) + ||W||_1 / al`: the fraction kept
/// is `lam = be / (be + eta)`, the step is scaled by the same `lam`, and the shrinkage
/// `eta be / (al (eta + be))` is `(1 - lam) be / al`, so `threshold` is `be / al`. Full
/// retention therefore shrinks nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ElasticNet {
    /// Fraction kept per update, in `[0, 1]`.
    pub retention: f32,
    /// Weights that end under `(1 - retention)` times this become zero.
    pub threshold: f32,
}

impl ElasticNet {
    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            retention: params.float("retention")?,
            threshold: params.float("threshold")?,
        })
    }
}

impl RetentionRule for ElasticNet {
    fn name(&self) -> &'static str {
        "elastic-net"
    }

    fn params(&self) -> Params {
        params([
            ("retention", f64::from(self.retention)),
            ("threshold", f64::from(self.threshold)),
        ])
    }

    fn validate(&self) -> Result<(), ConfigError> {
        in_range("retention", self.retention, "0 to 1", |kept| {
            (0.0..=1.0).contains(&kept)
        })?;
        in_range("threshold", self.threshold, "a number >= 0", |t| t >= 0.0)
    }

    fn constant(&self) -> f32 {
        self.retention
    }

    fn is_affine(&self) -> bool {
        false
    }

    fn advance(&self, step: RetentionStep) -> Tensor<3> {
        let shrinkage = (step.retention.clone() - 1.0).neg() * self.threshold;
        let moved = (step.accumulator + step.update) * step.retention;
        moved.clone().sign() * (moved.abs() - shrinkage).clamp_min(0.0)
    }
}
