//! Activations of hidden layers, with their derivatives.

use burn::tensor::Tensor;
use burn::tensor::activation::{relu, sigmoid};

use crate::miras::descriptor::Word;

/// The nonlinearity between two layers of a memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// `x Phi(x)` with the exact normal distribution function.
    #[default]
    Gelu,
    /// The tanh approximation of `Gelu`; off by up to 5e-4.
    GeluTanh,
    /// `x sigmoid(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
}

/// Slope of the tanh argument in the approximation of GELU: `sqrt(2 / pi)`.
const GELU_SLOPE: f64 = 0.797_884_560_802_865_4;
/// Its cubic coefficient.
const GELU_CUBIC: f64 = 0.044_715;

impl Activation {
    pub(crate) fn value(self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Gelu => x.clone() * normal_distribution(x),
            Self::GeluTanh => {
                let inner = (x.clone() + cube(x.clone()) * GELU_CUBIC) * GELU_SLOPE;
                x * (inner.tanh() + 1.0) * 0.5
            }
            Self::Silu => x.clone() * sigmoid(x),
            Self::Relu => relu(x),
        }
    }

    pub(crate) fn derivative(self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Gelu => {
                let density = (x.clone() * x.clone() * -0.5).exp()
                    * (std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2 * 0.5);
                normal_distribution(x.clone()) + x * density
            }
            Self::GeluTanh => {
                let square = x.clone() * x.clone();
                let tanh = ((x.clone() + cube(x.clone()) * GELU_CUBIC) * GELU_SLOPE).tanh();
                let slope = (square * (3.0 * GELU_CUBIC) + 1.0) * GELU_SLOPE;
                let rise = (tanh.clone() * tanh.clone() - 1.0).neg() * slope;
                (tanh + 1.0) * 0.5 + x * rise * 0.5
            }
            Self::Silu => {
                let gate = sigmoid(x.clone());
                gate.clone() * (x * (gate - 1.0).neg() + 1.0)
            }
            Self::Relu => x.zeros_like().mask_fill(x.greater_elem(0.0), 1.0),
        }
    }
}

impl Word for Activation {
    const KIND: &'static str = "activation";
    const ALL: &'static [Self] = &[Self::Gelu, Self::GeluTanh, Self::Silu, Self::Relu];

    fn word(self) -> &'static str {
        match self {
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu-tanh",
            Self::Silu => "silu",
            Self::Relu => "relu",
        }
    }
}

fn normal_distribution(x: Tensor<3>) -> Tensor<3> {
    ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5
}

fn cube(x: Tensor<3>) -> Tensor<3> {
    x.clone() * x.clone() * x
}
