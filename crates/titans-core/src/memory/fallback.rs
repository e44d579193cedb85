//! What computes in one call: what the plan says, or its twin in tensor operations where the plan
//! does not suit the tensors of the call, or does not answer what is asked.

use burn::tensor::Tensor;

use super::neural_memory::NeuralMemory;
use super::passed::{Form, ReadTime};
use super::plan::{Engine, Plan, TensorForm};
use super::state::MemoryState;
use super::tokens::GatedTokens;
use super::updated::Detail;
use crate::ops::{DenseOps, DenseRule};

/// Operations for dense memories, and what they are told of this one.
#[derive(Clone, Copy)]
pub(super) struct Dense<'a> {
    pub(super) ops: &'a dyn DenseOps,
    pub(super) rule: &'a DenseRule,
}

/// What makes the updates of one pass.
#[derive(Clone, Copy)]
pub(super) enum Updates<'a> {
    /// Operations for dense memories.
    Dense(Dense<'a>),
    /// The exact delta rule, in chunks.
    DeltaRule,
    /// Tensor operations.
    Tensors(TensorForm),
}

impl<'a> Updates<'a> {
    /// The plan of the memory, as far as it answers what this call asks; the twins answer the
    /// rest. `dense` is there if the operations take the tensors of the call.
    pub(super) fn of(
        plan: &Plan,
        dense: Option<Dense<'a>>,
        form: Form,
        when: Option<ReadTime>,
        detail: Detail,
    ) -> Self {
        if form == Form::Recurrent {
            return Self::Tensors(TensorForm::TokenByToken);
        }
        match (dense, detail) {
            // These operations tell no losses and norms, and record no gradients.
            (Some(dense), Detail::Surprise) => Self::Dense(dense),
            // Chunks begin where a call begins, and with them their bits: none for a write. Reads
            // with the weights at the start of an update would cut them.
            (None, Detail::All)
                if plan.solves_delta_rule && when != Some(ReadTime::UpdateStart) =>
            {
                Self::DeltaRule
            }
            // Without a linear map from accumulator to weights there is no dual form.
            _ if when == Some(ReadTime::Token)
                && plan.form == TensorForm::ClosedForm
                && !plan.weights_are_accumulators =>
            {
                Self::Tensors(TensorForm::TokenByToken)
            }
            _ => Self::Tensors(plan.form),
        }
    }
}

impl NeuralMemory {
    /// The operations for dense memories, where the plan has them and they take the tensors of
    /// this call; where they do not, tensor operations compute instead.
    ///
    /// They take no graph of gradients, no other device than that of the memory, and only some
    /// types of numbers.
    pub(super) fn dense_ops(
        &self,
        states: &[MemoryState],
        tokens: &[&GatedTokens],
        queries: Option<&Tensor<3>>,
    ) -> Option<Dense<'_>> {
        let Engine::Dense(rule) = &self.rules.plan.engine else {
            return None;
        };
        let ops = self.rules.ops.dense(&self.device)?;
        let is_plain = |tensor: &Tensor<3>| {
            !tensor.is_autodiff() && tensor.device() == self.device && ops.takes(tensor.dtype())
        };
        let are_plain = |tokens: &&GatedTokens| {
            let dtype = tokens.keys.dtype();
            let mut gates = tokens.gates.iter().flatten();
            is_plain(&tokens.keys)
                && is_plain(&tokens.values)
                && gates.all(|gate| !gate.is_autodiff() && gate.dtype() == dtype)
        };
        let learned = |state: &MemoryState| {
            let learned = &state.learned;
            let momenta = learned.momenta.iter().flatten();
            learned.accumulators.iter().chain(momenta).all(is_plain)
        };
        let takes_all = tokens.iter().all(are_plain)
            && queries.is_none_or(is_plain)
            && states.iter().all(learned);
        takes_all.then_some(Dense { ops, rule })
    }
}
