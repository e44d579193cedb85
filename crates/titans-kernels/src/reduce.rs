//! Sums and running counts over the units of a cube.

use cubecl::prelude::*;

/// The sum of one number of each unit, the same bits in every unit.
///
/// The units are added pairwise in a fixed tree, so a sum is repeatable. Every unit of the
/// cube must call it; `scratch` holds one number per unit, and their number is a power of
/// two.
#[cube]
pub(crate) fn sum_over_units<N: Numeric>(value: N, scratch: &mut [N]) -> N {
    let unit = UNIT_POS_X as usize;
    scratch[unit] = value;
    sync_cube();
    let mut width = CUBE_DIM_X as usize / 2;
    while width > 0 {
        if unit < width {
            let other = scratch[unit + width];
            scratch[unit] += other;
        }
        sync_cube();
        width /= 2;
    }
    let total = scratch[0];
    // The scratch is free for the next sum only when all have read this one.
    sync_cube();
    total
}

/// The sum of the numbers of the units before this one. Conditions as of
/// [`sum_over_units`].
#[cube]
pub(crate) fn sum_before_unit(value: u32, scratch: &mut [u32]) -> u32 {
    let unit = UNIT_POS_X as usize;
    scratch[unit] = value;
    sync_cube();
    let mut distance = 1usize;
    while distance < CUBE_DIM_X as usize {
        let mut sum = scratch[unit];
        if unit >= distance {
            sum += scratch[unit - distance];
        }
        sync_cube();
        scratch[unit] = sum;
        sync_cube();
        distance *= 2;
    }
    let before = scratch[unit] - value;
    sync_cube();
    before
}
