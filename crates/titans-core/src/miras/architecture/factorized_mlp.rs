//! Layers that are products of two thin matrices.

use burn::tensor::Tensor;

use super::maps::{LinearMaps, OuterGradient, StaticMaps, TensorSpec, TokenGradients};
use super::rule::{ArchitectureRule, validate_depth};
use super::{Activation, Wrap};
use crate::error::{ConfigError, at_least_one};
use crate::miras::descriptor::{ParamReader, Params, Word, params};

/// Low-rank layers (the factorised memory of titans-pytorch).
///
/// ```text
/// h_0 = key;   h_l = (l > 0 ? act(h_(l-1)) : h_0) @ w.l.in @ w.l.out
/// M(key) = wrap(h_depth, key)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactorizedMlp {
    /// Layers, 1 to 4.
    pub depth: usize,
    /// Inner width of each layer's product.
    pub rank: usize,
    /// Between the layers.
    pub activation: Activation,
    /// Residual path and normalisation.
    pub wrap: Wrap,
}

impl FactorizedMlp {
    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            depth: params.count("depth")?,
            rank: params.count("rank")?,
            activation: params.word()?,
            wrap: params.word()?,
        })
    }
}

impl ArchitectureRule for FactorizedMlp {
    fn name(&self) -> &'static str {
        "factorized-mlp"
    }

    fn params(&self) -> Params {
        let mut params = params([("depth", self.depth as f64), ("rank", self.rank as f64)]);
        params.extend([self.activation.param(), self.wrap.param()]);
        params
    }

    fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("rank", self.rank)?;
        validate_depth(self.depth)
    }

    fn validate_widths(&self, key_dim: usize, value_dim: usize) -> Result<(), ConfigError> {
        self.wrap.validate_widths(key_dim, value_dim)
    }

    fn tensors(&self, key_dim: usize, value_dim: usize) -> Vec<TensorSpec> {
        let mut rows = key_dim;
        let mut tensors = Vec::new();
        for layer in 0..self.depth {
            tensors.push(TensorSpec::new(format!("w.{layer}.in"), rows, self.rank));
            tensors.push(TensorSpec::new(
                format!("w.{layer}.out"),
                self.rank,
                value_dim,
            ));
            rows = value_dim;
        }
        self.wrap.push_tensors(&mut tensors, value_dim);
        tensors
    }

    fn predict(&self, maps: &dyn LinearMaps, inputs: Tensor<3>) -> Tensor<3> {
        let mut hidden = maps.apply(1, maps.apply(0, inputs.clone()));
        for layer in 1..self.depth {
            let inner = maps.apply(2 * layer, self.activation.value(hidden));
            hidden = maps.apply(2 * layer + 1, inner);
        }
        self.wrap.predict(maps, 2 * self.depth, hidden, inputs)
    }

    fn gradients(
        &self,
        weights: &[Tensor<3>],
        inputs: Tensor<3>,
        at_prediction: &dyn Fn(&Tensor<3>) -> Tensor<3>,
    ) -> TokenGradients {
        let maps = StaticMaps(weights);
        // Input of every matrix, two per layer, and output of every layer.
        let mut matrix_inputs = Vec::new();
        let mut outputs: Vec<Tensor<3>> = Vec::new();
        for layer in 0..self.depth {
            let input = match outputs.last() {
                Some(output) => self.activation.value(output.clone()),
                None => inputs.clone(),
            };
            let inner = maps.apply(2 * layer, input.clone());
            outputs.push(maps.apply(2 * layer + 1, inner.clone()));
            matrix_inputs.extend([input, inner]);
        }
        let hidden = outputs[self.depth - 1].clone();
        let features = matrix_inputs[2 * self.depth - 1].clone();
        let gain_tensor = 2 * self.depth;
        let prediction = self
            .wrap
            .predict(&maps, gain_tensor, hidden.clone(), inputs);

        let mut gain = Vec::new();
        let mut deltas = self.wrap.backward(
            weights,
            gain_tensor,
            hidden,
            at_prediction(&prediction),
            &mut gain,
        );
        let mut outers = Vec::new();
        for tensor in (0..2 * self.depth).rev() {
            outers.push(OuterGradient {
                inputs: matrix_inputs[tensor].clone(),
                deltas: deltas.clone(),
            });
            if tensor > 0 {
                deltas = deltas.matmul(weights[tensor].clone().swap_dims(1, 2));
                if tensor % 2 == 0 {
                    deltas = deltas * self.activation.derivative(outputs[tensor / 2 - 1].clone());
                }
            }
        }
        outers.reverse();
        outers.append(&mut gain);
        TokenGradients {
            prediction,
            outers,
            features,
        }
    }
}
