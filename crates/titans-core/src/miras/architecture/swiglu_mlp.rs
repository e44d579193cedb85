//! Residual blocks of gated hidden layers.

use burn::tensor::Tensor;

use super::maps::{LinearMaps, OuterGradient, StaticMaps, TensorSpec, TokenGradients};
use super::rule::{ArchitectureRule, validate_depth};
use super::{Activation, Wrap};
use crate::error::{ConfigError, at_least_one};
use crate::miras::descriptor::{ParamReader, Params, Word, params};

/// Gated blocks on a residual stream, as the feed-forward layers of current transformers
/// and the SwiGLU memory of titans-pytorch.
///
/// ```text
/// x_0 = key;   (u, g) = halves of x_l @ w.l.in;   x_(l+1) = x_l + (u * act(g)) @ w.l.out
/// M(key) = wrap(x_depth, key)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwiGluMlp {
    /// Blocks, 1 to 4.
    pub depth: usize,
    /// Width of a block's hidden layer, after the gate.
    pub hidden: usize,
    /// Of the gate.
    pub activation: Activation,
    /// Residual path and normalisation around all blocks.
    pub wrap: Wrap,
}

/// What the forward pass of one block leaves for the backward pass.
struct Block {
    input: Tensor<3>,
    up: Tensor<3>,
    before_gate: Tensor<3>,
    gate: Tensor<3>,
    features: Tensor<3>,
}

impl SwiGluMlp {
    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            depth: params.count("depth")?,
            hidden: params.count("hidden")?,
            activation: params.word()?,
            wrap: params.word()?,
        })
    }

    fn block(&self, maps: &dyn LinearMaps, block: usize, input: Tensor<3>) -> (Block, Tensor<3>) {
        let joined = maps.apply(2 * block, input.clone());
        let up = joined.clone().narrow(2, 0, self.hidden);
        let before_gate = joined.narrow(2, self.hidden, self.hidden);
        let gate = self.activation.value(before_gate.clone());
        let features = up.clone() * gate.clone();
        let output = maps.apply(2 * block + 1, features.clone()) + input.clone();
        let block = Block {
            input,
            up,
            before_gate,
            gate,
            features,
        };
        (block, output)
    }
}

impl ArchitectureRule for SwiGluMlp {
    fn name(&self) -> &'static str {
        "swiglu-mlp"
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
        // The blocks are residual themselves, whatever surrounds them.
        Wrap::Residual.validate_widths(key_dim, value_dim)
    }

    fn tensors(&self, key_dim: usize, value_dim: usize) -> Vec<TensorSpec> {
        let mut tensors = Vec::new();
        for block in 0..self.depth {
            tensors.push(TensorSpec::new(
                format!("w.{block}.in"),
                key_dim,
                2 * self.hidden,
            ));
            tensors.push(TensorSpec::new(
                format!("w.{block}.out"),
                self.hidden,
                key_dim,
            ));
        }
        self.wrap.push_tensors(&mut tensors, value_dim);
        tensors
    }

    fn predict(&self, maps: &dyn LinearMaps, inputs: Tensor<3>) -> Tensor<3> {
        let mut stream = inputs.clone();
        for block in 0..self.depth {
            stream = self.block(maps, block, stream).1;
        }
        self.wrap.predict(maps, 2 * self.depth, stream, inputs)
    }

    fn gradients(
        &self,
        weights: &[Tensor<3>],
        inputs: Tensor<3>,
        at_prediction: &dyn Fn(&Tensor<3>) -> Tensor<3>,
    ) -> TokenGradients {
        let maps = StaticMaps(weights);
        let mut stream = inputs.clone();
        let mut blocks = Vec::new();
        for block in 0..self.depth {
            let (block, output) = self.block(&maps, block, stream);
            blocks.push(block);
            stream = output;
        }
        let features = blocks[self.depth - 1].features.clone();
        let gain_tensor = 2 * self.depth;
        let prediction = self
            .wrap
            .predict(&maps, gain_tensor, stream.clone(), inputs);

        let mut gain = Vec::new();
        let mut at_stream = self.wrap.backward(
            weights,
            gain_tensor,
            stream,
            at_prediction(&prediction),
            &mut gain,
        );
        let mut outers = Vec::new();
        for (index, block) in blocks.into_iter().enumerate().rev() {
            let at_features = at_stream
                .clone()
                .matmul(weights[2 * index + 1].clone().swap_dims(1, 2));
            let at_up = at_features.clone() * block.gate;
            let at_gate = at_features * block.up * self.activation.derivative(block.before_gate);
            let at_joined = Tensor::cat(vec![at_up, at_gate], 2);
            outers.push(OuterGradient {
                inputs: block.features,
                deltas: at_stream.clone(),
            });
            outers.push(OuterGradient {
                inputs: block.input,
                deltas: at_joined.clone(),
            });
            at_stream = at_stream + at_joined.matmul(weights[2 * index].clone().swap_dims(1, 2));
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
