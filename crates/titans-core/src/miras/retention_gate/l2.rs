//! A fraction of the weights is kept.

use burn::tensor::Tensor;

use super::rule::{RetentionRule, RetentionStep};
use crate::error::{ConfigError, in_range};
use crate::miras::descriptor::{ParamReader, Params, Word, params};

/// `W_t = retention * W_(t-1) + (1 - retention) * target + update_t` (Titans,
/// arXiv:2501.00663, eq. 13, with target zero).
///
/// With target zero the memory returns to *zero*, not to what it began with. A memory
/// whose initial weights were trained wants the other target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct L2Retention {
    /// Fraction kept per token or per update, in `[0, 1]`.
    pub retention: f32,
    /// Where the weights decay to.
    pub target: RetentionTarget,
}

/// Where weights decay to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetentionTarget {
    /// Zero, as in the papers.
    #[default]
    Zero,
    /// The weights that the memory began with.
    Initial,
}

impl L2Retention {
    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            retention: params.float("retention")?,
            target: params.word()?,
        })
    }
}

impl RetentionRule for L2Retention {
    fn name(&self) -> &'static str {
        "l2"
    }

    fn params(&self) -> Params {
        let mut params = params([("retention", f64::from(self.retention))]);
        params.extend([self.target.param()]);
        params
    }

    fn validate(&self) -> Result<(), ConfigError> {
        in_range("retention", self.retention, "0 to 1", |kept| {
            (0.0..=1.0).contains(&kept)
        })
    }

    fn constant(&self) -> f32 {
        self.retention
    }

    fn needs_initial(&self) -> bool {
        self.target == RetentionTarget::Initial
    }

    fn advance(&self, mut step: RetentionStep) -> Tensor<3> {
        let target = step.initial.take();
        step.affine(target.filter(|_| self.target == RetentionTarget::Initial))
    }
}

impl Word for RetentionTarget {
    const KIND: &'static str = "target";
    const ALL: &'static [Self] = &[Self::Zero, Self::Initial];

    fn word(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Initial => "initial",
        }
    }
}
