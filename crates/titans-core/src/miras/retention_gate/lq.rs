//! Weights are the accumulator, divided by a power of its norm.

use burn::tensor::Tensor;

use super::rule::RetentionRule;
use crate::error::{ConfigError, in_range};
use crate::miras::descriptor::{ParamReader, Params, params};

/// Sizes under this count as zero, and a zero accumulator is a zero memory.
const SMALLEST: f64 = 1e-12;

/// `A_t = retention * A_(t-1) + update_t`, `W_t = A_t / ||A_t||_q^(q-2)` (MIRAS,
/// arXiv:2504.13173, eq. 22 and 24-25; Moneta has q = 4).
///
/// The norm is that of one tensor of one memory. The paper derives the gate for powers up
/// to 2 and uses 4; at 2 it is plain l2 retention. Weights are taken from the accumulator
/// once per update, as the paper does in chunks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lq {
    /// Fraction of the accumulator kept, in `[0, 1]`.
    pub retention: f32,
    /// The power q, over 1.
    pub power: f32,
}

impl Lq {
    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            retention: params.float("retention")?,
            power: params.float("power")?,
        })
    }
}

impl RetentionRule for Lq {
    fn name(&self) -> &'static str {
        "lq"
    }

    fn params(&self) -> Params {
        params([
            ("retention", f64::from(self.retention)),
            ("power", f64::from(self.power)),
        ])
    }

    fn validate(&self) -> Result<(), ConfigError> {
        in_range("retention", self.retention, "0 to 1", |kept| {
            (0.0..=1.0).contains(&kept)
        })?;
        in_range("power", self.power, "a number over 1", |power| power > 1.0)
    }

    fn constant(&self) -> f32 {
        self.retention
    }

    fn is_identity(&self) -> bool {
        false
    }

    fn weights(&self, accumulator: Tensor<3>) -> Tensor<3> {
        let power = f64::from(self.power);
        // The largest size is taken out first: a fourth power of small numbers is zero.
        let sizes = accumulator.clone().abs();
        let largest = sizes.clone().max_dim(2).max_dim(1).clamp_min(SMALLEST);
        let norm = (sizes / largest.clone())
            .clamp_min(SMALLEST)
            .powf_scalar(power)
            .sum_dim(2)
            .sum_dim(1)
            .powf_scalar(1.0 / power)
            * largest.clone();
        let silent = largest.lower_equal_elem(SMALLEST);
        let divisor = norm.powf_scalar(power - 2.0).mask_fill(silent, 1.0);
        accumulator / divisor
    }
}
