//! A whole update at once, without a parameter-shaped gradient per token.
//!
//! Equal to [`recurrent`](super::recurrent), its token-by-token twin; why, and where the
//! papers approximate, is in `docs/chunkwise.md`.

use burn::tensor::Tensor;

use super::advance::{advance, gates_of_last_token, norm_of_all};
use super::learned::Learned;
use super::per_token::PerToken;
use super::rules::Rules;
use super::surprise::{Surprise, surprise};
use super::tokens::GatedTokens;
use super::updated::{Detail, Updated};
use crate::miras::{LinearMaps, OuterGradient};

/// Makes one update from `tokens`; with `queries`, also reads with the weights after each
/// token, which must be the accumulators themselves then.
///
/// # Shapes
/// - `queries`: `[memories, tokens, features]`, as many as tokens
pub(crate) fn closed_form(
    rules: &Rules,
    learned: Learned,
    tokens: &GatedTokens,
    queries: Option<Tensor<3>>,
    detail: Detail,
) -> Updated {
    let surprise = surprise(rules, &learned, tokens);
    let decays = rules.momentum_decays(tokens);
    let coefficients =
        (rules.ops).update_coefficients(&surprise.steps, &decays, &surprise.retention);
    let target = learned
        .initial
        .as_ref()
        .filter(|_| rules.config.miras.retention_gate.decays_to_initial());

    let token_reads = queries.map(|queries| {
        let maps = TokenMaps {
            learned: &learned,
            target,
            outers: &surprise.outers,
            coefficients: &PerToken::new(
                rules.ops.as_ref(),
                surprise.steps.clone(),
                &decays,
                &surprise.retention,
            ),
        };
        rules.config.miras.architecture.predict(&maps, queries)
    });

    let weights_kept = coefficients.weights_kept.unsqueeze_dim::<3>(2);
    let into_weights = coefficients.gradient_into_weights;
    let mut accumulators = Vec::with_capacity(learned.accumulators.len());
    let mut momenta: Vec<Vec<Tensor<3>>> = vec![Vec::new(); learned.momenta.len()];
    for (tensor, accumulator) in learned.accumulators.iter().enumerate() {
        let outer = &surprise.outers[tensor];
        let mut after = accumulator.clone() * weights_kept.clone();
        if let Some(target) = target {
            after = after + target[tensor].clone() * (weights_kept.clone() - 1.0).neg();
        }
        for (buffers, share) in learned
            .momenta
            .iter()
            .zip(&coefficients.momentum_into_weights)
        {
            after = after + buffers[tensor].clone() * share.clone().unsqueeze_dim::<3>(2);
        }
        accumulators.push(after - weighted_sum(outer, &into_weights));

        for (order, into) in coefficients.momentum_into_momentum.iter().enumerate() {
            let gradient = weighted_sum(outer, &coefficients.gradient_into_momentum[order]);
            let buffers = learned.momenta.iter().zip(into);
            let carried = buffers
                .map(|(buffers, share)| {
                    buffers[tensor].clone() * share.clone().unsqueeze_dim::<3>(2)
                })
                .reduce(|sum, buffer| sum + buffer)
                .expect("a buffer holds at least what it held");
            momenta[order].push(carried - gradient);
        }
    }
    let update_norm =
        (detail == Detail::All).then(|| norm_of_all(&sum_of_gradients(rules, &surprise)));
    Updated {
        learned: Learned {
            accumulators,
            momenta,
            smoothed_surprise: surprise.smoothed_surprise.clone(),
            ..learned
        },
        surprise,
        update_norm,
        token_reads,
    }
}

/// As [`closed_form`], for gates that act once: one gradient of the whole update, one step.
pub(crate) fn summed_gradient(
    rules: &Rules,
    learned: Learned,
    tokens: &GatedTokens,
    queries: Option<Tensor<3>>,
    tokens_before: u64,
) -> Updated {
    let surprise = surprise(rules, &learned, tokens);
    let gradient = sum_of_gradients(rules, &surprise);
    let gates = gates_of_last_token(rules, tokens, tokens_before);
    let before = queries.is_some().then(|| learned.accumulators.clone());
    let (learned, update_norm) = advance(rules, learned, gradient, gates);
    let token_reads = queries.zip(before).map(|(queries, before)| {
        // Nothing moves before the last token.
        let architecture = &rules.config.miras.architecture;
        let read = |accumulators: &[Tensor<3>]| {
            let weights = rules.weights(accumulators);
            architecture.predict(&crate::miras::StaticMaps(&weights), queries.clone())
        };
        let last = tokens.len() - 1;
        first_then_last(
            read(&before),
            read(&learned.accumulators).narrow(1, last, 1),
        )
    });
    Updated {
        learned,
        surprise,
        update_norm: Some(update_norm),
        token_reads,
    }
}

/// All but the last row of `rows`, then `last`.
pub(super) fn first_then_last(rows: Tensor<3>, last: Tensor<3>) -> Tensor<3> {
    let [_, count, _] = rows.dims();
    if count == 1 {
        return last;
    }
    Tensor::cat(vec![rows.narrow(1, 0, count - 1), last], 1)
}

/// The gradient of the update: one matrix product per tensor.
pub(super) fn sum_of_gradients(rules: &Rules, surprise: &Surprise) -> Vec<Tensor<3>> {
    surprise
        .outers
        .iter()
        .map(|outer| {
            let dtype = rules.working_dtype(&outer.inputs);
            let outer = OuterGradient {
                inputs: outer.inputs.clone().cast(dtype),
                deltas: outer.deltas.clone().cast(dtype),
            };
            weighted_sum(&outer, &surprise.steps.clone().cast(dtype))
        })
        .collect()
}

/// `sum_i weight_i inputs_i^T deltas_i`.
fn weighted_sum(outer: &OuterGradient, weights: &Tensor<2>) -> Tensor<3> {
    let deltas = outer.deltas.clone() * weights.clone().unsqueeze_dim::<3>(2);
    outer.inputs.clone().swap_dims(1, 2).matmul(deltas)
}

/// The weights after each token of an update, applied without building them: the dual
/// form.
struct TokenMaps<'a> {
    learned: &'a Learned,
    target: Option<&'a Vec<Tensor<3>>>,
    outers: &'a [OuterGradient],
    coefficients: &'a PerToken,
}

impl LinearMaps for TokenMaps<'_> {
    fn apply(&self, tensor: usize, input: Tensor<3>) -> Tensor<3> {
        let of_each = |share: &Tensor<2>| share.clone().unsqueeze_dim::<3>(2);
        let kept = of_each(&self.coefficients.weights_kept);
        let accumulator = self.learned.accumulators[tensor].clone();
        let mut output = input.clone().matmul(accumulator) * kept.clone();
        if let Some(target) = self.target {
            output = output + input.clone().matmul(target[tensor].clone()) * (kept - 1.0).neg();
        }
        let shares = &self.coefficients.momentum_into_weights;
        for (buffers, share) in self.learned.momenta.iter().zip(shares) {
            output = output + input.clone().matmul(buffers[tensor].clone()) * of_each(share);
        }
        let outer = &self.outers[tensor];
        let overlap = input.matmul(outer.inputs.clone().swap_dims(1, 2));
        let shares = self.coefficients.gradient_into_weights.clone();
        output - (overlap * shares).matmul(outer.deltas.clone())
    }
}
