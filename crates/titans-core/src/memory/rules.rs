//! The configuration, as the updates ask for it.

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};

use super::config::MemoryConfig;
use super::learned::Learned;
use super::plan::Plan;
use super::tokens::{
    ERROR_THRESHOLD, GatedTokens, MOMENTUM_DECAY, RETENTION, SECOND_MOMENTUM_DECAY, STEP_SIZE,
};
use super::update::{GradientBase, Reduction, UpdateConfig};
use crate::miras::{RetentionGate, SurpriseSigmoid, TensorSpec};
use crate::ops::MemoryOps;

/// What the updates know of a memory.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) config: MemoryConfig,
    pub(crate) tensors: Vec<TensorSpec>,
    pub(crate) ops: Arc<dyn MemoryOps>,
    pub(crate) plan: Plan,
}

impl Rules {
    pub(crate) fn new(config: MemoryConfig, ops: Arc<dyn MemoryOps>, device: &Device) -> Self {
        Self {
            config,
            tensors: config.tensors(),
            plan: Plan::new(&config, ops.as_ref(), device),
            ops,
        }
    }

    pub(crate) fn update(&self) -> &UpdateConfig {
        &self.config.update
    }

    pub(crate) fn momentum_orders(&self) -> usize {
        self.config.miras.learning_algorithm.momentum_decays().len()
    }

    pub(crate) fn keeps_base(&self) -> bool {
        matches!(self.update().gradient_base, GradientBase::EveryTokens(_))
    }

    pub(crate) fn keeps_initial(&self) -> bool {
        self.update().gradient_base == GradientBase::Initial
            || self.config.miras.retention_gate.needs_initial()
    }

    /// A memory that begins with these accumulators, `[memories, rows, columns]` each.
    pub(crate) fn begin(&self, accumulators: Vec<Tensor<3>>) -> Learned {
        let [memories, _, _] = accumulators[0].dims();
        let options = (&accumulators[0].device(), accumulators[0].dtype());
        Learned {
            momenta: (0..self.momentum_orders())
                .map(|_| accumulators.iter().map(Tensor::zeros_like).collect())
                .collect(),
            base: self.keeps_base().then(|| accumulators.clone()),
            initial: self.keeps_initial().then(|| accumulators.clone()),
            smoothed_surprise: Tensor::zeros([memories, 1], options),
            pending: None,
            accumulators,
        }
    }

    /// The weights that accumulators stand for.
    pub(crate) fn weights(&self, accumulators: &[Tensor<3>]) -> Vec<Tensor<3>> {
        accumulators
            .iter()
            .map(|tensor| self.config.miras.retention_gate.weights(tensor.clone()))
            .collect()
    }

    /// The weights at which gradients are taken.
    pub(crate) fn base_weights(&self, learned: &Learned) -> Vec<Tensor<3>> {
        let accumulators = match self.update().gradient_base {
            GradientBase::UpdateStart => None,
            GradientBase::EveryTokens(_) => learned.base.as_ref(),
            GradientBase::Initial => learned.initial.as_ref(),
        };
        self.weights(accumulators.unwrap_or(&learned.accumulators))
    }

    /// The gate that computes retention from the surprise, unless the tokens bring theirs.
    pub(crate) fn sigmoid(&self, tokens: &GatedTokens) -> Option<SurpriseSigmoid> {
        match self.config.miras.retention_gate {
            RetentionGate::SurpriseSigmoid(gate) if tokens.gates[RETENTION].is_none() => Some(gate),
            _ => None,
        }
    }

    /// Step of each token, `[memories, tokens]`, before any gate.
    pub(crate) fn step_sizes(&self, tokens: &GatedTokens) -> Tensor<2> {
        let constant = self.config.miras.learning_algorithm.step_size();
        let steps = gate_or(tokens, STEP_SIZE, constant);
        match self.update().reduction {
            Reduction::Sum => steps,
            Reduction::Mean => steps / tokens.len() as f64,
        }
    }

    /// The factor of the gradient that is a constant step and not a weight of a token.
    pub(crate) fn constant_step(&self, tokens: &GatedTokens) -> f32 {
        if tokens.gates[STEP_SIZE].is_some() {
            return 1.0;
        }
        self.config.miras.learning_algorithm.step_size()
    }

    /// Decay of each momentum buffer, `[memories, tokens]` each.
    pub(crate) fn momentum_decays(&self, tokens: &GatedTokens) -> Vec<Tensor<2>> {
        let decays = self.config.miras.learning_algorithm.momentum_decays();
        [MOMENTUM_DECAY, SECOND_MOMENTUM_DECAY]
            .into_iter()
            .zip(decays)
            .map(|(gate, constant)| gate_or(tokens, gate, constant))
            .collect()
    }

    /// Retention of each token, `[memories, tokens]`, where the surprise does not set it.
    pub(crate) fn retentions(&self, tokens: &GatedTokens) -> Tensor<2> {
        let constant = self.config.miras.retention_gate.constant();
        gate_or(tokens, RETENTION, constant)
    }

    /// Huber threshold of each token, `[memories, tokens, 1]`, where a gate sets it.
    pub(crate) fn error_thresholds(&self, tokens: &GatedTokens) -> Option<Tensor<3>> {
        tokens.gates[ERROR_THRESHOLD]
            .clone()
            .map(|values| values.unsqueeze_dim(2))
    }

    /// The element type in which a gradient is summed and turned into an update: that of
    /// the memory, or f64 where the algorithm needs the digits and the device has them.
    pub(crate) fn working_dtype(&self, like: &Tensor<3>) -> DType {
        if self.config.miras.learning_algorithm.is_ill_conditioned()
            && like.device().supports_dtype(DType::F64)
        {
            return DType::F64;
        }
        like.dtype()
    }
}

fn gate_or(tokens: &GatedTokens, gate: usize, constant: f32) -> Tensor<2> {
    let [memories, count, _] = tokens.keys.dims();
    tokens.gates[gate].clone().unwrap_or_else(|| {
        Tensor::full(
            [memories, count],
            constant,
            (&tokens.keys.device(), tokens.keys.dtype()),
        )
    })
}
