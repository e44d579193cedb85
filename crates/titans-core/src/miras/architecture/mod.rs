//! What the memory is: `M(key; weights)`.
//!
//! Every parameter tensor of every architecture is used as a linear map, so the gradient
//! of one token with respect to it is an outer product of the map's input and the
//! gradient at its output ([`OuterGradient`]). That is all the chunk form needs to know
//! of an architecture; see `docs/chunkwise.md`.

mod activation;
mod factorized_mlp;
mod gated_mlp;
mod gated_residual_mlp;
mod matrix;
mod mlp;
mod sparse_channel_mlp;
mod swiglu_mlp;
mod wrap;

pub use activation::Activation;
pub use factorized_mlp::FactorizedMlp;
pub use gated_mlp::GatedMlp;
pub use gated_residual_mlp::GatedResidualMlp;
pub use matrix::Matrix;
pub use mlp::Mlp;
pub use sparse_channel_mlp::SparseChannelMlp;
pub use swiglu_mlp::SwiGluMlp;
pub use wrap::Wrap;

use std::fmt::Debug;

use burn::tensor::Tensor;

use super::descriptor::{ChoiceDescriptor, Params};
use crate::error::{ConfigError, in_range};

/// The memory architecture: which tensors a memory has and how it predicts.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum MemoryArchitecture {
    /// One matrix: linear attention, the delta rule.
    Matrix(Matrix),
    /// The deep memory of Titans.
    Mlp(Mlp),
    /// One gated hidden layer, the SwiGLU of LaCT and Atlas++.
    GatedMlp(GatedMlp),
    /// Residual blocks of gated hidden layers with one normalisation at the end.
    SwiGluMlp(SwiGluMlp),
    /// Layers that are products of two thin matrices.
    FactorizedMlp(FactorizedMlp),
    /// Hidden layers mixed into the stream by a learned gate.
    GatedResidualMlp(GatedResidualMlp),
    /// Two layers, of which the first is frozen and the second is written sparsely.
    SparseChannelMlp(SparseChannelMlp),
}

impl MemoryArchitecture {
    const CHOICE: &'static str = "memory architecture";

    /// One of each, for tests of what every architecture obeys.
    pub const EXAMPLES: &'static [Self] = &[
        Self::Matrix(Matrix { wrap: Wrap::Plain }),
        Self::Mlp(Mlp {
            depth: 3,
            hidden: 10,
            activation: Activation::Gelu,
            wrap: Wrap::NormResidual,
        }),
        Self::GatedMlp(GatedMlp {
            hidden: 9,
            activation: Activation::Silu,
            wrap: Wrap::Residual,
        }),
        Self::SwiGluMlp(SwiGluMlp {
            depth: 2,
            hidden: 7,
            activation: Activation::Gelu,
            wrap: Wrap::Norm,
        }),
        Self::FactorizedMlp(FactorizedMlp {
            depth: 2,
            rank: 3,
            activation: Activation::GeluTanh,
            wrap: Wrap::NormResidual,
        }),
        Self::GatedResidualMlp(GatedResidualMlp {
            depth: 2,
            hidden: 11,
            activation: Activation::Gelu,
            wrap: Wrap::Plain,
        }),
        Self::SparseChannelMlp(SparseChannelMlp {
            channels: 24,
            active_channels: 4,
        }),
    ];

    fn rule(&self) -> &dyn ArchitectureRule {
        match self {
            Self::Matrix(rule) => rule,
            Self::Mlp(rule) => rule,
            Self::GatedMlp(rule) => rule,
            Self::SwiGluMlp(rule) => rule,
            Self::FactorizedMlp(rule) => rule,
            Self::GatedResidualMlp(rule) => rule,
            Self::SparseChannelMlp(rule) => rule,
        }
    }

    /// The name and parameters that a file header stores.
    pub fn descriptor(&self) -> ChoiceDescriptor {
        ChoiceDescriptor::new(self.rule().name(), self.rule().params())
    }

    /// The choice that a header names.
    ///
    /// # Errors
    /// An unknown name or parameters that the choice does not take.
    pub fn from_descriptor(descriptor: &ChoiceDescriptor) -> Result<Self, ConfigError> {
        let known = Self::EXAMPLES.iter().map(|example| example.rule());
        let choice = known
            .clone()
            .find(|rule| rule.name() == descriptor.name)
            .ok_or_else(|| {
                descriptor.unknown(Self::CHOICE, &known.map(|r| r.name()).collect::<Vec<_>>())
            })?
            .with_params(descriptor)?;
        choice.rule().validate()?;
        Ok(choice)
    }

    pub(crate) fn validate(&self, key_dim: usize, value_dim: usize) -> Result<(), ConfigError> {
        self.rule().validate()?;
        self.rule().validate_widths(key_dim, value_dim)
    }

    /// The learned tensors, in the order in which a state holds them.
    pub(crate) fn tensors(&self, key_dim: usize, value_dim: usize) -> Vec<TensorSpec> {
        self.rule().tensors(key_dim, value_dim)
    }

    /// `M(inputs)`, with every use of a parameter tensor left to `maps`.
    pub(crate) fn predict(&self, maps: &dyn LinearMaps, inputs: Tensor<3>) -> Tensor<3> {
        self.rule().predict(maps, inputs)
    }

    /// The gradient of each token at `weights`, given the gradient at the prediction.
    pub(crate) fn gradients(
        &self,
        weights: &[Tensor<3>],
        inputs: Tensor<3>,
        at_prediction: &dyn Fn(&Tensor<3>) -> Tensor<3>,
    ) -> TokenGradients {
        self.rule().gradients(weights, inputs, at_prediction)
    }
}

