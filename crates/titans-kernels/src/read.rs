//! Recall over the active channels.

use cubecl::prelude::*;

/// `prediction = features @ weights` over the active channels, one unit per number.
///
/// # Shapes
/// - `weights`: `[memories, channels, value_dim]`
/// - `indices`, `features`: `[memories, tokens, active]`
/// - `predictions`: `[memories, tokens, value_dim]`
#[cube(launch)]
pub(crate) fn read_active(
    weights: &[f32],
    indices: &[i32],
    features: &[f32],
    predictions: &mut [f32],
    tokens: u32,
    channels: u32,
    value_dim: u32,
    active: u32,
) {
    let position = ABSOLUTE_POS;
    if position < predictions.len() {
        let value_dim = value_dim as usize;
        let active = active as usize;
        let column = position % value_dim;
        let token = position / value_dim;
        let memory = token / tokens as usize;
        let of_memory = memory * channels as usize * value_dim;
        let mut sum = 0.0f32;
        for slot in token * active..(token + 1) * active {
            let row = of_memory + indices[slot] as usize * value_dim;
            sum = fma(features[slot], weights[row + column], sum);
        }
        predictions[position] = sum;
    }
}
