//! The kernels as operations of Burn's CubeCL backend.
//!
//! Under fusion an operation is a node of its own: queued in order with the others, run when
//! its result is read.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::activate::{activations, select_largest};
use crate::read::read_active;
use crate::report;
use crate::write::{WriteScalarsLaunch, write_in_order};

/// Units of a cube that works on one token's channels: what every WebGPU device has.
pub(crate) const UNITS: usize = 256;
/// Tokens that share one load of the expansion.
const TOKENS_PER_UNIT: usize = 8;
/// Value columns of one unit, in registers.
const MOST_COLUMNS: usize = 8;
/// The widest values that a cube of [`UNITS`] writes.
pub(crate) const MOST_VALUE_DIM: usize = UNITS * MOST_COLUMNS;
/// Cubes along one axis of a launch: WebGPU has 65535.
pub(crate) const MOST_CUBES: usize = 32768;

/// The rule of a write as numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteParameters {
    pub(crate) step_size: f32,
    pub(crate) normalise: bool,
    pub(crate) surprise_threshold: f32,
    pub(crate) largest_relative_error: f32,
    /// Gain, offset and smoothing of the forgetting, if there is any.
    pub(crate) forgetting: Option<[f32; 3]>,
}

#[backend_extension(Cube, Fusion)]
pub(crate) trait SparseKernels: Backend {
    /// Keys `[tokens, key_dim]` and expansion `[key_dim, channels]` to indices and features,
    /// `[tokens, active]` each.
    #[fusion(meta = active_specs)]
    fn activate_channels(
        keys: FloatTensor<Self>,
        expansion: FloatTensor<Self>,
        active: usize,
    ) -> (IntTensor<Self>, FloatTensor<Self>);

    /// Weights `[memories, channels, value_dim]`, indices and features
    /// `[memories, tokens, active]`, to `[memories, tokens, value_dim]`.
    #[fusion(meta = prediction_spec)]
    fn read_channels(
        weights: FloatTensor<Self>,
        indices: IntTensor<Self>,
        features: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// As [`read_channels`](Self::read_channels), with `smoothed` `[memories]` and values
    /// `[memories, tokens, value_dim]`; gives the weights and the report of each memory.
    #[fusion(meta = written_specs)]
    fn write_channels(
        weights: FloatTensor<Self>,
        smoothed: FloatTensor<Self>,
        indices: IntTensor<Self>,
        features: FloatTensor<Self>,
        values: FloatTensor<Self>,
        parameters: WriteParameters,
    ) -> (FloatTensor<Self>, IntTensor<Self>);
}

fn active_specs(
    keys: &TensorSpec,
    _expansion: &TensorSpec,
    active: &usize,
) -> (TensorSpec, TensorSpec) {
    let shape = Shape::new([keys.shape[0], *active]);
    (
        TensorSpec::new(shape.clone(), DType::I32),
        TensorSpec::new(shape, DType::F32),
    )
}

fn prediction_spec(
    weights: &TensorSpec,
    indices: &TensorSpec,
    _features: &TensorSpec,
) -> TensorSpec {
    let shape = Shape::new([indices.shape[0], indices.shape[1], weights.shape[2]]);
    TensorSpec::new(shape, DType::F32)
}

fn written_specs(
    weights: &TensorSpec,
    _smoothed: &TensorSpec,
    indices: &TensorSpec,
    _features: &TensorSpec,
    _values: &TensorSpec,
    _parameters: &WriteParameters,
) -> (TensorSpec, TensorSpec) {
    let words = report::words(indices.shape[1], weights.shape[1]);
    let shape = Shape::new([indices.shape[0], words]);
    (weights.clone(), TensorSpec::new(shape, DType::I32))
}

impl SparseKernels for CubeBackend {
    fn activate_channels(
        keys: CubeTensor,
        expansion: CubeTensor,
        active: usize,
    ) -> (CubeTensor, CubeTensor) {
        let (keys, expansion) = (into_contiguous(keys), into_contiguous(expansion));
        let [tokens, key_dim] = dims(&keys);
        let [_, channels] = dims(&expansion);
        let client = keys.client.clone();
        let hidden = output_beside(&keys, [tokens, channels], DType::F32);
        activations::launch(
            &client,
            CubeCount::Static(
                channels.div_ceil(UNITS) as u32,
                tokens.div_ceil(TOKENS_PER_UNIT) as u32,
                1,
            ),
            CubeDim::new_1d(UNITS as u32),
            keys.clone().into_buffer_arg(),
            expansion.into_buffer_arg(),
            hidden.clone().into_buffer_arg(),
            tokens as u32,
            key_dim as u32,
            channels as u32,
            TOKENS_PER_UNIT,
        );
        let indices = output_beside(&keys, [tokens, active], DType::I32);
        let features = output_beside(&keys, [tokens, active], DType::F32);
        select_largest::launch(
            &client,
            cubes(tokens),
            CubeDim::new_1d(UNITS as u32),
            hidden.into_buffer_arg(),
            indices.clone().into_buffer_arg(),
            features.clone().into_buffer_arg(),
            tokens as u32,
            channels as u32,
            active as u32,
            UNITS,
        );
        (indices, features)
    }

