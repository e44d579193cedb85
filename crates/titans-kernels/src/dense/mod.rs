//! The operations of a dense memory on a GPU.
//!
//! An update of a perceptron of `depth` layers is `3 depth - 1` products of matrices and
//! `2 depth + 1` launches between them, for many memories at once:
//!
//! | launches | what |
//! | --- | --- |
//! | 1 | coefficients of decay and momentum: the affine scan over the tokens |
//! | `depth` + `depth - 1` | products and activations forwards |
//! | 1 | errors, the surprise gate, the gradient at the prediction, times its shares |
//! | 2 (`depth - 1`) | products and derivatives backwards |
//! | 2 `depth` | gradient of each layer, shares of weights and momenta side by side; write-back |

mod backend;
mod coefficients;
mod curve;
mod layer;
mod scan;
mod write_back;

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Tensor};
use titans_core::{
    DenseLearned, DenseOps, DenseRule, DenseTokens, DenseUpdated, LARGEST_RELATIVE_ERROR, Products,
};

use crate::ops::CubeOps;
use backend::{DenseKernels, ErrorParameters, ROWS};
use coefficients::coefficients;
pub(crate) use coefficients::update_coefficients;
use curve::Curve;

impl DenseOps for CubeOps {
    fn products(&self) -> Products {
        self.products
    }

    fn update(&self, rule: &DenseRule, learned: DenseLearned, tokens: DenseTokens) -> DenseUpdated {
        let orders = learned.momenta.len();
        let dtype = products_of(self.products, &tokens.keys.device());
        let curve = Curve::of(rule.mlp.activation);
        let (into, shares) =
            coefficients(&tokens.steps, &tokens.momentum_decays, &tokens.retention);

        let weights: Vec<Tensor<3>> = (learned.weights.iter())
            .map(|layer| layer.clone().cast(dtype))
            .collect();
        let forward = forward(curve, &weights, tokens.keys.cast(dtype));
        let parameters = ErrorParameters {
            gradients: true,
            ..error_parameters(rule, dtype)
        };
        let (relative_error, mut delta, shared) =
            prediction_errors(forward.prediction, tokens.values, into.clone(), parameters);
        let mut shared = vec![shared];
        for layer in (1..weights.len()).rev() {
            let upstream = <Dispatch as DenseKernels>::backward_product(
                delta.into_dispatch(),
                weights[layer].clone().into_dispatch(),
            );
            let (at_input, times_shares) = <Dispatch as DenseKernels>::back_through(
                upstream,
                forward.hidden[layer - 1].clone().into_dispatch(),
                into.clone().into_dispatch(),
                curve,
                dtype,
            );
            delta = Tensor::from_dispatch(at_input);
            shared.push(Tensor::from_dispatch(times_shares));
        }
        // Not held any longer, so that the write-back finds weights that are its own.
        drop(weights);

        let mut momenta = learned.momenta.into_iter().map(Vec::into_iter);
        let mut first = momenta.next();
        let mut second = momenta.next();
        let mut after = DenseLearned {
            weights: Vec::with_capacity(learned.weights.len()),
            momenta: vec![Vec::new(); orders],
        };
        let layers = learned.weights.into_iter().zip(forward.inputs);
        for ((weights, input), shared) in layers.zip(shared.into_iter().rev()) {
            let gradient = <Dispatch as DenseKernels>::gradient_product(
                input.into_dispatch(),
                shared.into_dispatch(),
            );
            // What stands for a buffer that does not exist is not looked at.
            let buffer = |of_each: &mut Option<std::vec::IntoIter<Tensor<3>>>| {
                let buffer = of_each.as_mut().and_then(Iterator::next);
                buffer.unwrap_or_else(|| shares.clone().unsqueeze_dim(0))
            };
            let (weights, buffer1, buffer2) = <Dispatch as DenseKernels>::write_back_layer(
                weights.into_dispatch(),
                buffer(&mut first).into_dispatch(),
                buffer(&mut second).into_dispatch(),
                gradient,
                shares.clone().into_dispatch(),
                orders,
            );
            after.weights.push(Tensor::from_dispatch(weights));
            for (buffers, buffer) in after.momenta.iter_mut().zip([buffer1, buffer2]) {
                buffers.push(Tensor::from_dispatch(buffer));
            }
        }
        DenseUpdated {
            learned: after,
            relative_error,
        }
    }

