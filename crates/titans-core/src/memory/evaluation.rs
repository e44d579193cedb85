//! What the tokens of an update predict, and their gradients, at the weights of its base.
//!
//! A library may round a product otherwise for another number of rows. So on the CPU every token
//! is evaluated in a block of rows whose place and number depend on its place in the update
//! alone: a token that waits for the rest of its update costs one block, and has the bits that it
//! has when the update is complete.

use burn::tensor::{Device, Tensor};

use super::learned::Learned;
use super::rules::Rules;
use super::tokens::GatedTokens;
use crate::miras::{OuterGradient, StaticMaps};
use crate::ops::{energy, relative_errors};

/// Tokens of a block: many enough for products that are as fast as larger ones.
const BLOCK: usize = 256;

/// What the tokens of an update say at its base.
pub(super) struct Evaluated {
    /// `[memories, tokens, value_dim]`.
    pub(super) prediction: Tensor<3>,
    /// The gradient of each token, one for each tensor of the architecture.
    pub(super) outers: Vec<OuterGradient>,
    /// Energy of the input of the last linear map, `[memories, tokens]`, where steps are divided
    /// by it.
    pub(super) feature_energy: Option<Tensor<2>>,
    /// `||M(k) - v|| / ||v||`, `[memories, tokens]`.
    pub(super) relative_error: Tensor<2>,
}

/// Evaluates the tokens of an update from its first one on, whose keys are features by now, at
/// `weights`.
pub(super) fn evaluate(rules: &Rules, weights: &[Tensor<3>], tokens: &GatedTokens) -> Evaluated {
    let count = tokens.len();
    let block = block_on(&tokens.keys.device()).min(count);
    if block == count {
        return evaluate_block(rules, weights, tokens);
    }
    let starts = (0..count).step_by(block);
    let blocks = starts.map(|start| {
        let tokens = tokens.range(start, count.min(start + block));
        evaluate_block(rules, weights, &tokens)
    });
    joined(&blocks.collect::<Vec<_>>())
}

fn evaluate_block(rules: &Rules, weights: &[Tensor<3>], tokens: &GatedTokens) -> Evaluated {
    let miras = &rules.config.miras;
    let (values, thresholds) = (&tokens.values, rules.error_thresholds(tokens));
    let at_prediction = |prediction: &Tensor<3>| {
        let (prediction, values) = (prediction.clone(), values.clone());
        (miras.attentional_bias).gradient(prediction, values, thresholds.clone())
    };
    let keys = tokens.keys.clone();
    let gradients = miras.architecture.gradients(weights, keys, &at_prediction);
    let is_normalised = miras.learning_algorithm.is_normalised();
    Evaluated {
        relative_error: relative_errors(gradients.prediction.clone(), values.clone()),
        feature_energy: is_normalised.then(|| energy(gradients.features)),
        prediction: gradients.prediction,
        outers: gradients.outers,
    }
}

fn joined(blocks: &[Evaluated]) -> Evaluated {
    let rows = |of: &dyn Fn(&Evaluated) -> &Tensor<3>| -> Tensor<3> {
        Tensor::cat(blocks.iter().map(|block| of(block).clone()).collect(), 1)
    };
    let outers = (0..blocks[0].outers.len()).map(|tensor| OuterGradient {
        inputs: rows(&|block| &block.outers[tensor].inputs),
        deltas: rows(&|block| &block.outers[tensor].deltas),
    });
    let energies = blocks.iter().map(|block| block.feature_energy.clone());
    let errors = blocks.iter().map(|block| block.relative_error.clone());
    Evaluated {
        prediction: rows(&|block| &block.prediction),
        outers: outers.collect(),
        feature_energy: (energies.collect::<Option<Vec<_>>>()).map(|all| Tensor::cat(all, 1)),
        relative_error: Tensor::cat(errors.collect(), 1),
    }
}

/// Relative errors of the newest tokens that wait for the rest of their update, as it will tell
/// them, `[memories, newest]`; only blocks with new tokens are evaluated. Keys are lifted to
/// features by `lift`.
pub(super) fn relative_errors_in_update(
    rules: &Rules,
    learned: &Learned,
    pending: &GatedTokens,
    newest: usize,
    lift: &dyn Fn(Tensor<3>) -> Tensor<3>,
) -> Tensor<2> {
    let (config, weights) = (&rules.config, rules.base_weights(learned));
    let update_size = config.update.update_size;
    let block = block_on(&pending.keys.device()).min(update_size);
    let (count, first) = (pending.len(), pending.len() - newest);
    let starts = (first / block * block..count).step_by(block);
    let errors = starts.map(|start| {
        let end = count.min(start + block);
        let rows = block.min(update_size - start);
        let tokens = pending.range(start, end).pad_to(rows, config);
        let architecture = &config.miras.architecture;
        let prediction = architecture.predict(&StaticMaps(&weights), lift(tokens.keys));
        let asked = start.max(first);
        relative_errors(prediction, tokens.values).narrow(1, asked - start, end - asked)
    });
    Tensor::cat(errors.collect(), 1)
}

/// `lift` of rows, block after block: keys of an update from its first token on.
pub(super) fn in_blocks(rows: Tensor<3>, lift: impl Fn(Tensor<3>) -> Tensor<3>) -> Tensor<3> {
    let [_, count, _] = rows.dims();
    let block = block_on(&rows.device());
    if count <= block {
        return lift(rows);
    }
    let starts = (0..count).step_by(block);
    let blocks = starts.map(|start| {
        let rows = rows.clone().narrow(1, start, block.min(count - start));
        lift(rows)
    });
    Tensor::cat(blocks.collect(), 1)
}

/// How many tokens are evaluated together. Other devices than the CPU are quicker with one
/// product for the whole update, of which some tokens are not felt.
fn block_on(device: &Device) -> usize {
    match device.clone().inner() == Device::flex() {
        true => BLOCK,
        false => usize::MAX,
    }
}