    fn read_channels(weights: CubeTensor, indices: CubeTensor, features: CubeTensor) -> CubeTensor {
        let (weights, indices) = (into_contiguous(weights), into_contiguous(indices));
        let features = into_contiguous(features);
        let [_, channels, value_dim] = dims(&weights);
        let [memories, tokens, active] = dims(&features);
        let predictions = output_beside(&weights, [memories, tokens, value_dim], DType::F32);
        let (client, count, cube_dim) = one_unit_for(&weights, memories * tokens * value_dim);
        read_active::launch(
            &client,
            count,
            cube_dim,
            weights.into_buffer_arg(),
            indices.into_buffer_arg(),
            features.into_buffer_arg(),
            predictions.clone().into_buffer_arg(),
            tokens as u32,
            channels as u32,
            value_dim as u32,
            active as u32,
        );
        predictions
    }

    fn write_channels(
        weights: CubeTensor,
        smoothed: CubeTensor,
        indices: CubeTensor,
        features: CubeTensor,
        values: CubeTensor,
        parameters: WriteParameters,
    ) -> (CubeTensor, CubeTensor) {
        let weights = into_contiguous(weights);
        // A snapshot that somebody still reads keeps its numbers.
        let weights = if weights.can_mut() {
            weights
        } else {
            into_contiguous(weights.copy())
        };
        let (indices, features) = (into_contiguous(indices), into_contiguous(features));
        let (smoothed, values) = (into_contiguous(smoothed), into_contiguous(values));
        let [memories, channels, value_dim] = dims(&weights);
        let [_, tokens, active] = dims(&features);
        let words = report::words(tokens, channels);
        let report = output_beside(&weights, [memories, words], DType::I32);
        let units = value_dim.next_power_of_two().clamp(32, UNITS);
        let [gain, offset, smoothing] = parameters.forgetting.unwrap_or_default();
        write_in_order::launch(
            &weights.client.clone(),
            CubeCount::Static(memories as u32, 1, 1),
            CubeDim::new_1d(units as u32),
            weights.clone().into_buffer_arg(),
            smoothed.into_buffer_arg(),
            indices.into_buffer_arg(),
            features.into_buffer_arg(),
            values.into_buffer_arg(),
            report.clone().into_buffer_arg(),
            tokens as u32,
            channels as u32,
            value_dim as u32,
            active as u32,
            WriteScalarsLaunch::new(
                parameters.step_size,
                parameters.surprise_threshold,
                parameters.largest_relative_error,
                f32::MIN_POSITIVE,
                gain,
                offset,
                smoothing,
            ),
            parameters.normalise,
            parameters.forgetting.is_some(),
            value_dim.div_ceil(units),
            units,
        );
        (weights, report)
    }
}

/// At least as many cubes, and more than that where they fill up the last row of the launch.
pub(crate) fn cubes(count: usize) -> CubeCount {
    let rows = count.div_ceil(MOST_CUBES);
    CubeCount::Static(count.min(MOST_CUBES) as u32, rows as u32, 1)
}

/// A launch on the device of a tensor with a unit for each of some numbers.
pub(crate) fn one_unit_for(
    tensor: &CubeTensor,
    numbers: usize,
) -> (cubecl::client::Client, CubeCount, CubeDim) {
    let client = tensor.client.clone();
    let dim = CubeDim::new(&client, numbers);
    let count = cubecl::calculate_cube_count_elemwise(&client, numbers, dim);
    (client, count, dim)
}

pub(crate) fn dims<const D: usize>(tensor: &CubeTensor) -> [usize; D] {
    tensor.meta.shape().dims()
}

/// Memory that a kernel fills; what was in it before is anything.
pub(crate) fn output_beside<const D: usize>(
    tensor: &CubeTensor,
    shape: [usize; D],
    dtype: DType,
) -> CubeTensor {
    empty_device_contiguous_dtype(
        tensor.client.clone(),
        tensor.device.clone(),
        Shape::new(shape),
        dtype,
    )
}
