//! Activations of the frozen expansion, and the largest of them.
// A loop of a kernel counts: arrays of a device have no iterators.
#![allow(clippy::needless_range_loop)]

use cubecl::prelude::*;

use crate::reduce::{sum_before_unit, sum_over_units};

/// `activation = key @ expansion`, one unit per channel and `group` tokens.
///
/// Each activation is one chain of multiply-adds over the key's coordinates, in their
/// order, so its bits do not depend on the tokens beside it; a library's matrix product
/// does not promise that.
///
/// # Shapes
/// - `keys`: `[tokens, key_dim]`
/// - `expansion`: `[key_dim, channels]`
/// - `activations`: `[tokens, channels]`
#[cube(launch)]
pub(crate) fn activations(
    keys: &[f32],
    expansion: &[f32],
    activations: &mut [f32],
    tokens: u32,
    key_dim: u32,
    channels: u32,
    #[comptime] group: usize,
) {
    let tokens = tokens as usize;
    let key_dim = key_dim as usize;
    let channels = channels as usize;
    let channel = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    if channel < channels {
        let first = CUBE_POS_Y as usize * group;
        let mut sums = Array::<f32>::new(group);
        #[unroll]
        for member in 0..group {
            sums[member] = 0.0f32;
        }
        for coordinate in 0..key_dim {
            let weight = expansion[coordinate * channels + channel];
            #[unroll]
            for member in 0..group {
                // A short group computes its last token again.
                let token = min(first + member, tokens - 1);
                let sum = sums[member];
                sums[member] = fma(keys[token * key_dim + coordinate], weight, sum);
            }
        }
        #[unroll]
        for member in 0..group {
            if first + member < tokens {
                activations[(first + member) * channels + channel] = sums[member];
            }
        }
    }
}

/// The `active` largest activations of each token, ties by index, rectified and scaled to
/// unit energy; one cube per token.
///
/// The smallest activation that is selected is found bit by bit: of the numbers that share
/// the bits found so far, are there enough with the next bit set? That takes 32 passes over
/// a row that stays in the cache, whatever `active` is.
///
/// # Shapes
/// - `activations`: `[tokens, channels]`
/// - `indices`, `features`: `[tokens, active]`, ascending by index
#[cube(launch)]
pub(crate) fn select_largest(
    activations: &[f32],
    indices: &mut [i32],
    features: &mut [f32],
    tokens: u32,
    channels: u32,
    active: u32,
    #[comptime] units: usize,
) {
    let mut counts = Shared::<[u32]>::new_slice(units);
    let mut energies = Shared::<[f32]>::new_slice(units);
    let channels = channels as usize;
    let unit = UNIT_POS_X as usize;
    // Cubes past the last token select for it again.
    let cube = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize;
    let token = min(cube, tokens as usize - 1);
    let row = token * channels;

    let mut threshold = 0u32;
    for step in 0..32u32 {
        let candidate = threshold | (1u32 << (31u32 - step));
        let mut count = 0u32;
        let mut channel = unit;
        while channel < channels {
            if in_total_order(activations[row + channel]) >= candidate {
                count += 1u32;
            }
            channel += units;
        }
        if sum_over_units::<u32>(count, &mut counts) >= active {
            threshold = candidate;
        }
    }

    // Each unit now owns a stretch of channels, so that what it selects is in order.
    let stretch = channels.div_ceil(units);
    let start = min(unit * stretch, channels);
    let end = min(start + stretch, channels);
    let mut above = 0u32;
    let mut equal = 0u32;
    for channel in start..end {
        let activation = in_total_order(activations[row + channel]);
        if activation > threshold {
            above += 1u32;
        }
        if activation == threshold {
            equal += 1u32;
        }
    }
    let wanted_equal = active - sum_over_units::<u32>(above, &mut counts);
    let above_before = sum_before_unit(above, &mut counts);
    let mut equal_before = sum_before_unit(equal, &mut counts);

    let first = token * active as usize + (above_before + min(equal_before, wanted_equal)) as usize;
    let mut slot = first;
    let mut energy = 0.0f32;
    for channel in start..end {
        let activation = activations[row + channel];
        let ordered = in_total_order(activation);
        let mut selected = ordered > threshold;
        if ordered == threshold {
            selected = equal_before < wanted_equal;
            equal_before += 1u32;
        }
        if selected {
            let rectified = max(activation, 0.0f32);
            indices[slot] = channel as i32;
            features[slot] = rectified;
            energy += rectified * rectified;
            slot += 1usize;
        }
    }
    let energy = sum_over_units::<f32>(energy, &mut energies);
    if energy > 0.0f32 {
        let scale = 1.0f32 / energy.sqrt();
        for own in first..slot {
            features[own] *= scale;
        }
    }
}

/// A number whose order as an integer is the total order of the floats.
#[cube]
fn in_total_order(value: f32) -> u32 {
    let bits = u32::reinterpret(value);
    select(bits >> 31u32 == 1u32, !bits, bits | 0x8000_0000u32)
}
