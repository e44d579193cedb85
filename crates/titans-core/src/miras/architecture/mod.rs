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
mod maps;
mod matrix;
mod mlp;
mod rule;
mod sparse_channel_mlp;
mod swiglu_mlp;
mod wrap;

pub use activation::Activation;
pub use factorized_mlp::FactorizedMlp;
pub use gated_mlp::GatedMlp;
pub use gated_residual_mlp::GatedResidualMlp;
pub(crate) use maps::{LinearMaps, OuterGradient, Start, StaticMaps, TensorSpec, TokenGradients};
pub use matrix::Matrix;
pub use mlp::Mlp;
pub use sparse_channel_mlp::SparseChannelMlp;
pub use swiglu_mlp::SwiGluMlp;
pub use wrap::Wrap;

use burn::tensor::Tensor;

use self::rule::ArchitectureRule;
use super::descriptor::ChoiceDescriptor;
use crate::error::ConfigError;

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

    /// One of each form. They are what [`from_descriptor`](Self::from_descriptor) knows by name,
    /// what a text of a configuration may name, and what tests try for every architecture.
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
        let known = Self::EXAMPLES.iter();
        let example = known
            .clone()
            .find(|example| example.rule().name() == descriptor.name)
            .ok_or_else(|| {
                let mut names: Vec<_> = known.map(|example| example.rule().name()).collect();
                names.dedup();
                descriptor.unknown(Self::CHOICE, &names)
            })?;
        let mut params = descriptor.reader(Self::CHOICE);
        let choice = match example {
            Self::Matrix(_) => Self::Matrix(Matrix::read(&mut params)?),
            Self::Mlp(_) => Self::Mlp(Mlp::read(&mut params)?),
            Self::GatedMlp(_) => Self::GatedMlp(GatedMlp::read(&mut params)?),
            Self::SwiGluMlp(_) => Self::SwiGluMlp(SwiGluMlp::read(&mut params)?),
            Self::FactorizedMlp(_) => Self::FactorizedMlp(FactorizedMlp::read(&mut params)?),
            Self::GatedResidualMlp(_) => {
                Self::GatedResidualMlp(GatedResidualMlp::read(&mut params)?)
            }
            Self::SparseChannelMlp(_) => {
                Self::SparseChannelMlp(SparseChannelMlp::read(&mut params)?)
            }
        };
        params.finish()?;
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
