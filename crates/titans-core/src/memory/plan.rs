//! What computes the updates of a memory: decided once, when the memory is built.

use std::fmt;

use burn::tensor::Device;

use super::config::MemoryConfig;
use super::update::{ForgetScope, GateSpan, GradientBase, Reduction, SparseGate};
use crate::miras::{
    AttentionalBias, LearningAlgorithm, MemoryArchitecture, RetentionGate, RetentionTarget, Wrap,
};
use crate::ops::{DenseRule, MemoryOps, WriteRule};

/// What computes the updates of a memory.
///
/// [`NeuralMemory::plan`](crate::NeuralMemory::plan) tells it. It is chosen when the memory is
/// built, by the configuration, the device and the operations: the first one of this table that
/// applies. All compute the same equations and differ by rounding. The costs are those of an
/// update of `b` tokens in a memory of `P` learned parameters.
///
/// | plan | for which memories | cost of an update | presets on the CPU |
/// | --- | --- | --- | --- |
/// | `rows` | a matrix over keys or sparse features, written token by token, that forgets nothing or what it writes | the rows that a written token touches: 64 of 8192 by default; a token that is not written only reads them | `sparse`, `delta` |
/// | `dense` | a multi-layer perceptron under l2, with momentum or without, whose weights decay to zero or not at all, where the device has [operations](crate::DenseOps) for it | matrix products of `b` rows (prediction, backward pass, gradient) and one pass over the `P` numbers, in place | `titans` |
/// | `closed-form` | whatever is linear in the gradient and affine in the weights | the same products, and a pass over `P` numbers for each of some tensor operations | `yaad`, `moneta`, `memora` |
/// | `summed-gradient` | gates that act once per update | the same products, and one step of the learning algorithm and its gates on `P` numbers | `article`, `lact` |
/// | `token-by-token` | everything else, such as a bound of the gradient at every token | a gradient of `P` numbers for each of the `b` tokens | none |
///
/// With [`TensorOps`](crate::TensorOps) `titans` has the plan `closed-form`; with the GPU kernels
/// of titans-kernels each preset has that of the table. A call whose tensors the dense operations
/// do not take, because they record gradients or are no f32, is computed in the closed form.
///
/// The plan is that of [`write`](crate::NeuralMemory::write) and of what is like it.
/// [`pass`](crate::NeuralMemory::pass) computes in tensor operations, because gradients may flow
/// through it and norms are told. There the linear delta rule is solved exactly in chunks; a
/// `dense` memory has the closed form; one of `rows`, the closed form or one token after the
/// other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UpdatePlan {
    /// Row by row, by [`MemoryOps::write`].
    Rows,
    /// A whole update at once, by [`DenseOps::update`](crate::DenseOps::update).
    Dense,
    /// A whole update at once, by one coefficient for each token, in tensor operations.
    ClosedForm,
    /// One step from the sum of the update's gradients, in tensor operations.
    SummedGradient,
    /// The equations as they are written, in tensor operations.
    TokenByToken,
}

impl UpdatePlan {
    /// The name in logs and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Dense => "dense",
            Self::ClosedForm => "closed-form",
            Self::SummedGradient => "summed-gradient",
            Self::TokenByToken => "token-by-token",
        }
    }
}

impl fmt::Display for UpdatePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The plan of a memory, with what those who carry it out must know.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What makes the updates of a write.
    pub(crate) engine: Engine,
    /// How an update is made in tensor operations: in a pass, by the engine `Tensors`, and where
    /// the engine `Dense` does not take the tensors of a call.
    pub(crate) form: TensorForm,
    /// The memory is linear in its weights and so is its whole recurrence: a pass may solve the
    /// delta rule exactly, in chunks.
    pub(crate) solves_delta_rule: bool,
    /// No retention gate stands between what is accumulated and the weights.
    pub(crate) weights_are_accumulators: bool,
}

/// What makes the updates of a write.
#[derive(Clone, Debug)]
pub(crate) enum Engine {
    /// [`MemoryOps::write`].
    Rows(WriteRule),
    /// [`DenseOps`](crate::DenseOps).
    Dense(DenseRule),
    /// Tensor operations.
    Tensors,
}

/// How an update is made in tensor operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TensorForm {
    /// One coefficient matrix: no gradient of the size of the parameters is built.
    ClosedForm,
    /// One gradient of the whole update, one step.
    SummedGradient,
    /// One gradient and one step for each token.
    TokenByToken,
}

impl Plan {
    pub(crate) fn new(config: &MemoryConfig, ops: &dyn MemoryOps, device: &Device) -> Self {
        let dense = || dense_rule(config).filter(|_| ops.dense(device).is_some());
        let engine = match row_rule(config) {
            Some(rule) => Engine::Rows(rule),
            None => dense().map_or(Engine::Tensors, Engine::Dense),
        };
        Self {
            engine,
            form: match config.update.gate_span {
                GateSpan::PerUpdate => TensorForm::SummedGradient,
                GateSpan::PerToken if has_closed_form(config) => TensorForm::ClosedForm,
                GateSpan::PerToken => TensorForm::TokenByToken,
            },
            solves_delta_rule: is_linear_delta(config),
            weights_are_accumulators: config.miras.retention_gate.is_identity(),
        }
    }

