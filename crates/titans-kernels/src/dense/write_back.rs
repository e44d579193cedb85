//! Momentum, decay and the write-back of a layer, in one launch.

use cubecl::prelude::*;

use super::scan::SHARES;

/// ```text
/// W'  = shares[0] W + shares[1] S1 + shares[2] S2 - gradient[0]
/// S1' = shares[3] S1 - gradient[1]
/// S2' = shares[4] S1 + shares[5] S2 - gradient[2]
/// ```
///
/// One unit per number of the weights; everything in place.
///
/// # Shapes
/// - `weights`, `first`, `second`: `[memories, rows, columns]`; buffers that do not exist are
///   not touched
/// - `gradient`: `[memories, rows, 1 + orders, columns]`
/// - `shares`: `[memories, 6]`
#[cube(launch)]
pub(crate) fn write_back(
    weights: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    shares: &[f32],
    columns: u32,
    of_memory: u32,
    #[comptime] orders: usize,
) {
    let position = ABSOLUTE_POS;
    if position < weights.len() {
        let columns = columns as usize;
        let results = comptime![orders + 1];
        let column = position % columns;
        let row = position / columns;
        let share = position / of_memory as usize * SHARES;
        let at = row * results * columns + column;
        let mut after = shares[share] * weights[position];
        if comptime![orders >= 1] {
            let buffer1 = first[position];
            after = fma(shares[share + 1], buffer1, after);
            if comptime![orders == 2] {
                let buffer2 = second[position];
                after = fma(shares[share + 2], buffer2, after);
                let carried = fma(shares[share + 5], buffer2, shares[share + 4] * buffer1);
                second[position] = carried - gradient[at + 2 * columns];
            }
            first[position] = shares[share + 3] * buffer1 - gradient[at + columns];
        }
        weights[position] = after - gradient[at];
    }
}
