//! Token by token: the equations as they are written, and the twin of the chunk form.
//!
//! ```text
//! g_t = grad loss_t at the gradient base
//! S_t = momentum_decay_t S_(t-1) - step_t g_t
//! W_t = retention_t W_(t-1) + S_t
//! ```
//!
//! (Titans, arXiv:2501.00663, eq. 13-14, with the base of section 3.2.) With updates of
//! one token this is the exact recurrence. Every gradient is built in full, so this is
//! slow; it is also what runs where no closed form exists.

use burn::tensor::Tensor;

use super::advance::{StepGates, StepRetention, advance, gates_of_last_token, norm_of_all};
use super::learned::Learned;
use super::rules::Rules;
use super::surprise::{Surprise, surprise};
use super::tokens::GatedTokens;
use super::update::GateSpan;
use super::updated::Updated;
use crate::miras::StaticMaps;

/// As [`chunkwise::closed_form`](super::chunkwise::closed_form), for every memory.
pub(crate) fn update(
    rules: &Rules,
    learned: Learned,
    tokens: &GatedTokens,
    queries: Option<Tensor<3>>,
    tokens_before: u64,
) -> Updated {
    let surprise = surprise(rules, &learned, tokens);
    let decays = rules.momentum_decays(tokens);
    let mut learned = learned;
    let mut reads = Vec::new();
    let mut sum: Option<Vec<Tensor<3>>> = None;
    let mut update_norm = None;
    for token in 0..tokens.len() {
        let gradient = gradient_of(rules, &surprise, token);
        let so_far = match sum {
            Some(sum) => sum
                .into_iter()
                .zip(&gradient)
                .map(|(sum, gradient)| sum + gradient.clone())
                .collect(),
            None => gradient.clone(),
        };
        let is_last = token + 1 == tokens.len();
        let at = |values: &Tensor<2>| values.clone().narrow(1, token, 1);
        match rules.update().gate_span {
            GateSpan::PerToken => {
                let gates = StepGates {
                    momentum_decays: decays.iter().map(at).collect(),
                    retention: StepRetention::Given(at(&surprise.retention)),
                    tokens_before: tokens_before + token as u64,
                };
                learned = advance(rules, learned, gradient, gates).0;
            }
            GateSpan::PerUpdate if is_last => {
                let gates = gates_of_last_token(rules, tokens, tokens_before);
                let (after, norm) = advance(rules, learned, so_far.clone(), gates);
                learned = after;
                update_norm = Some(norm);
            }
            GateSpan::PerUpdate => {}
        }
        sum = Some(so_far);
        if let Some(queries) = &queries {
            let weights = rules.weights(&learned.accumulators);
            let query = queries.clone().narrow(1, token, 1);
            reads.push(
                rules
                    .config
                    .miras
                    .architecture
                    .predict(&StaticMaps(&weights), query),
            );
        }
    }
    if rules.update().gate_span == GateSpan::PerToken {
        learned.smoothed_surprise = surprise.smoothed_surprise.clone();
    }
    Updated {
        learned,
        update_norm: Some(update_norm.unwrap_or_else(|| {
            norm_of_all(&sum.expect("an update has at least one token"))
                .cast(surprise.relative_error.dtype())
        })),
        surprise,
        token_reads: queries.map(|_| Tensor::cat(reads, 1)),
    }
}

/// The gradient of one token with respect to every tensor, times its step.
fn gradient_of(rules: &Rules, surprise: &Surprise, token: usize) -> Vec<Tensor<3>> {
    let step = surprise.steps.clone().narrow(1, token, 1);
    surprise
        .outers
        .iter()
        .map(|outer| {
            let dtype = rules.working_dtype(&outer.inputs);
            let of_token = |rows: &Tensor<3>| rows.clone().narrow(1, token, 1).cast(dtype);
            let input = of_token(&outer.inputs).swap_dims(1, 2);
            let step = step.clone().cast(dtype).unsqueeze_dim::<3>(2);
            input.matmul(of_token(&outer.deltas)) * step
        })
        .collect()
}
