//! Activations of hidden layers, with their derivatives, in kernels.

use cubecl::prelude::*;
use titans_core::Activation;

/// [`Activation`], as a kernel is compiled for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Curve {
    Gelu,
    GeluTanh,
    Silu,
    Relu,
}

impl Curve {
    /// # Panics
    /// For an activation that this version of the crate does not know; the crates of the
    /// workspace have one version.
    pub(crate) fn of(activation: Activation) -> Self {
        match activation {
            Activation::Gelu => Self::Gelu,
            Activation::GeluTanh => Self::GeluTanh,
            Activation::Silu => Self::Silu,
            Activation::Relu => Self::Relu,
            other => panic!("no kernel for the activation {other:?}"),
        }
    }
}

/// `act(x)`.
#[cube]
pub(crate) fn value(x: f32, #[comptime] curve: Curve) -> f32 {
    let mut y = max(x, 0.0f32);
    if comptime![curve == Curve::Gelu] {
        y = x * normal_distribution(x);
    }
    if comptime![curve == Curve::GeluTanh] {
        y = x * (gelu_argument(x).tanh() + 1.0f32) * 0.5f32;
    }
    if comptime![curve == Curve::Silu] {
        y = x * sigmoid(x);
    }
    y
}

/// `act'(x)`.
#[cube]
pub(crate) fn derivative(x: f32, #[comptime] curve: Curve) -> f32 {
    let mut y = select(x > 0.0f32, 1.0f32, 0.0f32);
    if comptime![curve == Curve::Gelu] {
        // 1 / sqrt(2 pi)
        let density = (x * x * -0.5f32).exp() * 0.398_942_3f32;
        y = normal_distribution(x) + x * density;
    }
    if comptime![curve == Curve::GeluTanh] {
        let tanh = gelu_argument(x).tanh();
        let slope = (x * x * 0.134_145f32 + 1.0f32) * 0.797_884_6f32;
        let rise = (1.0f32 - tanh * tanh) * slope;
        y = (tanh + 1.0f32) * 0.5f32 + x * rise * 0.5f32;
    }
    if comptime![curve == Curve::Silu] {
        let gate = sigmoid(x);
        y = gate * (x * (1.0f32 - gate) + 1.0f32);
    }
    y
}

#[cube]
#[allow(unstable_name_collisions, reason = "CubeCL's function of this name")]
fn normal_distribution(x: f32) -> f32 {
    // 1 / sqrt(2)
    ((x * std::f32::consts::FRAC_1_SQRT_2).erf() + 1.0f32) * 0.5f32
}

/// `sqrt(2 / pi) (x + 0.044715 x^3)`.
#[cube]
fn gelu_argument(x: f32) -> f32 {
    (x + x * x * x * 0.044_715f32) * 0.797_884_6f32
}

#[cube]
fn sigmoid(x: f32) -> f32 {
    1.0f32 / (1.0f32 + (-x).exp())
}
