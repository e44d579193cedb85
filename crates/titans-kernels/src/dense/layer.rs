//! What stands between the matrix products of an update: activations, errors and the gate,
//! and the way back through an activation.

use cubecl::prelude::*;

use super::curve::{Curve, derivative, value};
use crate::reduce::sum_over_units;

/// `h = act(z)`, in the type of the next product; one unit per number.
#[cube(launch)]
pub(crate) fn activate<F: Float>(
    z: &[f32],
    h: &mut [F],
    #[comptime] curve: Curve,
    #[define(F)] _element: ElemType,
) {
    let position = ABSOLUTE_POS;
    if position < h.len() {
        h[position] = F::cast_from(value(z[position], curve));
    }
}

/// What the errors of an update are compared with and multiplied by.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub(crate) struct ErrorScalars {
    pub(crate) slope: f32,
    pub(crate) surprise_threshold: f32,
    pub(crate) largest_relative_error: f32,
    pub(crate) smallest_norm: f32,
}

/// The relative error of each token and, if asked for, the gradient at its prediction: as it
/// is, and times each share that it has in the result; one cube per token.
///
/// ```text
/// e = prediction - value;   relative_error = ||e|| / ||value||
/// delta = slope e;          shared[s] = into[s] delta, 0 if the token is not surprising
/// ```
///
/// # Shapes
/// - `prediction`: `[memories, rows, value_dim]`; rows past the tokens fill a block of the
///   products
/// - `values`, `delta`: `[memories, tokens, value_dim]`
/// - `into`: `[memories, shares, tokens]`
/// - `relative_error`: `[memories, tokens]`
/// - `shared`: `[memories, tokens, shares, value_dim]`
#[cube(launch)]
pub(crate) fn errors<F: Float>(
    prediction: &[f32],
    values: &[f32],
    into: &[f32],
    relative_error: &mut [f32],
    delta: &mut [F],
    shared: &mut [F],
    rows: u32,
    tokens: u32,
    value_dim: u32,
    all_tokens: u32,
    scalars: ErrorScalars,
    #[comptime] shares: usize,
    #[comptime] units: usize,
    #[comptime] gradients: bool,
    #[define(F)] _element: ElemType,
) {
    let mut scratch = Shared::<[f32]>::new_slice(units);
    let rows = rows as usize;
    let tokens = tokens as usize;
    let value_dim = value_dim as usize;
    let unit = UNIT_POS_X as usize;
    // Cubes past the last token compute it again.
    let cube = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize;
    let index = min(cube, all_tokens as usize - 1);
    let memory = index / tokens;
    let token = index % tokens;
    let first = (memory * rows + token) * value_dim;
    let first_value = index * value_dim;

    let mut error_energy = 0.0f32;
    let mut value_energy = 0.0f32;
    let mut position = unit;
    while position < value_dim {
        let value = values[first_value + position];
        let error = prediction[first + position] - value;
        error_energy = fma(error, error, error_energy);
        value_energy = fma(value, value, value_energy);
        position += units;
    }
    let error_norm = sum_over_units::<f32>(error_energy, &mut scratch).sqrt();
    let value_norm = sum_over_units::<f32>(value_energy, &mut scratch).sqrt();
    let floor = max(
        error_norm / scalars.largest_relative_error,
        scalars.smallest_norm,
    );
    let relative = error_norm / max(value_norm, floor);
    if unit == 0usize {
        relative_error[index] = relative;
    }

    if comptime![gradients] {
        let is_written = is_surprising(relative, scalars.surprise_threshold);
        let mut position = unit;
        while position < value_dim {
            let error = prediction[first + position] - values[first_value + position];
            let gradient = select(is_written, scalars.slope * error, 0.0f32);
            delta[first_value + position] = F::cast_from(gradient);
            #[unroll]
            for share in 0..shares {
                let factor = into[(memory * shares + share) * tokens + token];
                shared[(index * shares + share) * value_dim + position] =
                    F::cast_from(factor * gradient);
            }
            position += units;
        }
    }
}

/// The gradient at the input of an activation, from that at the input of the layer after it;
/// one unit per number.
///
/// `delta = upstream act'(z)`, and times each share of the token.
///
/// # Shapes
/// - `upstream`, `delta`: `[memories, tokens, width]`
/// - `z`: `[memories, rows, width]`, of which those past the tokens are not looked at
/// - `into`: `[memories, shares, tokens]`
/// - `shared`: `[memories, tokens, shares, width]`
#[cube(launch)]
pub(crate) fn back<F: Float>(
    upstream: &[f32],
    z: &[f32],
    into: &[f32],
    delta: &mut [F],
    shared: &mut [F],
    rows: u32,
    tokens: u32,
    width: u32,
    #[comptime] curve: Curve,
    #[comptime] shares: usize,
    #[define(F)] _element: ElemType,
) {
    let position = ABSOLUTE_POS;
    if position < upstream.len() {
        let rows = rows as usize;
        let tokens = tokens as usize;
        let width = width as usize;
        let column = position % width;
        let index = position / width;
        let memory = index / tokens;
        let token = index % tokens;
        let at = (memory * rows + token) * width + column;
        let gradient = upstream[position] * derivative(z[at], curve);
        delta[position] = F::cast_from(gradient);
        #[unroll]
        for share in 0..shares {
            let factor = into[(memory * shares + share) * tokens + token];
            shared[(index * shares + share) * width + column] = F::cast_from(factor * gradient);
        }
    }
}

/// Over the threshold; with a threshold of zero everything that is a number.
#[cube]
fn is_surprising(relative_error: f32, threshold: f32) -> bool {
    relative_error > threshold || (threshold == 0.0f32 && relative_error >= 0.0f32)
}
