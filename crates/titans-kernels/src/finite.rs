//! Whether what some memories have learned are numbers.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Int, Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::backend::{UNITS, cubes, dims, output_beside};
use crate::blocks::{Blocks, own_block};
use crate::host_words::host_words;
use crate::reduce::sum_over_units;

/// As [`titans_core::MemoryOps::all_finite`], on the device of f32 tensors: a launch for each
/// tensor and one wait.
pub(crate) fn all_finite(tensors: &[Tensor<3>]) -> Vec<bool> {
    let memories = tensors.first().map_or(0, |tensor| tensor.dims()[0]);
    let counts = tensors.iter().map(|tensor| {
        let [_, rows, columns] = tensor.dims();
        let tensor = tensor.clone().into_dispatch();
        Tensor::<2, Int>::from_dispatch(<Dispatch as FiniteKernels>::count_others(
            tensor,
            Blocks::of(rows * columns),
        ))
    });
    let counts = host_words(Tensor::cat(counts.collect(), 1).into_data());
    (counts.chunks_exact(counts.len() / memories))
        .map(|counts| counts.iter().all(|count| *count == 0))
        .collect()
}

#[backend_extension(Cube, Fusion)]
pub(crate) trait FiniteKernels: Backend {
    /// See [`count_not_finite`]: `[memories, rows, columns]` to `[memories, blocks]`.
    #[fusion(meta = |numbers, blocks| {
        TensorSpec::new(Shape::new([numbers.shape[0], blocks.count]), DType::I32)
    })]
    fn count_others(numbers: FloatTensor<Self>, blocks: Blocks) -> IntTensor<Self>;
}

impl FiniteKernels for CubeBackend {
    fn count_others(numbers: CubeTensor, blocks: Blocks) -> CubeTensor {
        let numbers = into_contiguous(numbers);
        let [memories, rows, columns] = dims(&numbers);
        let counts = output_beside(&numbers, [memories, blocks.count], DType::I32);
        count_not_finite::launch(
            &numbers.client.clone(),
            cubes(memories * blocks.count),
            CubeDim::new_1d(UNITS as u32),
            numbers.into_buffer_arg(),
            counts.clone().into_buffer_arg(),
            memories as u32,
            (rows * columns) as u32,
            blocks.per_unit as u32,
            UNITS,
        );
        counts
    }
}

/// How many numbers of each block are NaN or infinite; one cube per block.
///
/// # Shapes
/// - `numbers`: `[memories, numbers]`
/// - `counts`: `[memories, blocks]`
#[cube(launch)]
fn count_not_finite(
    numbers: &[f32],
    counts: &mut [i32],
    memories: u32,
    of_memory: u32,
    per_unit: u32,
    #[comptime] units: usize,
) {
    let mut scratch = Shared::<[u32]>::new_slice(units);
    let unit = UNIT_POS_X as usize;
    let block = own_block(
        memories as usize,
        of_memory as usize,
        per_unit as usize,
        units,
    );
    let mut others = 0u32;
    let mut position = block.start + unit;
    while position < block.end {
        // By its bits, because a compiler may take every number for finite.
        let bits = u32::reinterpret(numbers[block.memory_start + position]);
        if bits & 0x7f80_0000u32 == 0x7f80_0000u32 {
            others += 1u32;
        }
        position += units;
    }
    let others = sum_over_units::<u32>(others, &mut scratch);
    if unit == 0usize {
        counts[block.index] = others as i32;
    }
}
