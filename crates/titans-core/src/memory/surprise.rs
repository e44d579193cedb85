//! What some tokens say at the gradient base: errors, gradients, and who is written.

use burn::tensor::{Bool, Tensor};

use super::evaluation::{Evaluated, evaluate};
use super::learned::Learned;
use super::rules::Rules;
use super::tokens::GatedTokens;
use super::update::GateSpan;
use crate::miras::OuterGradient;
use crate::ops::{energy, root};

/// The surprise of some tokens, all at the same weights.
pub(crate) struct Surprise {
    /// Gradient of each token with respect to each tensor.
    pub(crate) outers: Vec<OuterGradient>,
    prediction: Tensor<3>,
    values: Tensor<3>,
    thresholds: Option<Tensor<3>>,
    /// `||M(k) - v|| / ||v||`, `[memories, tokens]`.
    pub(crate) relative_error: Tensor<2>,
    /// Weight of each token's gradient after the gates, `[memories, tokens]`.
    pub(crate) steps: Tensor<2>,
    /// Tokens that the gates let through, `[memories, tokens]`.
    pub(crate) written: Tensor<2, Bool>,
    /// Retention at each token where gates act per token.
    pub(crate) retention: Tensor<2>,
    /// Smoothed surprise after the last token.
    pub(crate) smoothed_surprise: Tensor<2>,
}

/// Evaluates `tokens`, whose keys are features by now, at the gradient base.
pub(crate) fn surprise(rules: &Rules, learned: &Learned, tokens: &GatedTokens) -> Surprise {
    let [_, count, _] = tokens.keys.dims();
    let base = rules.base_weights(learned);
    let Evaluated {
        prediction,
        outers,
        feature_energy,
        relative_error,
    } = evaluate(rules, &base, tokens);
    let mut written = written_tokens(rules, &relative_error);
    let mut steps = rules.step_sizes(tokens);
    if let Some(energy) = feature_energy {
        let silent = energy.clone().equal_elem(0.0);
        steps = steps / energy.mask_fill(silent.clone(), 1.0);
        written = written.bool_and(silent.bool_not());
    }
    let steps = steps.mask_fill(written.clone().bool_not(), 0.0);

    let (retention, smoothed_surprise) = match rules.sigmoid(tokens) {
        Some(gate) if rules.update().gate_span == GateSpan::PerToken => {
            // `smoothed_t = smoothing * smoothed_(t-1) + (1 - smoothing) * surprise_t`.
            let smoothing = relative_error.zeros_like() + gate.smoothing;
            let smoothed = rules.ops.affine_scan(
                &learned.smoothed_surprise,
                &smoothing,
                &(relative_error.clone() * (1.0 - gate.smoothing)),
            );
            let last = smoothed.clone().narrow(1, count - 1, 1);
            (gate.retention(smoothed), last)
        }
        _ => (rules.retentions(tokens), learned.smoothed_surprise.clone()),
    };
    Surprise {
        outers,
        prediction,
        values: tokens.values.clone(),
        thresholds: rules.error_thresholds(tokens),
        relative_error,
        steps,
        written,
        retention,
        smoothed_surprise,
    }
}

impl Surprise {
    /// Loss of each token, unreduced and without steps, `[memories, tokens]`.
    pub(crate) fn loss(&self, rules: &Rules) -> Tensor<2> {
        let [memories, count, _] = self.values.dims();
        let bias = &rules.config.miras.attentional_bias;
        let (prediction, values) = (self.prediction.clone(), self.values.clone());
        let loss = bias.loss(prediction, values, self.thresholds.clone());
        loss.reshape([memories, count])
    }

    /// Norm of each token's gradient over all tensors, `[memories, tokens]`.
    pub(crate) fn gradient_norm(&self) -> Tensor<2> {
        norm_of_outers(&self.outers)
    }
}

/// The norm of an outer product is the product of the norms, so no gradient is built.
fn norm_of_outers(outers: &[OuterGradient]) -> Tensor<2> {
    let energies = outers
        .iter()
        .map(|outer| energy(outer.inputs.clone()) * energy(outer.deltas.clone()));
    root(
        energies
            .reduce(|sum, energy| sum + energy)
            .expect("an architecture has at least one tensor"),
    )
}

/// Tokens whose relative error is over the threshold; all where that is zero.
pub(crate) fn written_tokens(rules: &Rules, relative_error: &Tensor<2>) -> Tensor<2, Bool> {
    let threshold = rules.update().surprise_threshold;
    if threshold == 0.0 {
        return relative_error.clone().greater_equal_elem(0.0);
    }
    relative_error.clone().greater_elem(threshold)
}
