//! The ordered, gated write of a chunk, in one launch for many memories.

use cubecl::prelude::*;

use crate::reduce::sum_over_units;

/// What the gate and the step of a write are, as the kernel takes them.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub(crate) struct WriteScalars {
    pub(crate) step_size: f32,
    pub(crate) surprise_threshold: f32,
    pub(crate) largest_relative_error: f32,
    pub(crate) smallest_norm: f32,
    pub(crate) gain: f32,
    pub(crate) offset: f32,
    pub(crate) smoothing: f32,
}

/// Writes the tokens of each memory one after the other; one cube per memory.
///
/// ```text
/// error_t    = value_t - f_t @ W
/// surprise_t = ||error_t|| / ||value_t||
/// W[j]       = retention_t * W[j] + step_size * f_tj * error_t     for active channels j,
///              if surprise_t > surprise_threshold
/// ```
///
/// Titans (arXiv:2501.00663), eq. 13-14, linear in the learned layer. A unit owns columns of
/// the values, so the weights that it reads are those it wrote: nothing but the two norms
/// crosses units, and a token costs one wait for the memory and one sum.
///
/// # Shapes
/// - `weights`: `[memories, channels, value_dim]`, written in place
/// - `smoothed`: `[memories]`
/// - `indices`, `features`: `[memories, tokens, active]`
/// - `values`: `[memories, tokens, value_dim]`
/// - `report`: `[memories, tokens + 2 + touched]`, see [`crate::report`]
#[cube(launch)]
pub(crate) fn write_in_order(
    weights: &mut [f32],
    smoothed: &[f32],
    indices: &[i32],
    features: &[f32],
    values: &[f32],
    report: &mut [i32],
    tokens: u32,
    channels: u32,
    value_dim: u32,
    active: u32,
    scalars: WriteScalars,
    #[comptime] normalise: bool,
    #[comptime] forgets: bool,
    #[comptime] columns: usize,
    #[comptime] units: usize,
) {
    let mut scratch = Shared::<[f32]>::new_slice(units);
    let tokens = tokens as usize;
    let channels = channels as usize;
    let value_dim = value_dim as usize;
    let active = active as usize;
    let unit = UNIT_POS_X as usize;
    let memory = CUBE_POS_X as usize;
    let of_memory = memory * channels * value_dim;
    let touched_words = channels.div_ceil(32usize);
    let report_row = memory * (tokens + 2usize + touched_words);
    let touched = report_row + tokens + 2usize;

    let mut word = unit;
    while word < touched_words {
        report[touched + word] = 0i32;
        word += units;
    }

    let mut smoothed = smoothed[memory];
    let mut tokens_written = 0i32;
    let mut errors = Array::<f32>::new(columns);
    for token in 0..tokens {
        let token_idx = memory * tokens + token;
        let first_slot = token_idx * active;
        #[unroll]
        for column in 0..columns {
            errors[column] = 0.0f32;
        }
        let mut feature_energy = 0.0f32;
        let mut has_features = false;
        for slot in first_slot..first_slot + active {
            let feature = features[slot];
            let row = of_memory + indices[slot] as usize * value_dim;
            feature_energy = fma(feature, feature, feature_energy);
            if feature != 0.0f32 {
                has_features = true;
            }
            #[unroll]
            for column in 0..columns {
                let position = column * units + unit;
                if position < value_dim {
                    let sum = errors[column];
                    errors[column] = fma(feature, weights[row + position], sum);
                }
            }
        }
        let mut error_energy = 0.0f32;
        let mut value_energy = 0.0f32;
        #[unroll]
        for column in 0..columns {
            let position = column * units + unit;
            if position < value_dim {
                let value = values[token_idx * value_dim + position];
                let error = value - errors[column];
                errors[column] = error;
                error_energy = fma(error, error, error_energy);
                value_energy = fma(value, value, value_energy);
            }
        }
        let error_norm = sum_over_units::<f32>(error_energy, &mut scratch).sqrt();
        let value_norm = sum_over_units::<f32>(value_energy, &mut scratch).sqrt();
        let floor = max(
            error_norm / scalars.largest_relative_error,
            scalars.smallest_norm,
        );
        let surprise = error_norm / max(value_norm, floor);
        let mut kept = 1.0f32;
        if comptime![forgets] {
            smoothed = scalars.smoothing * smoothed + (1.0f32 - scalars.smoothing) * surprise;
            let exponent = scalars.offset - scalars.gain * smoothed;
            kept = 1.0f32 - 1.0f32 / (1.0f32 + exponent.exp());
        }
        if unit == 0usize {
            report[report_row + token] = i32::reinterpret(surprise);
        }
        if surprise > scalars.surprise_threshold && has_features {
            tokens_written += 1i32;
            let mut step = scalars.step_size;
            if comptime![normalise] {
                step /= feature_energy;
            }
            for slot in first_slot..first_slot + active {
                let feature = features[slot];
                if feature != 0.0f32 {
                    let channel = indices[slot] as usize;
                    let row = of_memory + channel * value_dim;
                    let amount = step * feature;
                    #[unroll]
                    for column in 0..columns {
                        let position = column * units + unit;
                        if position < value_dim {
                            let weight = weights[row + position];
                            weights[row + position] = fma(amount, errors[column], kept * weight);
                        }
                    }
                    // One owner for each word: no unit overwrites what another noted.
                    let word = channel / 32usize;
                    if word % units == unit {
                        report[touched + word] |= 1i32 << (channel % 32usize) as i32;
                    }
                }
            }
        }
    }
    if unit == 0usize {
        report[report_row + tokens] = i32::reinterpret(smoothed);
        report[report_row + tokens + 1usize] = tokens_written;
    }
}
