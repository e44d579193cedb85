//! Writing and reading a stream of tokens, update by update.

use burn::tensor::Tensor;

use super::chunkwise::{self, first_then_last};
use super::delta_rule::{DecayOrder, DeltaChunk, delta_chunk};
use super::fallback::{Dense, Updates};
use super::learned::Learned;
use super::passed::{Parts, ReadTime, Tail, as_numbers};
use super::plan::TensorForm;
use super::recurrent;
use super::rules::Rules;
use super::surprise::written_tokens;
use super::tokens::GatedTokens;
use super::update::GradientBase;
use super::updated::{Detail, Updated};
use crate::miras::{AttentionalBias, StaticMaps};
use crate::ops::{DenseLearned, DenseTokens, relative_errors, root};

/// Tokens that the exact form of the delta rule solves for at once: long enough for
/// matrix products, short enough for the square of it to be cheap.
const DELTA_CHUNK: usize = 64;

/// One pass; keys and queries are lifted to features by `lift`.
pub(super) struct Pass<'a> {
    pub(super) rules: &'a Rules,
    pub(super) lift: &'a dyn Fn(Tensor<3>) -> Tensor<3>,
    pub(super) updates: Updates<'a>,
    pub(super) when: Option<ReadTime>,
    /// What is told of each update. Without [`Detail::All`] the losses and norms of what it
    /// gives are empty.
    pub(super) detail: Detail,
    /// What reads a dense memory faster than tensor operations do.
    pub(super) dense: Option<Dense<'a>>,
}

