//! One gated hidden layer.

use burn::tensor::Tensor;

use super::maps::{LinearMaps, OuterGradient, StaticMaps, TensorSpec, TokenGradients};
use super::rule::ArchitectureRule;
use super::{Activation, Wrap};
use crate::error::{ConfigError, at_least_one};
use crate::miras::descriptor::{ParamReader, Params, Word, params};

/// The gated memory of LaCT (arXiv:2505.23884) and, with a residual, of Atlas++
/// (arXiv:2505.23735).
///
/// ```text
/// M(key) = wrap((act(key @ gate) * (key @ up)) @ down, key)
/// ```
///
/// Three separate tensors, because orthogonalisation and row norms act on each alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatedMlp {
    /// Width of the hidden layer.
    pub hidden: usize,
    /// Of the gate; LaCT uses SiLU.
    pub activation: Activation,
    /// Residual path and normalisation.
    pub wrap: Wrap,
}

const GATE: usize = 0;
const UP: usize = 1;
const DOWN: usize = 2;
const GAIN: usize = 3;

impl GatedMlp {
    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            hidden: params.count("hidden")?,
            activation: params.word()?,
            wrap: params.word()?,
        })
    }
}

impl ArchitectureRule for GatedMlp {
    fn name(&self) -> &'static str {
        "gated-mlp"
    }

    fn params(&self) -> Params {
        let mut params = params([("hidden", self.hidden as f64)]);
        params.extend([self.activation.param(), self.wrap.param()]);
        params
    }

    fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("hidden", self.hidden)
    }

    fn validate_widths(&self, key_dim: usize, value_dim: usize) -> Result<(), ConfigError> {
        self.wrap.validate_widths(key_dim, value_dim)
    }

    fn tensors(&self, key_dim: usize, value_dim: usize) -> Vec<TensorSpec> {
        let mut tensors = vec![
            TensorSpec::new("gate", key_dim, self.hidden),
            TensorSpec::new("up", key_dim, self.hidden),
            TensorSpec::new("down", self.hidden, value_dim),
        ];
        self.wrap.push_tensors(&mut tensors, value_dim);
        tensors
    }

    fn predict(&self, maps: &dyn LinearMaps, inputs: Tensor<3>) -> Tensor<3> {
        let gate = self.activation.value(maps.apply(GATE, inputs.clone()));
        let hidden = maps.apply(DOWN, gate * maps.apply(UP, inputs.clone()));
        self.wrap.predict(maps, GAIN, hidden, inputs)
    }

    fn gradients(
        &self,
        weights: &[Tensor<3>],
        inputs: Tensor<3>,
        at_prediction: &dyn Fn(&Tensor<3>) -> Tensor<3>,
    ) -> TokenGradients {
        let maps = StaticMaps(weights);
        let before_gate = maps.apply(GATE, inputs.clone());
        let gate = self.activation.value(before_gate.clone());
        let up = maps.apply(UP, inputs.clone());
        let features = gate.clone() * up.clone();
        let hidden = maps.apply(DOWN, features.clone());
        let prediction = self
            .wrap
            .predict(&maps, GAIN, hidden.clone(), inputs.clone());

        let mut gain = Vec::new();
        let at_hidden =
            self.wrap
                .backward(weights, GAIN, hidden, at_prediction(&prediction), &mut gain);
        let at_features = at_hidden
            .clone()
            .matmul(weights[DOWN].clone().swap_dims(1, 2));
        let at_gate = at_features.clone() * up * self.activation.derivative(before_gate);
        let at_up = at_features * gate;
        let mut outers: Vec<OuterGradient> = [
            (inputs.clone(), at_gate),
            (inputs, at_up),
            (features.clone(), at_hidden),
        ]
        .map(|(inputs, deltas)| OuterGradient { inputs, deltas })
        .into();
        outers.append(&mut gain);
        TokenGradients {
            prediction,
            outers,
            features,
        }
    }
}