    /// The part of it that users are told.
    pub(crate) fn summary(&self) -> UpdatePlan {
        match (&self.engine, self.form) {
            (Engine::Rows(_), _) => UpdatePlan::Rows,
            (Engine::Dense(_), _) => UpdatePlan::Dense,
            (Engine::Tensors, TensorForm::ClosedForm) => UpdatePlan::ClosedForm,
            (Engine::Tensors, TensorForm::SummedGradient) => UpdatePlan::SummedGradient,
            (Engine::Tensors, TensorForm::TokenByToken) => UpdatePlan::TokenByToken,
        }
    }
}

/// What [`MemoryOps`] need to know of a matrix over sparse features or keys that is written token
/// by token under constant gates, if this is one.
fn row_rule(config: &MemoryConfig) -> Option<WriteRule> {
    let miras = &config.miras;
    let keeps_rows = match miras.retention_gate {
        RetentionGate::None(_) => true,
        RetentionGate::SurpriseSigmoid(_) => config.update.forget_scope == ForgetScope::Written,
        _ => false,
    };
    let AttentionalBias::L2(bias) = miras.attentional_bias else {
        return None;
    };
    let is_row_memory = is_linear(config)
        && keeps_rows
        && is_plain_descent(config)
        && config.update.sparse_gate == SparseGate::None
        && config.update.max_gradient_norm.is_none();
    // Sparse features have unit energy already.
    let has_unit_energy = matches!(miras.architecture, MemoryArchitecture::SparseChannelMlp(_));
    is_row_memory.then(|| WriteRule {
        step_size: miras.learning_algorithm.step_size() * bias.slope(config.value_dim) as f32,
        normalise: miras.learning_algorithm.is_normalised() && !has_unit_energy,
        surprise_threshold: config.update.surprise_threshold,
        retention_gate: miras.retention_gate,
    })
}

/// What [`DenseOps`](crate::DenseOps) need to know, if this is a memory that they update.
fn dense_rule(config: &MemoryConfig) -> Option<DenseRule> {
    let miras = &config.miras;
    let MemoryArchitecture::Mlp(mlp) = miras.architecture else {
        return None;
    };
    let AttentionalBias::L2(bias) = miras.attentional_bias else {
        return None;
    };
    let decays_to_zero = match miras.retention_gate {
        RetentionGate::None(_) => true,
        RetentionGate::L2(gate) => gate.target == RetentionTarget::Zero,
        _ => false,
    };
    let is_dense = has_closed_form(config)
        && decays_to_zero
        && mlp.wrap == Wrap::Plain
        && !miras.learning_algorithm.is_normalised()
        && config.update.gradient_base == GradientBase::UpdateStart;
    is_dense.then(|| DenseRule {
        mlp,
        key_dim: config.key_dim,
        value_dim: config.value_dim,
        slope: bias.slope(config.value_dim) as f32,
        surprise_threshold: config.update.surprise_threshold,
    })
}

/// The update can be made by one coefficient matrix, without a parameter-shaped gradient per
/// token.
fn has_closed_form(config: &MemoryConfig) -> bool {
    config.miras.learning_algorithm.is_linear()
        && config.miras.retention_gate.is_affine()
        && config.update.sparse_gate == SparseGate::None
        && config.update.max_gradient_norm.is_none()
        && config.update.forget_scope == ForgetScope::Dense
        && config.update.gate_span == GateSpan::PerToken
}

/// The memory is linear in its weights and so is its whole recurrence: the delta rule.
fn is_linear_delta(config: &MemoryConfig) -> bool {
    let decays_linearly = match config.miras.retention_gate {
        RetentionGate::None(_) => true,
        RetentionGate::L2(gate) => {
            gate.target == RetentionTarget::Zero && config.update.forget_scope == ForgetScope::Dense
        }
        _ => false,
    };
    is_linear(config)
        && decays_linearly
        && is_plain_descent(config)
        && config.update.surprise_threshold == 0.0
        && config.update.sparse_gate == SparseGate::None
        && config.update.max_gradient_norm.is_none()
}

/// The prediction is linear in what is learned.
fn is_linear(config: &MemoryConfig) -> bool {
    match config.miras.architecture {
        MemoryArchitecture::SparseChannelMlp(_) => true,
        MemoryArchitecture::Matrix(matrix) => matrix.wrap == Wrap::Plain,
        _ => false,
    }
}

/// Gradient descent on l2, token by token, at the weights as they are.
fn is_plain_descent(config: &MemoryConfig) -> bool {
    matches!(config.miras.attentional_bias, AttentionalBias::L2(_))
        && matches!(
            config.miras.learning_algorithm,
            LearningAlgorithm::GradientDescent(_) | LearningAlgorithm::NormalisedStep(_)
        )
        && config.update.update_size == 1
        && config.update.gradient_base == GradientBase::UpdateStart
        && config.update.gate_span == GateSpan::PerToken
        && config.update.reduction == Reduction::Sum
}
