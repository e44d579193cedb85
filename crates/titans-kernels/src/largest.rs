//! The largest coordinates of a gradient, and the zeros around them, in nine launches for many
//! memories.
//!
//! A radix select: the size of the smallest number that is kept is found eight bits at a time.
//! Each cube counts the digits of its block, among the numbers that share the bits found so far,
//! and one cube per memory finds the digit at which enough are counted. Sizes of floats are in
//! the order of their bits.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::backend::{UNITS, cubes, dims, output_beside};
use crate::blocks::{Blocks, own_block};
use crate::reduce::{sum_before_unit, sum_over_units};

/// Digits of eight bits, as many as units: each unit owns one.
const DIGITS: usize = UNITS;
/// Words that are known of each memory: the bits found so far, how many numbers with exactly
/// them are still to be kept, and how many there are.
const FOUND: usize = 3;

#[backend_extension(Cube, Fusion)]
pub(crate) trait LargestKernels: Backend {
    /// Keeps the `count` numbers of each memory that are largest by size, ties by position,
    /// and makes the others zero: `[memories, numbers]` to as many.
    #[fusion(dtype = numbers, shape = numbers)]
    fn keep_largest_numbers(numbers: FloatTensor<Self>, count: usize) -> FloatTensor<Self>;
}

impl LargestKernels for CubeBackend {
    fn keep_largest_numbers(numbers: CubeTensor, count: usize) -> CubeTensor {
        let numbers = into_contiguous(numbers);
        let [memories, total] = dims(&numbers);
        let blocks = Blocks::of(total);
        let counts = output_beside(&numbers, [memories * blocks.count, DIGITS], DType::I32);
        let found = output_beside(&numbers, [memories, FOUND], DType::I32);
        let kept = output_beside(&numbers, [memories, total], DType::F32);
        let client = numbers.client.clone();
        let units = CubeDim::new_1d(UNITS as u32);
        let all_blocks = cubes(memories * blocks.count);
        for shift in [24u32, 16, 8, 0] {
            let is_first = shift == 24;
            count_digits::launch(
                &client,
                all_blocks.clone(),
                units,
                numbers.clone().into_buffer_arg(),
                found.clone().into_buffer_arg(),
                counts.clone().into_buffer_arg(),
                memories as u32,
                total as u32,
                blocks.per_unit as u32,
                shift,
                is_first,
                UNITS,
            );
            find_digit::launch(
                &client,
                cubes(memories),
                units,
                counts.clone().into_buffer_arg(),
                found.clone().into_buffer_arg(),
                memories as u32,
                blocks.count as u32,
                count as u32,
                shift,
                is_first,
                UNITS,
            );
        }
        keep::launch(
            &client,
            all_blocks,
            units,
            numbers.into_buffer_arg(),
            found.into_buffer_arg(),
            counts.into_buffer_arg(),
            kept.clone().into_buffer_arg(),
            memories as u32,
            total as u32,
            blocks.per_unit as u32,
            UNITS,
        );
        kept
    }
}

/// How often each digit occurs in each block, at `shift` of the sizes whose higher bits are
/// those that were found; one cube per block.
///
/// # Shapes
/// - `numbers`: `[memories, total]`
/// - `found`: `[memories, 3]`, not read at the first digit
/// - `counts`: `[memories, blocks, 256]`
#[cube(launch)]
fn count_digits(
    numbers: &[f32],
    found: &[i32],
    counts: &mut [i32],
    memories: u32,
    total: u32,
    per_unit: u32,
    shift: u32,
    #[comptime] is_first: bool,
    #[comptime] units: usize,
) {
    // Integers: the order of the additions does not show.
    let occurrences = Shared::<[Atomic<u32>]>::new_slice(units);
    let unit = UNIT_POS_X as usize;
    occurrences[unit].store(0u32);
    sync_cube();
    let block = own_block(memories as usize, total as usize, per_unit as usize, units);
    let mut higher = 0u32;
    if comptime![!is_first] {
        higher = u32::reinterpret(found[block.memory * FOUND]) >> (shift + 8u32);
    }
    let mut position = block.start + unit;
    while position < block.end {
        let size = size_bits(numbers[block.memory_start + position]);
        let mut matches = true;
        if comptime![!is_first] {
            matches = size >> (shift + 8u32) == higher;
        }
        if matches {
            let digit = (size >> shift) & 0xffu32;
            occurrences[digit as usize].fetch_add(1u32);
        }
        position += units;
    }
    sync_cube();
    counts[block.index * units + unit] = occurrences[unit].load() as i32;
}

