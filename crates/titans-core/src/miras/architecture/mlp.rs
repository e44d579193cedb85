//! The deep memory of Titans.

use burn::tensor::Tensor;

use super::maps::{LinearMaps, OuterGradient, StaticMaps, TensorSpec, TokenGradients};
use super::rule::{ArchitectureRule, validate_depth};
use super::{Activation, Wrap};
use crate::error::{ConfigError, at_least_one};
use crate::miras::descriptor::{ParamReader, Params, Word, params};

/// A multi-layer perceptron without biases (Titans, arXiv:2501.00663, section 3.1).
///
/// ```text
/// h_0 = key;   h_l = (l > 0 ? act(h_(l-1)) : h_0) @ W_l     l = 0 .. depth - 1
/// M(key) = wrap(h_depth, key)
/// ```
///
/// Depth 1 is one linear map without activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mlp {
    /// Layers, 1 to 4. The article and the ablation of Titans use 3 and 1 to 4.
    pub depth: usize,
    /// Width of the hidden layers.
    pub hidden: usize,
    /// Between the layers.
    pub activation: Activation,
    /// Residual path and normalisation.
    pub wrap: Wrap,
}

impl Default for Mlp {
    fn default() -> Self {
        Self {
            depth: 3,
            hidden: 256,
            activation: Activation::Gelu,
            wrap: Wrap::Plain,
        }
    }
}

impl Mlp {
    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            depth: params.count("depth")?,
            hidden: params.count("hidden")?,
            activation: params.word()?,
            wrap: params.word()?,
        })
    }
}

impl ArchitectureRule for Mlp {
    fn name(&self) -> &'static str {
        "mlp"
    }

    fn params(&self) -> Params {
        let mut params = params([("depth", self.depth as f64), ("hidden", self.hidden as f64)]);
        params.extend([self.activation.param(), self.wrap.param()]);
        params
    }

    fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("hidden", self.hidden)?;
        validate_depth(self.depth)
    }

    fn validate_widths(&self, key_dim: usize, value_dim: usize) -> Result<(), ConfigError> {
        self.wrap.validate_widths(key_dim, value_dim)
    }

    fn tensors(&self, key_dim: usize, value_dim: usize) -> Vec<TensorSpec> {
        let mut rows = key_dim;
        let mut tensors = Vec::new();
        for layer in 0..self.depth {
            let last = layer + 1 == self.depth;
            let columns = if last { value_dim } else { self.hidden };
            tensors.push(TensorSpec::new(format!("w.{layer}"), rows, columns));
            rows = columns;
        }
        self.wrap.push_tensors(&mut tensors, value_dim);
        tensors
    }

    fn predict(&self, maps: &dyn LinearMaps, inputs: Tensor<3>) -> Tensor<3> {
        let mut hidden = maps.apply(0, inputs.clone());
        for layer in 1..self.depth {
            hidden = maps.apply(layer, self.activation.value(hidden));
        }
        self.wrap.predict(maps, self.depth, hidden, inputs)
    }

    fn gradients(
        &self,
        weights: &[Tensor<3>],
        inputs: Tensor<3>,
        at_prediction: &dyn Fn(&Tensor<3>) -> Tensor<3>,
    ) -> TokenGradients {
        let maps = StaticMaps(weights);
        // Input and output of each layer.
        let mut layer_inputs = vec![inputs.clone()];
        let mut outputs = vec![maps.apply(0, inputs.clone())];
        for layer in 1..self.depth {
            let input = self.activation.value(outputs[layer - 1].clone());
            outputs.push(maps.apply(layer, input.clone()));
            layer_inputs.push(input);
        }
        let hidden = outputs[self.depth - 1].clone();
        let features = layer_inputs[self.depth - 1].clone();
        let prediction = self.wrap.predict(&maps, self.depth, hidden.clone(), inputs);

        let mut gain = Vec::new();
        let mut deltas = self.wrap.backward(
            weights,
            self.depth,
            hidden,
            at_prediction(&prediction),
            &mut gain,
        );
        let mut outers = Vec::new();
        for layer in (0..self.depth).rev() {
            outers.push(OuterGradient {
                inputs: layer_inputs[layer].clone(),
                deltas: deltas.clone(),
            });
            if layer > 0 {
                deltas = deltas.matmul(weights[layer].clone().swap_dims(1, 2))
                    * self.activation.derivative(outputs[layer - 1].clone());
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
