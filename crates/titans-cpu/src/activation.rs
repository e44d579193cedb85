//! Activations and their derivatives, both from one exponential.

use crate::simd::{Loop, vectorised};

/// The nonlinearity between two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x Phi(x)` with the exact normal distribution function.
    Gelu,
    /// The tanh approximation of `Gelu`.
    GeluTanh,
    /// `x sigmoid(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    /// Every `x` becomes `activation(x)`.
    pub(crate) fn apply(self, x: &mut [f32]) {
        match self {
            Self::Gelu => apply(x, gelu),
            Self::GeluTanh => apply(x, gelu_tanh),
            Self::Silu => apply(x, silu),
            Self::Relu => apply(x, relu),
        }
    }

    /// Every `x` becomes `activation'(x)`; `value` becomes `activation(x)`.
    pub(crate) fn split(self, x: &mut [f32], value: &mut [f32]) {
        match self {
            Self::Gelu => split(x, value, gelu),
            Self::GeluTanh => split(x, value, gelu_tanh),
            Self::Silu => split(x, value, silu),
            Self::Relu => split(x, value, relu),
        }
    }
}

#[inline(always)]
fn apply(x: &mut [f32], of: impl Fn(f32) -> (f32, f32)) {
    vectorised(Loop(
        #[inline(always)]
        || {
            for x in x.iter_mut() {
                *x = of(*x).0;
            }
        },
    ));
}

#[inline(always)]
fn split(x: &mut [f32], value: &mut [f32], of: impl Fn(f32) -> (f32, f32)) {
    vectorised(Loop(
        #[inline(always)]
        || {
            for (x, value) in x.iter_mut().zip(value.iter_mut()) {
                (*value, *x) = of(*x);
            }
        },
    ));
}

#[inline(always)]
fn gelu(x: f32) -> (f32, f32) {
    const DENSITY: f32 = 0.398_942_3;
    let bell = exp(-0.5 * x * x);
    let tail = 0.5 * bell * scaled_erfc(x.abs() * std::f32::consts::FRAC_1_SQRT_2);
    let distribution = if x < 0.0 { tail } else { 1.0 - tail };
    (x * distribution, (x * DENSITY).mul_add(bell, distribution))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> (f32, f32) {
    /// Twice `sqrt(2 / pi)`.
    const SLOPE: f32 = 1.595_769;
    const CUBIC: f32 = 0.044_715;
    // (tanh(y) + 1) / 2 is the sigmoid of 2 y.
    let square = x * x;
    let gate = sigmoid(SLOPE * x * square.mul_add(CUBIC, 1.0));
    let slope = SLOPE * square.mul_add(3.0 * CUBIC, 1.0);
    (x * gate, (x * slope).mul_add(gate * (1.0 - gate), gate))
}

#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let gate = sigmoid(x);
    (x * gate, gate * x.mul_add(1.0 - gate, 1.0))
}

#[inline(always)]
fn relu(x: f32) -> (f32, f32) {
    // NaN stays NaN.
    if x <= 0.0 { (0.0, 0.0) } else { (x, 1.0) }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `exp(x^2) erfc(x)` for `x >= 0`, relative error at most 1e-7 up to 10: a polynomial in
/// `1 / (1 + 0.33 x)`, fitted for this program to the least largest relative error.
#[inline(always)]
fn scaled_erfc(x: f32) -> f32 {
    let t = 1.0 / x.mul_add(0.33, 1.0);
    let mut sum = -0.135_343_63_f32;
    for coefficient in [
        0.460_227_83,
        -0.351_132_53,
        0.408_483_14,
        0.047_230_102,
        0.201_220_87,
        0.182_956_45,
        0.186_357_77,
    ] {
        sum = sum.mul_add(t, coefficient);
    }
    sum * t
}

/// `e^x`, without a branch; relative error at most 3e-7 where neither end is near.
///
/// `x = n ln 2 + r`; the powers of r up to the seventh are summed, and n goes into the
/// exponent. Adding 1.5 2^23 rounds to an integer and leaves it in the low bits.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let mut sum = 1.0 / 5040.0_f32;
    for coefficient in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        sum = sum.mul_add(r, coefficient);
    }
    sum * f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3f80_0000))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `erf` by its series, in double precision: slow, and obviously right up to 6.
    fn erf(x: f64) -> f64 {
        let mut term = x;
        let mut sum = x;
        for n in 1..400 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    fn expected(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Gelu => x * 0.5 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            Activation::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            }
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Relu => x.max(0.0),
        }
    }

    #[test]
    fn values_and_derivatives_are_those_of_the_definitions() {
        for activation in [
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::Silu,
            Activation::Relu,
        ] {
            let points: Vec<f32> = (-4000..=4000).map(|i| i as f32 * 1.1e-3 + 3e-5).collect();
            let (mut slopes, mut values) = (points.clone(), points.clone());
            activation.split(&mut slopes, &mut values);
            for (at, x) in points.iter().map(|x| f64::from(*x)).enumerate() {
                let value = expected(activation, x);
                let error = (f64::from(values[at]) - value).abs();
                assert!(
                    error < 2.5e-7 * x.abs().max(1e-3),
                    "{activation:?}({x}): {error:e}"
                );
                let step = 1e-5;
                let ends = expected(activation, x + step) - expected(activation, x - step);
                let error = (f64::from(slopes[at]) - ends / (2.0 * step)).abs();
                assert!(error < 3e-6, "{activation:?}'({x}): {error:e}");
            }
            let mut alone = points.clone();
            activation.apply(&mut alone);
            assert_eq!(alone, values);
        }
    }

    #[test]
    fn far_out_the_ends_are_reached_and_nothing_bad_is_hidden() {
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Silu] {
            let mut slopes = [50.0, 1e4, -50.0, -1e4, f32::NAN];
            let mut values = [0.0; 5];
            activation.split(&mut slopes, &mut values);
            assert_eq!(values[..2], [50.0, 1e4], "{activation:?}");
            assert!(values[2].abs() < 1e-10 && values[3].abs() < 1e-10);
            assert!(slopes[..2].iter().all(|slope| (slope - 1.0).abs() < 1e-6));
            assert!(slopes[2..4].iter().all(|slope| slope.abs() < 1e-6));
            assert!(values[4].is_nan() && slopes[4].is_nan());
        }
        let mut bad = [f32::NAN];
        Activation::Relu.apply(&mut bad);
        assert!(bad[0].is_nan());
    }
}
