//! One step of the learning algorithm, given the gradient of the update.

use burn::tensor::Tensor;

use super::learned::Learned;
use super::rules::Rules;
use super::sparse_gate::keep_largest;
use super::tokens::GatedTokens;
use super::update::ForgetScope;
use crate::miras::{RetentionStep, SurpriseSigmoid};
use crate::ops::root;

/// What one step takes beside the gradient.
pub(crate) struct StepGates {
    /// Decay of each momentum buffer, `[memories, 1]` each.
    pub(crate) momentum_decays: Vec<Tensor<2>>,
    /// What is kept of the weights.
    pub(crate) retention: StepRetention,
    /// Tokens before this update: the seed of the column sample.
    pub(crate) tokens_before: u64,
}

/// Where a step's retention comes from.
#[expect(
    clippy::large_enum_variant,
    reason = "made once per update and moved once"
)]
pub(crate) enum StepRetention {
    /// `[memories, 1]`.
    Given(Tensor<2>),
    /// From the norm of this step's gradient, divided by the constant step.
    FromGradient {
        gate: SurpriseSigmoid,
        constant_step: f32,
    },
}

/// The gates of an update whose gates act once: those of its last token.
pub(super) fn gates_of_last_token(
    rules: &Rules,
    tokens: &GatedTokens,
    tokens_before: u64,
) -> StepGates {
    let last = |values: Tensor<2>| values.narrow(1, tokens.len() - 1, 1);
    StepGates {
        momentum_decays: rules
            .momentum_decays(tokens)
            .into_iter()
            .map(last)
            .collect(),
        retention: match rules.sigmoid(tokens) {
            Some(gate) => StepRetention::FromGradient {
                gate,
                constant_step: rules.constant_step(tokens),
            },
            None => StepRetention::Given(last(rules.retentions(tokens))),
        },
        tokens_before,
    }
}

/// The memory after one step, and the norm of the step's gradient, `[memories, 1]`.
///
/// ```text
/// G = soft bound(gradient);                  sparse gate keeps its largest coordinates
/// S = momentum_decay * S - G                 and so on for the second order
/// accumulator = retention gate(accumulator, update(S))
/// ```
///
/// # Shapes
/// - `gradient`: one `[memories, rows, columns]` per tensor, steps included
pub(crate) fn advance(
    rules: &Rules,
    learned: Learned,
    gradient: Vec<Tensor<3>>,
    gates: StepGates,
) -> (Learned, Tensor<2>) {
    let miras = &rules.config.miras;
    let dtype = learned.accumulators[0].dtype();
    let working = gradient[0].dtype();
    let gradient = bounded(rules, gradient);
    let norm = norm_of_all(&gradient).cast(dtype);
    let (retention, smoothed_surprise) = match gates.retention {
        StepRetention::Given(retention) => (retention, learned.smoothed_surprise),
        StepRetention::FromGradient {
            gate,
            constant_step,
        } => {
            let surprise = norm.clone() / constant_step.max(f32::MIN_POSITIVE);
            let smoothed =
                learned.smoothed_surprise * gate.smoothing + surprise * (1.0 - gate.smoothing);
            (gate.retention(smoothed.clone()), smoothed)
        }
    };
    let gradient = keep_largest(
        rules.ops.as_ref(),
        rules.update().sparse_gate,
        gradient,
        rules.config.seed,
        gates.tokens_before,
    );

    let mut moved: Vec<Tensor<3>> = gradient.into_iter().map(Tensor::neg).collect();
    let mut momenta = Vec::with_capacity(learned.momenta.len());
    for (buffers, decay) in learned.momenta.into_iter().zip(gates.momentum_decays) {
        let decay = decay.unsqueeze_dim::<3>(2).cast(working);
        moved = buffers
            .into_iter()
            .zip(moved)
            .map(|(buffer, moved)| buffer.cast(working) * decay.clone() + moved)
            .collect();
        momenta.push(
            moved
                .iter()
                .map(|buffer| buffer.clone().cast(dtype))
                .collect(),
        );
    }

    let initial = learned.initial;
    let gate = miras.retention_gate;
    let is_plain = gate.is_affine() && !gate.decays_to_initial();
    let accumulators = learned
        .accumulators
        .into_iter()
        .zip(moved)
        .enumerate()
        .map(|(tensor, (accumulator, moved))| {
            let update = if rules.tensors[tensor].is_matrix() {
                miras.learning_algorithm.update(moved)
            } else {
                moved
            }
            .cast(dtype);
            if rules.update().forget_scope == ForgetScope::Written && is_plain {
                return rules.ops.apply_written(accumulator, update, &retention);
            }
            let untouched = update.clone().equal_elem(0.0);
            let after = gate.advance(RetentionStep {
                accumulator: accumulator.clone(),
                update,
                retention: retention.clone().unsqueeze_dim::<3>(2),
                initial: initial.as_ref().map(|initial| initial[tensor].clone()),
            });
            match rules.update().forget_scope {
                ForgetScope::Dense => after,
                ForgetScope::Written => after.mask_where(untouched, accumulator),
            }
        })
        .collect();
    let learned = Learned {
        accumulators,
        momenta,
        base: learned.base,
        initial,
        smoothed_surprise,
        pending: learned.pending,
    };
    (learned, norm)
}

/// The gradient with each tensor's norm softly bounded, if the configuration asks for it.
pub(crate) fn bounded(rules: &Rules, gradient: Vec<Tensor<3>>) -> Vec<Tensor<3>> {
    match rules.update().max_gradient_norm {
        Some(bound) => gradient
            .into_iter()
            .map(|tensor| soft_bound(tensor, bound))
            .collect(),
        None => gradient,
    }
}

/// Norm over all tensors of each memory, `[memories, 1]`.
pub(crate) fn norm_of_all(tensors: &[Tensor<3>]) -> Tensor<2> {
    let energies = tensors.iter().map(energy);
    root(
        energies
            .reduce(|sum, energy| sum + energy)
            .expect("an architecture has at least one tensor"),
    )
}

fn energy(tensor: &Tensor<3>) -> Tensor<2> {
    let [memories, _, _] = tensor.dims();
    (tensor.clone() * tensor.clone())
        .sum_dim(2)
        .sum_dim(1)
        .reshape([memories, 1])
}

/// `G <- G (tanh(2 n / bound) bound / 2 + bound / 2) / n` with `n = ||G||`; zero stays zero.
fn soft_bound(gradient: Tensor<3>, bound: f32) -> Tensor<3> {
    let bound = f64::from(bound);
    let norm = root(energy(&gradient));
    let zero = norm.clone().equal_elem(0.0);
    let norm = norm.mask_fill(zero, 1.0);
    let bounded = (norm.clone() * (2.0 / bound)).tanh() * (0.5 * bound) + 0.5 * bound;
    gradient * (bounded / norm).unsqueeze_dim::<3>(2)
}
