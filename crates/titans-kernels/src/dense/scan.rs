//! The affine recurrence over the tokens of an update, and the coefficients that it gives.

use cubecl::prelude::*;

/// Shares that an update has at most: see [`coefficients`].
pub(crate) const SHARES: usize = 6;

/// How much of what was, and of each token's gradient, is in the weights and the buffers at
/// the end of an update; one cube per memory.
///
/// ```text
/// S1_t = decay1_t S1_(t-1) - g_t;   S2_t = decay2_t S2_(t-1) + S1_t
/// W_t  = retention_t W_(t-1) + S_t         S: the last buffer there is, else - g_t
/// ```
///
/// What reaches a stage at token `t` is in the end result as often as what it becomes there
/// and at every later token, so each coefficient is a chain of [`scan_back`]s. The twin in
/// tensor operations is `titans-core/src/memory/coefficients.rs`.
///
/// # Shapes
/// - `steps`, `retention`, `decay1`, `decay2`: `[memories, tokens]`; the decays of buffers that
///   do not exist are not read
/// - `into`: `[memories, 1 + orders, tokens]`, steps included: of each gradient in the weights,
///   in the first and in the second buffer
/// - `shares`: `[memories, 6]`: of the weights, the first and the second buffer in the weights;
///   of the first in the first; of the first and the second in the second
#[cube(launch)]
pub(crate) fn coefficients(
    steps: &[f32],
    retention: &[f32],
    decay1: &[f32],
    decay2: &[f32],
    into: &mut [f32],
    shares: &mut [f32],
    tokens: u32,
    #[comptime] orders: usize,
    #[comptime] units: usize,
) {
    let mut factors = Shared::<[f32]>::new_slice(units);
    let mut sums = Shared::<[f32]>::new_slice(units);
    let tokens = tokens as usize;
    let unit = UNIT_POS_X as usize;
    let memory = CUBE_POS_X as usize;
    let of_memory = memory * tokens;
    let results = comptime![orders + 1];
    let share = memory * SHARES;

    // Into the weights.
    let row = memory * results * tokens;
    scan_back(
        retention,
        of_memory,
        into,
        row,
        &mut factors,
        &mut sums,
        tokens,
        units,
        true,
    );
    keep_first(retention, of_memory, into, row, shares, share);
    if comptime![orders == 2] {
        scan_back(
            decay2,
            of_memory,
            into,
            row,
            &mut factors,
            &mut sums,
            tokens,
            units,
            false,
        );
        keep_first(decay2, of_memory, into, row, shares, share + 2);
    }
    if comptime![orders >= 1] {
        scan_back(
            decay1,
            of_memory,
            into,
            row,
            &mut factors,
            &mut sums,
            tokens,
            units,
            false,
        );
        keep_first(decay1, of_memory, into, row, shares, share + 1);
    }

    // Into the buffers.
    if comptime![orders >= 1] {
        let row = row + tokens;
        scan_back(
            decay1,
            of_memory,
            into,
            row,
            &mut factors,
            &mut sums,
            tokens,
            units,
            true,
        );
        keep_first(decay1, of_memory, into, row, shares, share + 3);
    }
    if comptime![orders == 2] {
        let row = row + 2 * tokens;
        scan_back(
            decay2,
            of_memory,
            into,
            row,
            &mut factors,
            &mut sums,
            tokens,
            units,
            true,
        );
        keep_first(decay2, of_memory, into, row, shares, share + 5);
        scan_back(
            decay1,
            of_memory,
            into,
            row,
            &mut factors,
            &mut sums,
            tokens,
            units,
            false,
        );
        keep_first(decay1, of_memory, into, row, shares, share + 4);
    }

    // Each unit multiplies what it wrote itself.
    let stretch = tokens.div_ceil(units);
    let start = min(unit * stretch, tokens);
    let end = min(start + stretch, tokens);
    #[unroll]
    for result in 0..results {
        for token in start..end {
            into[row + result * tokens + token] *= steps[of_memory + token];
        }
    }
}

/// `c_t = input_t + decay_(t+1) c_(t+1)` over the tokens of one memory, exact through zeros.
///
/// Each unit owns a stretch of tokens. It composes the affine maps of its stretch, the units
/// compose theirs in logarithmically many steps, and each goes through its stretch again from
/// what the later ones leave. With `from_last` the input is one at the last token and zero
/// before; else it is what `into` holds.
#[cube]
fn scan_back(
    decay: &[f32],
    of_memory: usize,
    into: &mut [f32],
    row: usize,
    factors: &mut [f32],
    sums: &mut [f32],
    tokens: usize,
    #[comptime] units: usize,
    #[comptime] from_last: bool,
) {
    let unit = UNIT_POS_X as usize;
    let stretch = tokens.div_ceil(units);
    let start = min(unit * stretch, tokens);
    let end = min(start + stretch, tokens);

    let mut factor = 1.0f32;
    let mut sum = 0.0f32;
    let mut left = end;
    while left > start {
        left -= 1usize;
        let mut input = select(left + 1usize == tokens, 1.0f32, 0.0f32);
        if comptime![!from_last] {
            input = into[row + left];
        }
        let mut next = 0.0f32;
        if left + 1usize < tokens {
            next = decay[of_memory + left + 1usize];
        }
        sum = fma(next, sum, input);
        factor *= next;
    }
    factors[unit] = factor;
    sums[unit] = sum;
    sync_cube();
    let mut distance = 1usize;
    while distance < units {
        let mut factor = factors[unit];
        let mut sum = sums[unit];
        if unit + distance < units {
            sum = fma(factor, sums[unit + distance], sum);
            factor *= factors[unit + distance];
        }
        sync_cube();
        factors[unit] = factor;
        sums[unit] = sum;
        sync_cube();
        distance *= 2usize;
    }
    let mut carried = 0.0f32;
    if unit + 1usize < units {
        carried = sums[unit + 1usize];
    }
    sync_cube();

    let mut left = end;
    while left > start {
        left -= 1usize;
        let mut input = select(left + 1usize == tokens, 1.0f32, 0.0f32);
        if comptime![!from_last] {
            input = into[row + left];
        }
        let mut next = 0.0f32;
        if left + 1usize < tokens {
            next = decay[of_memory + left + 1usize];
        }
        carried = fma(next, carried, input);
        into[row + left] = carried;
    }
}

/// The share of what a stage held before the first token: that of its first token, decayed.
#[cube]
fn keep_first(
    decay: &[f32],
    of_memory: usize,
    into: &mut [f32],
    row: usize,
    shares: &mut [f32],
    share: usize,
) {
    if UNIT_POS_X == 0 {
        // The unit that owns the first token.
        shares[share] = decay[of_memory] * into[row];
    }
}
