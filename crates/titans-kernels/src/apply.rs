//! An update of the coordinates that a gate lets through, and of no others.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::backend::{dims, one_unit_for, output_beside};

#[backend_extension(Cube, Fusion)]
pub(crate) trait ApplyKernels: Backend {
    /// See [`apply_written`]: accumulators and updates `[memories, rows, columns]`, retention
    /// `[memories, 1]`.
    #[fusion(dtype = accumulator, shape = accumulator)]
    fn apply_where_written(
        accumulator: FloatTensor<Self>,
        update: FloatTensor<Self>,
        retention: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl ApplyKernels for CubeBackend {
    fn apply_where_written(
        accumulator: CubeTensor,
        update: CubeTensor,
        retention: CubeTensor,
    ) -> CubeTensor {
        let (accumulator, update) = (into_contiguous(accumulator), into_contiguous(update));
        let [memories, rows, columns] = dims(&accumulator);
        let after = output_beside(&accumulator, [memories, rows, columns], DType::F32);
        let (client, count, dim) = one_unit_for(&after, memories * rows * columns);
        apply_written::launch(
            &client,
            count,
            dim,
            accumulator.into_buffer_arg(),
            update.into_buffer_arg(),
            into_contiguous(retention).into_buffer_arg(),
            after.clone().into_buffer_arg(),
            (rows * columns) as u32,
        );
        after
    }
}

/// `after = retention * accumulator + update` where the update is not zero, else `accumulator`;
/// one unit per number.
///
/// # Shapes
/// - `accumulator`, `update`, `after`: `[memories, numbers]`
/// - `retention`: `[memories]`
#[cube(launch)]
fn apply_written(
    accumulator: &[f32],
    update: &[f32],
    retention: &[f32],
    after: &mut [f32],
    numbers: u32,
) {
    let position = ABSOLUTE_POS;
    if position < after.len() {
        let before = accumulator[position];
        let update = update[position];
        let kept = retention[position / numbers as usize] * before;
        after[position] = select(update == 0.0f32, before, kept + update);
    }
}
