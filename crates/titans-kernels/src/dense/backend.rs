//! The kernels of a dense update as operations of Burn's CubeCL backend.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::reshape;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::zspace::metadata::Metadata;

use super::curve::Curve;
use super::layer::{ErrorScalarsLaunch, activate, back, errors};
use super::scan::{SHARES, coefficients};
use super::write_back::write_back;
use crate::backend::{UNITS, cubes, dims, one_unit_for, output_beside};
use crate::product::{Transposed, element, product};

/// Rows of every product that makes a prediction. The library chooses its tiles by the number
/// of rows, and a prediction must not depend on the keys beside it.
pub(crate) const ROWS: usize = 64;

/// The rule of an update as numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorParameters {
    pub(crate) slope: f32,
    pub(crate) surprise_threshold: f32,
    pub(crate) largest_relative_error: f32,
    /// Whether gradients are asked for beside the relative errors.
    pub(crate) gradients: bool,
    /// Type of the products.
    pub(crate) dtype: DType,
}

#[backend_extension(Cube, Fusion)]
pub(crate) trait DenseKernels: Backend {
    /// `rows @ weights`: `[memories, rows, width]`, rows a multiple of [`ROWS`], and
    /// `[memories, width, columns]`.
    #[fusion(meta = |rows, weights| product_spec(rows.shape[0], rows.shape[1], weights.shape[2]))]
    fn forward_product(rows: FloatTensor<Self>, weights: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `deltas @ weights^T`: `[memories, tokens, columns]` and `[memories, width, columns]`.
    #[fusion(meta = |deltas, weights| {
        product_spec(deltas.shape[0], deltas.shape[1], weights.shape[1])
    })]
    fn backward_product(deltas: FloatTensor<Self>, weights: FloatTensor<Self>)
    -> FloatTensor<Self>;

    /// `inputs^T @ shared`: `[memories, rows, width]`, of which the tokens count, and
    /// `[memories, tokens, columns]`.
    #[fusion(meta = |inputs, shared| {
        product_spec(inputs.shape[0], inputs.shape[2], shared.shape[2])
    })]
    fn gradient_product(inputs: FloatTensor<Self>, shared: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`activate`].
    #[fusion(meta = |z, _curve, dtype| TensorSpec::new(z.shape.clone(), *dtype))]
    fn activate_layer(z: FloatTensor<Self>, curve: Curve, dtype: DType) -> FloatTensor<Self>;

    /// See [`errors`]: relative errors, deltas and shared deltas; without gradients the last
    /// two are empty.
    #[fusion(meta = errors_specs)]
    fn prediction_errors(
        prediction: FloatTensor<Self>,
        values: FloatTensor<Self>,
        into: FloatTensor<Self>,
        parameters: ErrorParameters,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// See [`back`]: deltas and shared deltas.
    #[fusion(meta = back_specs)]
    fn back_through(
        upstream: FloatTensor<Self>,
        z: FloatTensor<Self>,
        into: FloatTensor<Self>,
        curve: Curve,
        dtype: DType,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`coefficients`].
    #[fusion(meta = coefficients_specs)]
    fn update_coefficients(
        steps: FloatTensor<Self>,
        retention: FloatTensor<Self>,
        decay1: FloatTensor<Self>,
        decay2: FloatTensor<Self>,
        orders: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`write_back`]. Buffers of momentum that do not exist come back as they are.
    #[fusion(meta = |weights, first, second, _gradient, _shares, _orders| {
        (weights.clone(), first.clone(), second.clone())
    })]
    fn write_back_layer(
        weights: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        shares: FloatTensor<Self>,
        orders: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

fn product_spec(memories: usize, rows: usize, columns: usize) -> TensorSpec {
    TensorSpec::new(Shape::new([memories, rows, columns]), DType::F32)
}

fn errors_specs(
    prediction: &TensorSpec,
    values: &TensorSpec,
    into: &TensorSpec,
    parameters: &ErrorParameters,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    let [memories, tokens] = [values.shape[0], values.shape[1]];
    let relative_error = TensorSpec::new(Shape::new([memories, tokens]), DType::F32);
    let shape = [memories, tokens, prediction.shape[2]];
    let sizes = gradient_shapes(shape, into.shape[1], parameters.gradients);
    let [delta, shared] = sizes.map(|shape| TensorSpec::new(Shape::new(shape), parameters.dtype));
    (relative_error, delta, shared)
}

fn back_specs(
    upstream: &TensorSpec,
    _z: &TensorSpec,
    into: &TensorSpec,
    _curve: &Curve,
    dtype: &DType,
) -> (TensorSpec, TensorSpec) {
    let shape = [upstream.shape[0], upstream.shape[1], upstream.shape[2]];
    let [delta, shared] = gradient_shapes(shape, into.shape[1], true)
        .map(|shape| TensorSpec::new(Shape::new(shape), *dtype));
    (delta, shared)
}

fn coefficients_specs(
    steps: &TensorSpec,
    _retention: &TensorSpec,
    _decay1: &TensorSpec,
    _decay2: &TensorSpec,
    orders: &usize,
) -> (TensorSpec, TensorSpec) {
    let [memories, tokens] = [steps.shape[0], steps.shape[1]];
    (
        TensorSpec::new(Shape::new([memories, 1 + orders, tokens]), DType::F32),
        TensorSpec::new(Shape::new([memories, SHARES]), DType::F32),
    )
}

/// Shapes of deltas and of shared deltas.
fn gradient_shapes(
    [memories, tokens, width]: [usize; 3],
    shares: usize,
    gradients: bool,
) -> [[usize; 3]; 2] {
    match gradients {
        true => [
            [memories, tokens, width],
            [memories, tokens, shares * width],
        ],
        false => [[1, 1, 1]; 2],
    }
}

impl DenseKernels for CubeBackend {
    fn forward_product(rows: CubeTensor, weights: CubeTensor) -> CubeTensor {
        let (rows, weights) = (into_contiguous(rows), into_contiguous(weights));
        let [memories, count, width] = dims(&rows);
        let [_, _, columns] = dims(&weights);
        let out = output_beside(&rows, [memories, count / ROWS, ROWS, columns], DType::F32);
        let rows = reshape(rows, Shape::new([memories, count / ROWS, ROWS, width]));
        let weights = reshape(weights, Shape::new([memories, 1, width, columns]));
        product(rows, weights, Transposed::Neither, &out);
        reshape(out, Shape::new([memories, count, columns]))
    }

    fn backward_product(deltas: CubeTensor, weights: CubeTensor) -> CubeTensor {
        let (deltas, weights) = (into_contiguous(deltas), into_contiguous(weights));
        let [memories, rows, _] = dims(&deltas);
        let [_, width, _] = dims(&weights);
        let out = output_beside(&deltas, [memories, rows, width], DType::F32);
        product(deltas, weights, Transposed::Right, &out);
        out
    }

    fn gradient_product(inputs: CubeTensor, shared: CubeTensor) -> CubeTensor {
        let (mut inputs, shared) = (into_contiguous(inputs), into_contiguous(shared));
        let [memories, _, width] = dims(&inputs);
        let [_, tokens, columns] = dims(&shared);
        // The rows past the tokens are passed over where they are.
        let strides = inputs.meta.strides().clone();
        *inputs.meta = Metadata::new(Shape::new([memories, tokens, width]), strides);
        let out = output_beside(&inputs, [memories, width, columns], DType::F32);
        product(inputs, shared, Transposed::Left, &out);
        out
    }

    fn activate_layer(z: CubeTensor, curve: Curve, dtype: DType) -> CubeTensor {
        let z = into_contiguous(z);
        let h = output_beside(&z, dims::<3>(&z), dtype);
        let (client, count, dim) = one_unit_each(&z);
        activate::launch(
            &client,
            count,
            dim,
            z.into_buffer_arg(),
            h.clone().into_buffer_arg(),
            curve,
            element(dtype),
        );
        h
    }

    fn prediction_errors(
        prediction: CubeTensor,
        values: CubeTensor,
        into: CubeTensor,
        parameters: ErrorParameters,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let (prediction, values) = (into_contiguous(prediction), into_contiguous(values));
        let into = into_contiguous(into);
        let [memories, rows, value_dim] = dims(&prediction);
        let [_, tokens, _] = dims(&values);
        let [_, shares, _] = dims(&into);
        let relative_error = output_beside(&prediction, [memories, tokens], DType::F32);
        let shapes = gradient_shapes([memories, tokens, value_dim], shares, parameters.gradients);
        let [delta, shared] =
            shapes.map(|shape| output_beside(&prediction, shape, parameters.dtype));
        let all_tokens = memories * tokens;
        let units = value_dim.next_power_of_two().clamp(32, UNITS);
        errors::launch(
            &prediction.client.clone(),
            cubes(all_tokens),
            CubeDim::new_1d(units as u32),
            prediction.into_buffer_arg(),
            values.into_buffer_arg(),
            into.into_buffer_arg(),
            relative_error.clone().into_buffer_arg(),
            delta.clone().into_buffer_arg(),
            shared.clone().into_buffer_arg(),
            rows as u32,
            tokens as u32,
            value_dim as u32,
            all_tokens as u32,
            ErrorScalarsLaunch::new(
                parameters.slope,
                parameters.surprise_threshold,
                parameters.largest_relative_error,
                f32::MIN_POSITIVE,
            ),
            shares,
            units,
            parameters.gradients,
            element(parameters.dtype),
        );
        (relative_error, delta, shared)
    }

    fn back_through(
        upstream: CubeTensor,
        z: CubeTensor,
        into: CubeTensor,
        curve: Curve,
        dtype: DType,
    ) -> (CubeTensor, CubeTensor) {
        let (upstream, z) = (into_contiguous(upstream), into_contiguous(z));
        let into = into_contiguous(into);
        let [memories, rows, width] = dims(&z);
        let [_, shares, tokens] = dims(&into);
        let [delta, shared] = gradient_shapes([memories, tokens, width], shares, true)
            .map(|shape| output_beside(&z, shape, dtype));
        let (client, count, dim) = one_unit_each(&upstream);
        back::launch(
            &client,
            count,
            dim,
            upstream.into_buffer_arg(),
            z.into_buffer_arg(),
            into.into_buffer_arg(),
            delta.clone().into_buffer_arg(),
            shared.clone().into_buffer_arg(),
            rows as u32,
            tokens as u32,
            width as u32,
            curve,
            shares,
            element(dtype),
        );
        (delta, shared)
    }

    fn update_coefficients(
        steps: CubeTensor,
        retention: CubeTensor,
        decay1: CubeTensor,
        decay2: CubeTensor,
        orders: usize,
    ) -> (CubeTensor, CubeTensor) {
        let [memories, tokens] = dims(&steps);
        let into = output_beside(&steps, [memories, 1 + orders, tokens], DType::F32);
        let shares = output_beside(&steps, [memories, SHARES], DType::F32);
        let units = tokens.next_power_of_two().clamp(32, UNITS);
        coefficients::launch(
            &steps.client.clone(),
            CubeCount::Static(memories as u32, 1, 1),
            CubeDim::new_1d(units as u32),
            into_contiguous(steps).into_buffer_arg(),
            into_contiguous(retention).into_buffer_arg(),
            into_contiguous(decay1).into_buffer_arg(),
            into_contiguous(decay2).into_buffer_arg(),
            into.clone().into_buffer_arg(),
            shares.clone().into_buffer_arg(),
            tokens as u32,
            orders,
            units,
        );
        (into, shares)
    }

    fn write_back_layer(
        weights: CubeTensor,
        first: CubeTensor,
        second: CubeTensor,
        gradient: CubeTensor,
        shares: CubeTensor,
        orders: usize,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let weights = own(weights);
        let [_, rows, columns] = dims(&weights);
        let first = if orders >= 1 { own(first) } else { first };
        let second = if orders == 2 { own(second) } else { second };
        // A kernel's buffers are told apart by what is written, so an absent one is no other.
        let bound = |buffer: &CubeTensor, order: usize| match orders >= order {
            true => buffer.clone(),
            false => output_beside(&weights, [1], DType::F32),
        };
        let (client, count, dim) = one_unit_each(&weights);
        write_back::launch(
            &client,
            count,
            dim,
            weights.clone().into_buffer_arg(),
            bound(&first, 1).into_buffer_arg(),
            bound(&second, 2).into_buffer_arg(),
            into_contiguous(gradient).into_buffer_arg(),
            into_contiguous(shares).into_buffer_arg(),
            columns as u32,
            (rows * columns) as u32,
            orders,
        );
        (weights, first, second)
    }
}

/// A tensor that may be written in place: itself, or a copy where somebody else reads it.
fn own(tensor: CubeTensor) -> CubeTensor {
    let tensor = into_contiguous(tensor);
    match tensor.can_mut() {
        true => tensor,
        false => into_contiguous(tensor.copy()),
    }
}

fn one_unit_each(tensor: &CubeTensor) -> (cubecl::client::Client, CubeCount, CubeDim) {
    one_unit_for(tensor, tensor.meta.num_elements())
}
