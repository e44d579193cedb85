//! The largest coordinates of a gradient, and the zeros around them, in one launch for many
//! memories.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::backend::{UNITS, dims, output_beside};
use crate::reduce::{sum_before_unit, sum_over_units};

#[backend_extension(Cube, Fusion)]
pub(crate) trait LargestKernels: Backend {
    /// See [`keep_largest`]: `[memories, numbers]` to as many.
    #[fusion(dtype = numbers, shape = numbers)]
    fn keep_largest_numbers(numbers: FloatTensor<Self>, count: usize) -> FloatTensor<Self>;
}

impl LargestKernels for CubeBackend {
    fn keep_largest_numbers(numbers: CubeTensor, count: usize) -> CubeTensor {
        let numbers = into_contiguous(numbers);
        let [memories, total] = dims(&numbers);
        let kept = output_beside(&numbers, [memories, total], DType::F32);
        keep_largest::launch(
            &numbers.client.clone(),
            CubeCount::Static(memories as u32, 1, 1),
            CubeDim::new_1d(UNITS as u32),
            numbers.into_buffer_arg(),
            kept.clone().into_buffer_arg(),
            total as u32,
            count as u32,
            UNITS,
        );
        kept
    }
}

/// Keeps the `count` numbers of each memory that are largest by size, ties by position, and
/// makes the others zero; one cube per memory.
///
/// The size of the smallest number that is kept is found bit by bit: of the numbers whose
/// sizes share the bits found so far, are there enough with the next bit set? Sizes of floats
/// are in the order of their bits.
///
/// # Shapes
/// - `numbers`, `kept`: `[memories, total]`
#[cube(launch)]
fn keep_largest(
    numbers: &[f32],
    kept: &mut [f32],
    total: u32,
    count: u32,
    #[comptime] units: usize,
) {
    let mut counts = Shared::<[u32]>::new_slice(units);
    let total = total as usize;
    let unit = UNIT_POS_X as usize;
    let first = CUBE_POS_X as usize * total;

    let mut threshold = 0u32;
    for step in 0..31u32 {
        let candidate = threshold | (1u32 << (30u32 - step));
        let mut enough = 0u32;
        let mut position = unit;
        while position < total {
            if size_bits(numbers[first + position]) >= candidate {
                enough += 1u32;
            }
            position += units;
        }
        if sum_over_units::<u32>(enough, &mut counts) >= count {
            threshold = candidate;
        }
    }

    let mut above = 0u32;
    let mut equal = 0u32;
    let mut position = unit;
    while position < total {
        let size = size_bits(numbers[first + position]);
        if size > threshold {
            above += 1u32;
        }
        if size == threshold {
            equal += 1u32;
        }
        position += units;
    }
    let wanted_equal = count - sum_over_units::<u32>(above, &mut counts);
    let all_equal = sum_over_units::<u32>(equal, &mut counts);
    if all_equal == wanted_equal {
        let mut position = unit;
        while position < total {
            let number = numbers[first + position];
            kept[first + position] = select(size_bits(number) >= threshold, number, 0.0f32);
            position += units;
        }
    } else {
        // Some of the ties: each unit owns a stretch, so that positions are in order.
        let stretch = total.div_ceil(units);
        let start = min(unit * stretch, total);
        let end = min(start + stretch, total);
        let mut equal = 0u32;
        for position in start..end {
            if size_bits(numbers[first + position]) == threshold {
                equal += 1u32;
            }
        }
        let mut equal_before = sum_before_unit(equal, &mut counts);
        for position in start..end {
            let number = numbers[first + position];
            let size = size_bits(number);
            let mut is_kept = size > threshold;
            if size == threshold {
                is_kept = equal_before < wanted_equal;
                equal_before += 1u32;
            }
            kept[first + position] = select(is_kept, number, 0.0f32);
        }
    }
}

#[cube]
fn size_bits(number: f32) -> u32 {
    u32::reinterpret(number) & 0x7fff_ffffu32
}
