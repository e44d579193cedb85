//! Hidden layers that a learned gate mixes into the stream.

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;

use super::maps::{LinearMaps, OuterGradient, StaticMaps, TensorSpec, TokenGradients};
use super::rule::{ArchitectureRule, validate_depth};
use super::{Activation, Wrap};
use crate::error::{ConfigError, at_least_one};
use crate::miras::descriptor::{ParamReader, Params, Word, params};

/// Blocks with a gated residual and a last projection (the memory of that name in
/// titans-pytorch).
///
/// ```text
/// branch  = act(x_l @ w.l.in) @ w.l.out
/// mix     = sigmoid([branch, x_l] @ w.l.gate)
/// x_(l+1) = x_l + mix * (branch - x_l)
/// M(key)  = wrap(x_depth @ projection, key)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatedResidualMlp {
    /// Blocks, 1 to 4.
    pub depth: usize,
    /// Width of a block's hidden layer.
    pub hidden: usize,
    /// Of the hidden layer.
    pub activation: Activation,
    /// Residual path and normalisation around all blocks.
    pub wrap: Wrap,
}

/// What the forward pass of one block leaves for the backward pass.
struct Block {
    input: Tensor<3>,
    before_activation: Tensor<3>,
    features: Tensor<3>,
    branch: Tensor<3>,
    joined: Tensor<3>,
    mix: Tensor<3>,
}

impl GatedResidualMlp {
    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            depth: params.count("depth")?,
            hidden: params.count("hidden")?,
            activation: params.word()?,
            wrap: params.word()?,
        })
    }

    fn block(&self, maps: &dyn LinearMaps, block: usize, input: Tensor<3>) -> (Block, Tensor<3>) {
        let before_activation = maps.apply(3 * block, input.clone());
        let features = self.activation.value(before_activation.clone());
        let branch = maps.apply(3 * block + 1, features.clone());
        let joined = Tensor::cat(vec![branch.clone(), input.clone()], 2);
        let mix = sigmoid(maps.apply(3 * block + 2, joined.clone()));
        let output = input.clone() + mix.clone() * (branch.clone() - input.clone());
        let block = Block {
            input,
            before_activation,
            features,
            branch,
            joined,
            mix,
        };
        (block, output)
    }

    fn projection(&self) -> usize {
        3 * self.depth
    }
}

impl ArchitectureRule for GatedResidualMlp {
    fn name(&self) -> &'static str {
        "gated-residual-mlp"
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
        let mut tensors = Vec::new();
        for block in 0..self.depth {
            tensors.extend([
                TensorSpec::new(format!("w.{block}.in"), key_dim, self.hidden),
                TensorSpec::new(format!("w.{block}.out"), self.hidden, key_dim),
                TensorSpec::new(format!("w.{block}.gate"), 2 * key_dim, key_dim),
            ]);
        }
        tensors.push(TensorSpec::new("projection", key_dim, value_dim));
        self.wrap.push_tensors(&mut tensors, value_dim);
        tensors
    }

    fn predict(&self, maps: &dyn LinearMaps, inputs: Tensor<3>) -> Tensor<3> {
        let mut stream = inputs.clone();
        for block in 0..self.depth {
            stream = self.block(maps, block, stream).1;
        }
        let hidden = maps.apply(self.projection(), stream);
        self.wrap
            .predict(maps, self.projection() + 1, hidden, inputs)
    }

    fn gradients(
        &self,
        weights: &[Tensor<3>],
        inputs: Tensor<3>,
        at_prediction: &dyn Fn(&Tensor<3>) -> Tensor<3>,
    ) -> TokenGradients {
        let [_, _, width] = inputs.dims();
        let maps = StaticMaps(weights);
        let mut stream = inputs.clone();
        let mut blocks = Vec::new();
        for block in 0..self.depth {
            let (block, output) = self.block(&maps, block, stream);
            blocks.push(block);
            stream = output;
        }
        let hidden = maps.apply(self.projection(), stream.clone());
        let gain_tensor = self.projection() + 1;
        let prediction = self
            .wrap
            .predict(&maps, gain_tensor, hidden.clone(), inputs);

        let mut gain = Vec::new();
        let at_hidden = self.wrap.backward(
            weights,
            gain_tensor,
            hidden,
            at_prediction(&prediction),
            &mut gain,
        );
        let transposed = |tensor: usize| weights[tensor].clone().swap_dims(1, 2);
        let mut at_stream = at_hidden.clone().matmul(transposed(self.projection()));
        let mut outers = vec![OuterGradient {
            inputs: stream.clone(),
            deltas: at_hidden,
        }];
        for (index, block) in blocks.into_iter().enumerate().rev() {
            let kept = block.mix.ones_like() - block.mix.clone();
            let at_gate = at_stream.clone()
                * (block.branch - block.input.clone())
                * block.mix.clone()
                * kept.clone();
            let at_joined = at_gate.clone().matmul(transposed(3 * index + 2));
            let at_branch = at_stream.clone() * block.mix + at_joined.clone().narrow(2, 0, width);
            let at_features = at_branch.clone().matmul(transposed(3 * index + 1));
            let at_inner = at_features * self.activation.derivative(block.before_activation);
            for (inputs, deltas) in [
                (block.joined, at_gate),
                (block.features, at_branch),
                (block.input, at_inner.clone()),
            ] {
                outers.push(OuterGradient { inputs, deltas });
            }
            at_stream = at_stream * kept
                + at_joined.narrow(2, width, width)
                + at_inner.matmul(transposed(3 * index));
        }
        outers.reverse();
        outers.append(&mut gain);
        TokenGradients {
            prediction,
            outers,
            features: stream,
        }
    }
}