/// The digit of the smallest number that is kept; one cube per memory, a unit per digit.
///
/// # Shapes
/// - `counts`: `[memories, blocks, 256]`
/// - `found`: `[memories, 3]`, written anew at the first digit
#[cube(launch)]
fn find_digit(
    counts: &[i32],
    found: &mut [i32],
    memories: u32,
    blocks: u32,
    count: u32,
    shift: u32,
    #[comptime] is_first: bool,
    #[comptime] units: usize,
) {
    let mut scratch = Shared::<[u32]>::new_slice(units);
    let blocks = blocks as usize;
    let cube = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize;
    // The largest digit first. Cubes past the last memory do nothing: what they found here
    // could be what another one has just written.
    let digit = units - 1usize - UNIT_POS_X as usize;
    let memory = min(cube, memories as usize - 1);
    let row = memory * blocks * units + digit;
    let mut own = 0u32;
    for block in 0..blocks {
        own += counts[row + block * units] as u32;
    }
    let larger = sum_before_unit(own, &mut scratch);
    let mut higher = 0u32;
    let mut wanted = count;
    if comptime![!is_first] {
        higher = u32::reinterpret(found[memory * FOUND]);
        wanted = found[memory * FOUND + 1] as u32;
    }
    // All have read before one writes.
    sync_cube();
    if cube < memories as usize && larger < wanted && larger + own >= wanted {
        found[memory * FOUND] = i32::reinterpret(higher | ((digit as u32) << shift));
        found[memory * FOUND + 1] = (wanted - larger) as i32;
        found[memory * FOUND + 2] = own as i32;
    }
}

/// Keeps the numbers above the size that was found, and of those that have it the first; one
/// cube per block.
///
/// # Shapes
/// - `numbers`, `kept`: `[memories, total]`
/// - `found`: `[memories, 3]`
/// - `counts`: `[memories, blocks, 256]`, of the last digit
#[cube(launch)]
fn keep(
    numbers: &[f32],
    found: &[i32],
    counts: &[i32],
    kept: &mut [f32],
    memories: u32,
    total: u32,
    per_unit: u32,
    #[comptime] units: usize,
) {
    let mut scratch = Shared::<[u32]>::new_slice(units);
    let unit = UNIT_POS_X as usize;
    let per_unit = per_unit as usize;
    let block = own_block(memories as usize, total as usize, per_unit, units);
    let threshold = u32::reinterpret(found[block.memory * FOUND]);
    let wanted_equal = found[block.memory * FOUND + 1];
    let all_equal = found[block.memory * FOUND + 2];
    if all_equal == wanted_equal {
        let mut position = block.memory_start + block.start + unit;
        let end = block.memory_start + block.end;
        while position < end {
            let number = numbers[position];
            kept[position] = select(size_bits(number) >= threshold, number, 0.0f32);
            position += units;
        }
    } else {
        // Some of the ties. Those in the blocks before come first.
        let digit = (threshold & 0xffu32) as usize;
        let first_block = block.index - block.of_memory;
        let mut before = 0u32;
        let mut earlier = unit;
        while earlier < block.of_memory {
            before += counts[(first_block + earlier) * units + digit] as u32;
            earlier += units;
        }
        let before = sum_over_units::<u32>(before, &mut scratch);
        // Each unit owns a stretch, so that positions are in order.
        let start = min(block.start + unit * per_unit, block.end);
        let end = min(start + per_unit, block.end);
        let mut equal = 0u32;
        for position in start..end {
            if size_bits(numbers[block.memory_start + position]) == threshold {
                equal += 1u32;
            }
        }
        let mut equal_before = before + sum_before_unit(equal, &mut scratch);
        for position in start..end {
            let number = numbers[block.memory_start + position];
            let size = size_bits(number);
            let mut is_kept = size > threshold;
            if size == threshold {
                is_kept = equal_before < wanted_equal as u32;
                equal_before += 1u32;
            }
            kept[block.memory_start + position] = select(is_kept, number, 0.0f32);
        }
    }
}

#[cube]
fn size_bits(number: f32) -> u32 {
    u32::reinterpret(number) & 0x7fff_ffffu32
}