    fn read(&self, rule: &DenseRule, weights: &[Tensor<3>], queries: Tensor<3>) -> Tensor<3> {
        let [memories, tokens, _] = queries.dims();
        if tokens == 0 {
            return Tensor::zeros([memories, 0, rule.value_dim], &queries.device());
        }
        self.prediction(rule, weights, queries).narrow(1, 0, tokens)
    }

    fn relative_error(
        &self,
        rule: &DenseRule,
        weights: &[Tensor<3>],
        keys: Tensor<3>,
        values: Tensor<3>,
    ) -> Tensor<2> {
        let [memories, _, _] = keys.dims();
        let nothing = Tensor::zeros([memories, 1, 1], &keys.device());
        let prediction = self.prediction(rule, weights, keys);
        let parameters = error_parameters(rule, DType::F32);
        prediction_errors(prediction, values, nothing, parameters).0
    }
}

impl CubeOps {
    /// Predictions, and rows past them that fill the last block of [`ROWS`].
    fn prediction(&self, rule: &DenseRule, weights: &[Tensor<3>], keys: Tensor<3>) -> Tensor<3> {
        let dtype = products_of(self.products, &keys.device());
        let weights: Vec<Tensor<3>> = (weights.iter())
            .map(|layer| layer.clone().cast(dtype))
            .collect();
        forward(Curve::of(rule.mlp.activation), &weights, keys.cast(dtype)).prediction
    }
}

/// The type of the products on a device: f32 where it does not have another.
fn products_of(products: Products, device: &Device) -> DType {
    let dtype = match products {
        Products::F32 => DType::F32,
        Products::Bf16 => DType::BF16,
        Products::F16 => DType::F16,
    };
    match device.supports_dtype(dtype) {
        true => dtype,
        false => DType::F32,
    }
}

/// What a pass forwards leaves for the way back.
struct Forward {
    /// Input of each layer, in the type of the products.
    inputs: Vec<Tensor<3>>,
    /// Of each hidden layer, before its activation.
    hidden: Vec<Tensor<3>>,
    prediction: Tensor<3>,
}

fn forward(curve: Curve, weights: &[Tensor<3>], keys: Tensor<3>) -> Forward {
    let mut inputs = vec![whole_blocks(keys)];
    let mut hidden: Vec<Tensor<3>> = Vec::new();
    for layer in weights {
        if let Some(z) = hidden.last() {
            let dtype = layer.dtype();
            let z = z.clone().into_dispatch();
            let h = <Dispatch as DenseKernels>::activate_layer(z, curve, dtype);
            inputs.push(Tensor::from_dispatch(h));
        }
        let input = inputs[inputs.len() - 1].clone();
        hidden.push(Tensor::from_dispatch(
            <Dispatch as DenseKernels>::forward_product(
                input.into_dispatch(),
                layer.clone().into_dispatch(),
            ),
        ));
    }
    let prediction = hidden.pop().expect("a memory has at least one layer");
    Forward {
        inputs,
        hidden,
        prediction,
    }
}

/// Rows of zeros up to a multiple of [`ROWS`].
fn whole_blocks(rows: Tensor<3>) -> Tensor<3> {
    let [memories, count, width] = rows.dims();
    let missing = count.next_multiple_of(ROWS) - count;
    if missing == 0 {
        return rows;
    }
    let options = (&rows.device(), rows.dtype());
    Tensor::cat(
        vec![rows, Tensor::zeros([memories, missing, width], options)],
        1,
    )
}

fn error_parameters(rule: &DenseRule, dtype: DType) -> ErrorParameters {
    ErrorParameters {
        slope: rule.slope,
        surprise_threshold: rule.surprise_threshold,
        largest_relative_error: LARGEST_RELATIVE_ERROR,
        gradients: false,
        dtype,
    }
}

fn prediction_errors(
    prediction: Tensor<3>,
    values: Tensor<3>,
    into: Tensor<3>,
    parameters: ErrorParameters,
) -> (Tensor<2>, Tensor<3>, Tensor<3>) {
    let (relative_error, delta, shared) = <Dispatch as DenseKernels>::prediction_errors(
        prediction.into_dispatch(),
        values.into_dispatch(),
        into.into_dispatch(),
        parameters,
    );
    (
        Tensor::from_dispatch(relative_error),
        Tensor::from_dispatch(delta),
        Tensor::from_dispatch(shared),
    )
}
