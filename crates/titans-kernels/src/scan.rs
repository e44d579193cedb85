//! Recurrences over the tokens of an update.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::backend::{UNITS, cubes, dims, one_unit_for, output_beside};

#[backend_extension(Cube, Fusion)]
pub(crate) trait ScanKernels: Backend {
    /// See [`affine_scan`]: what was before `[memories, 1]`, decay and input
    /// `[memories, tokens]`.
    #[fusion(dtype = input, shape = input)]
    fn scan_tokens(
        before: FloatTensor<Self>,
        decay: FloatTensor<Self>,
        input: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// See [`running_products`]: `[memories, tokens]` to `[memories, tokens, tokens]`.
    #[fusion(meta = |decay| {
        let [memories, tokens] = [decay.shape[0], decay.shape[1]];
        TensorSpec::new(Shape::new([memories, tokens, tokens]), DType::F32)
    })]
    fn multiply_tokens(decay: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl ScanKernels for CubeBackend {
    fn scan_tokens(before: CubeTensor, decay: CubeTensor, input: CubeTensor) -> CubeTensor {
        let [memories, tokens] = dims(&input);
        let carried = output_beside(&input, [memories, tokens], DType::F32);
        let units = tokens.next_power_of_two().clamp(32, UNITS);
        affine_scan::launch(
            &input.client.clone(),
            cubes(memories),
            CubeDim::new_1d(units as u32),
            into_contiguous(before).into_buffer_arg(),
            into_contiguous(decay).into_buffer_arg(),
            into_contiguous(input).into_buffer_arg(),
            carried.clone().into_buffer_arg(),
            memories as u32,
            tokens as u32,
            units,
        );
        carried
    }

    fn multiply_tokens(decay: CubeTensor) -> CubeTensor {
        let [memories, tokens] = dims(&decay);
        let products = output_beside(&decay, [memories, tokens, tokens], DType::F32);
        let (client, count, dim) = one_unit_for(&decay, memories * tokens);
        running_products::launch(
            &client,
            count,
            dim,
            into_contiguous(decay).into_buffer_arg(),
            products.clone().into_buffer_arg(),
            tokens as u32,
        );
        products
    }
}

/// `c_t = decay_t c_(t-1) + input_t` over the tokens of each memory, exact through zeros; one
/// cube per memory.
///
/// Each unit owns a stretch of tokens. It composes the affine maps of its stretch, the units
/// compose theirs in logarithmically many steps, and each goes through its stretch again from
/// what the earlier ones leave.
///
/// # Shapes
/// - `before`: `[memories]`
/// - `decay`, `input`, `carried`: `[memories, tokens]`
#[cube(launch)]
fn affine_scan(
    before: &[f32],
    decay: &[f32],
    input: &[f32],
    carried: &mut [f32],
    memories: u32,
    tokens: u32,
    #[comptime] units: usize,
) {
    let mut factors = Shared::<[f32]>::new_slice(units);
    let mut sums = Shared::<[f32]>::new_slice(units);
    let tokens = tokens as usize;
    let unit = UNIT_POS_X as usize;
    // Cubes past the last memory do its work again.
    let cube = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize;
    let memory = min(cube, memories as usize - 1);
    let row = memory * tokens;
    let stretch = tokens.div_ceil(units);
    let start = min(unit * stretch, tokens);
    let end = min(start + stretch, tokens);

    let mut factor = 1.0f32;
    let mut sum = 0.0f32;
    for token in start..end {
        let decay = decay[row + token];
        sum = fma(decay, sum, input[row + token]);
        factor *= decay;
    }
    factors[unit] = factor;
    sums[unit] = sum;
    sync_cube();
    let mut distance = 1usize;
    while distance < units {
        let mut factor = factors[unit];
        let mut sum = sums[unit];
        if unit >= distance {
            sum = fma(factor, sums[unit - distance], sum);
            factor *= factors[unit - distance];
        }
        sync_cube();
        factors[unit] = factor;
        sums[unit] = sum;
        sync_cube();
        distance *= 2usize;
    }
    let mut now = before[memory];
    if unit > 0usize {
        now = fma(factors[unit - 1], now, sums[unit - 1]);
    }
    for token in start..end {
        now = fma(decay[row + token], now, input[row + token]);
        carried[row + token] = now;
    }
}

/// `P[t, s] = product of decay_j for s < j <= t`, zero for `s > t`; one unit for each `s` of
/// each memory, so that units beside each other write beside each other.
///
/// # Shapes
/// - `decay`: `[memories, tokens]`
/// - `products`: `[memories, tokens, tokens]`
#[cube(launch)]
fn running_products(decay: &[f32], products: &mut [f32], tokens: u32) {
    let position = ABSOLUTE_POS;
    if position < decay.len() {
        let tokens = tokens as usize;
        let from = position % tokens;
        let first = position - from;
        let mut product = 0.0f32;
        for token in 0..tokens {
            product *= decay[first + token];
            if token == from {
                product = 1.0f32;
            }
            products[(first + token) * tokens + from] = product;
        }
    }
}
