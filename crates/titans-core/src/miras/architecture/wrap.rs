//! What surrounds the layers of a memory: residual path and normalisation.

use burn::tensor::Tensor;

use super::maps::{LinearMaps, OuterGradient, TensorSpec};
use crate::error::ConfigError;
use crate::miras::descriptor::Word;

/// Added to the variance before the square root.
const EPSILON: f64 = 1e-5;

/// How the output `h` of the layers becomes the prediction for the key `x`.
///
/// `LN` is layer normalisation over the last axis with biased variance and epsilon 1e-5;
/// `gain` is one of the memory's parameters and is learned and decayed like the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wrap {
    /// `M(x) = h`.
    #[default]
    Plain,
    /// `M(x) = h + x`; needs values as wide as keys.
    Residual,
    /// `M(x) = LN(h) * (gain + 1)`.
    Norm,
    /// `M(x) = LN(h) * (gain + 1) + x`; needs values as wide as keys (MIRAS,
    /// arXiv:2504.13173, the memory of its three models).
    NormResidual,
}

impl Wrap {
    fn has_gain(self) -> bool {
        matches!(self, Self::Norm | Self::NormResidual)
    }

    fn has_residual(self) -> bool {
        matches!(self, Self::Residual | Self::NormResidual)
    }

    pub(super) fn validate_widths(
        self,
        key_dim: usize,
        value_dim: usize,
    ) -> Result<(), ConfigError> {
        if self.has_residual() && key_dim != value_dim {
            return Err(ConfigError::OutOfRange {
                name: "value_dim",
                value: value_dim as f64,
                expected: "key_dim, because the memory has a residual path",
            });
        }
        Ok(())
    }

    /// Appends the gain, if there is one.
    pub(super) fn push_tensors(self, tensors: &mut Vec<TensorSpec>, value_dim: usize) {
        if self.has_gain() {
            tensors.push(TensorSpec::gain(value_dim));
        }
    }

    /// The prediction; `gain` is the index of the gain's tensor.
    pub(super) fn predict(
        self,
        maps: &dyn LinearMaps,
        gain: usize,
        hidden: Tensor<3>,
        keys: Tensor<3>,
    ) -> Tensor<3> {
        let output = if self.has_gain() {
            let normalised = normalise(hidden).0;
            normalised * (maps.apply(gain, one_per_token(&keys)) + 1.0)
        } else {
            hidden
        };
        if self.has_residual() {
            output + keys
        } else {
            output
        }
    }

    /// The gradient at `hidden`; appends the gain's gradient to `outers`.
    pub(super) fn backward(
        self,
        weights: &[Tensor<3>],
        gain: usize,
        hidden: Tensor<3>,
        at_prediction: Tensor<3>,
        outers: &mut Vec<OuterGradient>,
    ) -> Tensor<3> {
        if !self.has_gain() {
            return at_prediction;
        }
        let (normalised, deviation) = normalise(hidden);
        outers.push(OuterGradient {
            inputs: one_per_token(&at_prediction),
            deltas: at_prediction.clone() * normalised.clone(),
        });
        let at_normalised = at_prediction * (weights[gain].clone() + 1.0);
        let along = (at_normalised.clone() * normalised.clone()).mean_dim(2);
        (at_normalised.clone() - at_normalised.mean_dim(2) - normalised * along) / deviation
    }
}

impl Word for Wrap {
    const KIND: &'static str = "wrap";
    const ALL: &'static [Self] = &[Self::Plain, Self::Residual, Self::Norm, Self::NormResidual];

    fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Residual => "residual",
            Self::Norm => "norm",
            Self::NormResidual => "norm-residual",
        }
    }
}

/// The input of the gain: a one for every token.
fn one_per_token(tokens: &Tensor<3>) -> Tensor<3> {
    let [memories, count, _] = tokens.dims();
    Tensor::ones([memories, count, 1], (&tokens.device(), tokens.dtype()))
}

/// The normalised rows and their standard deviations.
fn normalise(hidden: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
    let centred = hidden.clone() - hidden.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    let deviation = (variance + EPSILON).sqrt();
    (centred / deviation.clone(), deviation)
}