impl Pass<'_> {
    /// Runs `tokens` through the memory. `tokens_before` are those already in its weights.
    pub(super) fn run(
        &self,
        learned: Learned,
        tokens: GatedTokens,
        queries: Option<&Tensor<3>>,
        tail: Tail,
        tokens_before: u64,
    ) -> (Learned, Parts) {
        let mut learned = learned;
        let begun = learned.pending_tokens();
        let tokens = match learned.pending.take() {
            Some(pending) => pending.then(tokens, &self.rules.config),
            None => tokens,
        };
        // Queries stand beside the new tokens only.
        let queries = queries.map(|queries| pad_front(queries.clone(), begun));

        let mut parts = Parts::default();
        let mut tokens_before = tokens_before;
        let mut start = 0;
        while start < tokens.len() {
            let end = tokens.len().min(start + self.stride());
            let part = tokens.range(start, end);
            let beside = |skip: usize| {
                queries
                    .as_ref()
                    .map(|queries| (queries.clone().narrow(1, start, end - start), skip))
            };
            let skip = begun.saturating_sub(start);
            let is_complete = part.len() == self.rules.update().update_size || tail == Tail::Apply;
            learned = match self.updates {
                Updates::DeltaRule => self.solve(learned, &part, beside(skip), &mut parts),
                Updates::Dense(dense) if is_complete => {
                    self.update_dense(dense, learned, &part, &mut parts)
                }
                Updates::Tensors(form) if is_complete => {
                    let queries = beside(skip);
                    self.update(form, learned, &part, queries, tokens_before, &mut parts)
                }
                Updates::Dense(_) | Updates::Tensors(_) => {
                    if let Updates::Tensors(form) = self.updates
                        && let Some((queries, skip)) = beside(skip)
                    {
                        let reads =
                            self.read_unfinished(form, &learned, &part, queries, tokens_before);
                        parts.push_reads(reads, skip);
                    }
                    learned.pending = Some(part);
                    break;
                }
            };
            tokens_before += (end - start) as u64;
            start = end;
        }
        (learned, parts)
    }

    fn stride(&self) -> usize {
        match self.updates {
            Updates::DeltaRule => DELTA_CHUNK,
            Updates::Dense(_) | Updates::Tensors(_) => self.rules.update().update_size,
        }
    }

    /// One update, with the reads beside its tokens.
    fn update(
        &self,
        form: TensorForm,
        learned: Learned,
        tokens: &GatedTokens,
        queries: Option<(Tensor<3>, usize)>,
        tokens_before: u64,
        parts: &mut Parts,
    ) -> Learned {
        let features = self.lifted(tokens);
        let queries = queries.map(|(queries, skip)| (self.padded_queries(queries), skip));
        let before = learned.clone();
        let updated = self.make(
            form,
            learned,
            &features,
            queries
                .as_ref()
                .filter(|_| self.when == Some(ReadTime::Token))
                .map(|(queries, _)| queries.clone().narrow(1, 0, tokens.len())),
            tokens_before,
        );
        if let Some((queries, skip)) = queries {
            let reads = match self.when {
                Some(ReadTime::Token) => updated
                    .token_reads
                    .clone()
                    .expect("queries were given with the tokens"),
                Some(ReadTime::UpdateEnd) => self.read(&updated.learned, queries),
                Some(ReadTime::FullUpdates) if tokens.len() == self.rules.update().update_size => {
                    let last = tokens.len() - 1;
                    let end = self.read(&updated.learned, queries.clone());
                    let start = self.read(&before, queries);
                    first_then_last(start, end.narrow(1, last, 1))
                }
                _ => self.read(&before, queries),
            };
            parts.push_reads(reads.narrow(1, 0, tokens.len()), skip);
        }
        parts.push(&updated, self.rules, self.detail);
        self.refresh_base(updated.learned, tokens_before + tokens.len() as u64)
    }

    /// One update by the operations for dense memories. Nothing else holds the tensors meanwhile
    /// that `learned` holds alone, so that they may change in place.
    fn update_dense(
        &self,
        dense: Dense<'_>,
        learned: Learned,
        tokens: &GatedTokens,
        parts: &mut Parts,
    ) -> Learned {
        let rules = self.rules;
        let updated = dense.ops.update(
            dense.rule,
            DenseLearned {
                weights: learned.accumulators,
                momenta: learned.momenta,
            },
            DenseTokens {
                keys: tokens.keys.clone(),
                values: tokens.values.clone(),
                steps: rules.step_sizes(tokens),
                momentum_decays: rules.momentum_decays(tokens),
                retention: rules.retentions(tokens),
            },
        );
        let written = written_tokens(rules, &updated.relative_error);
        parts
            .written
            .push(as_numbers(written, &updated.relative_error));
        parts.relative_error.push(updated.relative_error);
        Learned {
            accumulators: updated.learned.weights,
            momenta: updated.learned.momenta,
            ..learned
        }
    }

    fn make(
        &self,
        form: TensorForm,
        learned: Learned,
        features: &GatedTokens,
        queries: Option<Tensor<3>>,
        tokens_before: u64,
    ) -> Updated {
        let rules = self.rules;
        match form {
            TensorForm::ClosedForm => {
                chunkwise::closed_form(rules, learned, features, queries, self.detail)
            }
            TensorForm::SummedGradient => {
                chunkwise::summed_gradient(rules, learned, features, queries, tokens_before)
            }
            TensorForm::TokenByToken => {
                recurrent::update(rules, learned, features, queries, tokens_before)
            }
        }
    }

    /// Answers beside tokens whose update is not complete yet.
    fn read_unfinished(
        &self,
        form: TensorForm,
        learned: &Learned,
        tokens: &GatedTokens,
        queries: Tensor<3>,
        tokens_before: u64,
    ) -> Tensor<3> {
        let count = tokens.len();
        if self.dense.is_some() && self.when != Some(ReadTime::Token) {
            return self.read(learned, queries);
        }
        let queries = self.padded_queries(queries);
        if self.when != Some(ReadTime::Token) {
            return self.read(learned, queries).narrow(1, 0, count);
        }
        // Filled up to the whole update, so that every product has the size and with it
        // the bits that it has when the update is complete. Nothing flows backwards.
        let full = tokens
            .clone()
            .pad_to(self.rules.update().update_size, &self.rules.config);
        let updated = self.make(
            form,
            learned.clone(),
            &self.lifted(&full),
            Some(queries),
            tokens_before,
        );
        updated
            .token_reads
            .expect("queries were given with the tokens")
            .narrow(1, 0, count)
    }

    fn read(&self, learned: &Learned, queries: Tensor<3>) -> Tensor<3> {
        if let Some(dense) = self.dense {
            let weights = &learned.accumulators;
            return dense.ops.read(dense.rule, weights, queries);
        }
        let weights = self.rules.weights(&learned.accumulators);
        let architecture = &self.rules.config.miras.architecture;
        architecture.predict(&StaticMaps(&weights), queries)
    }

    /// Queries filled up to the update's size and lifted: as many rows in every call.
    fn padded_queries(&self, queries: Tensor<3>) -> Tensor<3> {
        let [_, count, _] = queries.dims();
        let missing = self.rules.update().update_size - count;
        (self.lift)(pad_back(queries, missing))
    }

    fn lifted(&self, tokens: &GatedTokens) -> GatedTokens {
        GatedTokens {
            keys: (self.lift)(tokens.keys.clone()),
            ..tokens.clone()
        }
    }

    fn refresh_base(&self, learned: Learned, tokens: u64) -> Learned {
        match self.rules.update().gradient_base {
            GradientBase::EveryTokens(every) if tokens.is_multiple_of(every as u64) => Learned {
                base: Some(learned.accumulators.clone()),
                ..learned
            },
            _ => learned,
        }
    }

    /// The exact chunk of the linear delta rule.
    fn solve(
        &self,
        learned: Learned,
        tokens: &GatedTokens,
        queries: Option<(Tensor<3>, usize)>,
        parts: &mut Parts,
    ) -> Learned {
        let miras = &self.rules.config.miras;
        let AttentionalBias::L2(bias) = miras.attentional_bias else {
            unreachable!("the delta rule descends l2");
        };
        let [memories, count, value_dim] = tokens.values.dims();
        let slope = bias.slope(value_dim);
        let keys = (self.lift)(tokens.keys.clone());
        let energy = (keys.clone() * keys.clone())
            .sum_dim(2)
            .reshape([memories, count]);
        let mut step_size = self.rules.step_sizes(tokens) * slope;
        let mut written = energy.clone().greater_equal_elem(0.0);
        if miras.learning_algorithm.is_normalised() {
            written = energy.clone().greater_elem(0.0);
            let silent = written.clone().bool_not();
            step_size =
                (step_size / energy.clone().mask_fill(silent.clone(), 1.0)).mask_fill(silent, 0.0);
        }
        let chunk = DeltaChunk {
            keys,
            values: tokens.values.clone(),
            step_size: step_size.clone(),
            retention: self.rules.retentions(tokens),
            decay_order: DecayOrder::AfterGradient,
        };
        let skip = queries.as_ref().map_or(0, |(_, skip)| *skip);
        let queries = queries.map(|(queries, _)| (self.lift)(queries));
        let result = delta_chunk(learned.accumulators[0].clone(), chunk, queries);
        if let Some(reads) = result.reads {
            parts.push_reads(reads, skip);
        }
        let prediction = tokens.values.clone() - result.errors.clone();
        let loss = miras
            .attentional_bias
            .loss(prediction.clone(), tokens.values.clone(), None);
        let error_energy = (result.errors.clone() * result.errors).sum_dim(2);
        let norm = root(error_energy.reshape([memories, count]) * energy);
        parts.loss.push(loss.reshape([memories, count]));
        parts
            .relative_error
            .push(relative_errors(prediction, tokens.values.clone()));
        parts.gradient_norm.push(norm.clone() * slope);
        parts.update_norm.push(norm * step_size);
        parts.written.push(as_numbers(written, &loss_like(tokens)));
        Learned {
            accumulators: vec![result.weights],
            ..learned
        }
    }
}

fn loss_like(tokens: &GatedTokens) -> Tensor<2> {
    let [memories, count, _] = tokens.values.dims();
    Tensor::zeros(
        [memories, count],
        (&tokens.values.device(), tokens.values.dtype()),
    )
}

fn pad_front(rows: Tensor<3>, count: usize) -> Tensor<3> {
    if count == 0 {
        return rows;
    }
    let [memories, _, width] = rows.dims();
    let empty = Tensor::zeros([memories, count, width], (&rows.device(), rows.dtype()));
    Tensor::cat(vec![empty, rows], 1)
}

fn pad_back(rows: Tensor<3>, count: usize) -> Tensor<3> {
    if count == 0 {
        return rows;
    }
    let [memories, _, width] = rows.dims();
    let empty = Tensor::zeros([memories, count, width], (&rows.device(), rows.dtype()));
    Tensor::cat(vec![rows, empty], 1)
}