/// One learned tensor: `rows x columns`, used as `input @ tensor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TensorSpec {
    /// Its name within the state, for ever: files store it.
    pub(crate) name: String,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// How a memory that knows nothing begins.
    pub(crate) start: Start,
}

impl TensorSpec {
    pub(crate) fn new(name: impl Into<String>, rows: usize, columns: usize) -> Self {
        Self {
            name: name.into(),
            rows,
            columns,
            start: Start::Random,
        }
    }

    pub(crate) fn zero(name: impl Into<String>, rows: usize, columns: usize) -> Self {
        Self {
            start: Start::Zero,
            ..Self::new(name, rows, columns)
        }
    }

    /// The learned gain of a normalisation, one row that multiplies a one.
    pub(crate) fn gain(columns: usize) -> Self {
        Self::zero("gain", 1, columns)
    }

    /// A vector has no spectrum: orthogonalisation leaves it alone.
    pub(crate) fn is_matrix(&self) -> bool {
        self.name != "gain"
    }

    pub(crate) fn len(&self) -> usize {
        self.rows * self.columns
    }
}

/// Initial values of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Zero,
    /// Uniform with variance 1 / rows, from the seed.
    Random,
}

/// How the parameter tensors act on inputs.
///
/// The same architecture reads with one set of weights for all tokens
/// ([`StaticMaps`]) or with other weights for each token (the dual form of the chunk).
pub(crate) trait LinearMaps {
    /// `input @ tensor`, token by token.
    ///
    /// # Shapes
    /// - `input`: `[memories, tokens, rows]`
    /// - returns: `[memories, tokens, columns]`
    fn apply(&self, tensor: usize, input: Tensor<3>) -> Tensor<3>;
}

/// The same weights for every token.
pub(crate) struct StaticMaps<'a>(pub(crate) &'a [Tensor<3>]);

impl LinearMaps for StaticMaps<'_> {
    fn apply(&self, tensor: usize, input: Tensor<3>) -> Tensor<3> {
        input.matmul(self.0[tensor].clone())
    }
}

/// The gradient of each token with respect to one tensor: `inputs_t^T deltas_t`.
#[derive(Clone, Debug)]
pub(crate) struct OuterGradient {
    /// `[memories, tokens, rows]`.
    pub(crate) inputs: Tensor<3>,
    /// `[memories, tokens, columns]`.
    pub(crate) deltas: Tensor<3>,
}

/// What the backward pass of some tokens gives.
#[derive(Clone, Debug)]
pub(crate) struct TokenGradients {
    /// `[memories, tokens, value_dim]`.
    pub(crate) prediction: Tensor<3>,
    /// One per tensor.
    pub(crate) outers: Vec<OuterGradient>,
    /// Input of the last linear map, `[memories, tokens, features]`: what a normalised
    /// step divides by.
    pub(crate) features: Tensor<3>,
}

/// What every architecture offers; sealed until the contract has aged.
trait ArchitectureRule: Debug {
    /// The name, for ever: files store it.
    fn name(&self) -> &'static str;
    fn params(&self) -> Params;
    fn with_params(&self, descriptor: &ChoiceDescriptor)
    -> Result<MemoryArchitecture, ConfigError>;
    fn validate(&self) -> Result<(), ConfigError>;
    fn validate_widths(&self, _key_dim: usize, _value_dim: usize) -> Result<(), ConfigError> {
        Ok(())
    }
    fn tensors(&self, key_dim: usize, value_dim: usize) -> Vec<TensorSpec>;
    fn predict(&self, maps: &dyn LinearMaps, inputs: Tensor<3>) -> Tensor<3>;
    fn gradients(
        &self,
        weights: &[Tensor<3>],
        inputs: Tensor<3>,
        at_prediction: &dyn Fn(&Tensor<3>) -> Tensor<3>,
    ) -> TokenGradients;
}

/// `Ok` for the depths that the ablation of Titans covers.
fn validate_depth(depth: usize) -> Result<(), ConfigError> {
    in_range("depth", depth as f32, "1 to 4", |depth| {
        (1.0..=4.0).contains(&depth)
    })
}
