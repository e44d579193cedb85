//! Squared error up to a threshold, linear above.

use burn::tensor::Tensor;

use super::rule::BiasRule;
use crate::error::{ConfigError, in_range};
use crate::miras::descriptor::{ParamReader, Params, Word, params};

/// Robust to outliers: one wild value moves the memory by a bounded amount (MIRAS,
/// arXiv:2504.13173, eq. 12-14; Yaad uses `TokenSwitch`).
///
/// With `e = M(key) - value` and threshold `d`, constant or one per token from a gate:
///
/// | form | loss | gradient |
/// | --- | --- | --- |
/// | `PerCoordinate` | `sum_j (abs(e_j) <= d ? e_j^2 / 2 : d (abs(e_j) - d/2))` | `e_j` clipped to `-d .. d` |
/// | `Norm` | the same of `norm(e)` | `e min(1, d / norm(e))` |
/// | `TokenSwitch` | `norm(e) <= d ? norm(e)^2 / 2 : d sum_j abs(e_j)` | `e` or `d sign(e)` |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Huber {
    /// Where the loss turns linear, over 0.
    pub threshold: f32,
    /// What is compared with the threshold.
    pub form: HuberForm,
}

/// What a Huber loss compares with its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HuberForm {
    /// Each coordinate of the error.
    PerCoordinate,
    /// The norm of the error: clips the gradient of each token.
    Norm,
    /// The norm of the error; above the threshold the token's loss is l1.
    TokenSwitch,
}

impl Huber {
    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            threshold: params.float("threshold")?,
            form: params.word()?,
        })
    }

    fn threshold_like(&self, error: &Tensor<3>, threshold: Option<Tensor<3>>) -> Tensor<3> {
        let [memories, tokens, _] = error.dims();
        threshold.unwrap_or_else(|| {
            Tensor::full(
                [memories, tokens, 1],
                self.threshold,
                (&error.device(), error.dtype()),
            )
        })
    }
}

impl BiasRule for Huber {
    fn name(&self) -> &'static str {
        "huber"
    }

    fn params(&self) -> Params {
        let mut params = params([("threshold", f64::from(self.threshold))]);
        params.extend([self.form.param()]);
        params
    }

    fn validate(&self) -> Result<(), ConfigError> {
        in_range("threshold", self.threshold, "a number over 0", |d| d > 0.0)
    }

    fn loss(
        &self,
        prediction: Tensor<3>,
        values: Tensor<3>,
        threshold: Option<Tensor<3>>,
    ) -> Tensor<3> {
        let error = prediction - values;
        let threshold = self.threshold_like(&error, threshold);
        match self.form {
            HuberForm::PerCoordinate => {
                let threshold = threshold.expand(error.dims());
                huber(error.abs(), threshold).sum_dim(2)
            }
            HuberForm::Norm => huber(norm(error), threshold),
            HuberForm::TokenSwitch => {
                let size = norm(error.clone());
                let above = size.clone().greater(threshold.clone());
                let absolute = error.abs().sum_dim(2) * threshold;
                (size.clone() * size * 0.5).mask_where(above, absolute)
            }
        }
    }

    fn gradient(
        &self,
        prediction: Tensor<3>,
        values: Tensor<3>,
        threshold: Option<Tensor<3>>,
    ) -> Tensor<3> {
        let error = prediction - values;
        let dims = error.dims();
        let threshold = self.threshold_like(&error, threshold);
        match self.form {
            HuberForm::PerCoordinate => {
                let threshold = threshold.expand(dims);
                let above = error.clone().abs().greater(threshold.clone());
                error.clone().mask_where(above, error.sign() * threshold)
            }
            HuberForm::Norm => {
                let size = norm(error.clone());
                let above = size.clone().greater(threshold.clone());
                let share = size.ones_like().mask_where(above, threshold / size);
                error * share
            }
            HuberForm::TokenSwitch => {
                let above = norm(error.clone()).greater(threshold.clone()).expand(dims);
                error.clone().mask_where(above, error.sign() * threshold)
            }
        }
    }
}

impl Word for HuberForm {
    const KIND: &'static str = "form";
    const ALL: &'static [Self] = &[Self::PerCoordinate, Self::Norm, Self::TokenSwitch];

    fn word(self) -> &'static str {
        match self {
            Self::PerCoordinate => "per-coordinate",
            Self::Norm => "norm",
            Self::TokenSwitch => "token-switch",
        }
    }
}

/// Huber's function of sizes that are not negative.
fn huber(size: Tensor<3>, threshold: Tensor<3>) -> Tensor<3> {
    let above = size.clone().greater(threshold.clone());
    let linear = threshold.clone() * (size.clone() - threshold * 0.5);
    (size.clone() * size * 0.5).mask_where(above, linear)
}

/// Norm of each row. The floor keeps the derivative at a zero error finite, and is far
/// under any threshold.
fn norm(error: Tensor<3>) -> Tensor<3> {
    (error.clone() * error).sum_dim(2).clamp_min(1e-30).sqrt()
}
