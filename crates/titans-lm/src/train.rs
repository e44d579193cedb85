//! The outer loop: recall and gate losses, differentiated through the memory's own writes.

use std::collections::BTreeSet;
use std::path::Path;

use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use titans_core::{GateNoise, InputError, Reads};

use crate::checkpoint::with_named_ids;
use crate::model::NeedleModel;
use crate::sample::{Sample, SampleConfig, Source};
use crate::tokens::{TokenId, VOCABULARY, is_word, random_word};

/// Random words among the candidates of a training step.
const DISTRACTORS: usize = 1500;

/// Weight in the loss of the distance between a question's subject and its statement's.
const APART_WEIGHT: f32 = 4.0;
/// Weight in the loss of the overlap of different subjects.
const OVERLAP_WEIGHT: f32 = 15.0;

/// A stretch of training with samples of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Steps.
    pub steps: usize,
    /// Samples a step.
    pub batch: usize,
    /// What they hold.
    pub samples: SampleConfig,
    /// Adam's step at the beginning of the stage.
    pub learning_rate: f64,
    /// And at its end.
    pub last_learning_rate: f64,
}

/// What a step gave.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepReport {
    /// Cross entropy of the answer tokens.
    pub recall_loss: f32,
    /// Cross entropy of the write gate, per value token.
    pub gate_loss: f32,
    /// Share of answer tokens that were right.
    pub tokens_right: f32,
    /// Share of value tokens that were written.
    pub written: f32,
    /// Tokens written that belong to no value, over all tokens.
    pub false_writes: f32,
    /// Mean squared cosine between the subjects of different facts.
    pub overlap: f32,
    /// One less the mean cosine between the subjects of question and statement.
    pub apart: f32,
}

/// Model and optimiser, between two steps.
pub struct Trainer {
    model: NeedleModel,
    optimizer: ModuleOptimizer,
    seed: u64,
    step: u64,
}

impl Trainer {
    /// Trains a model from where it is.
    pub fn new(model: NeedleModel, seed: u64) -> Self {
        let adam = AdamConfig::new()
            .with_beta_2(0.98)
            .with_epsilon(1e-8)
            .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)));
        Self {
            model: with_named_ids(model).train().with_frozen_projections(),
            optimizer: adam.init(),
            seed,
            step: 0,
        }
    }

    /// Goes on after `step` steps with what [`save_optimizer`](Self::save_optimizer) kept.
    ///
    /// # Errors
    /// What is wrong with the file, in words.
    pub fn resume(mut self, step: u64, optimizer: &Path) -> Result<Self, String> {
        self.optimizer = self
            .optimizer
            .load(optimizer)
            .map_err(|error| format!("cannot read {}: {error:?}", optimizer.display()))?;
        self.step = step;
        Ok(self)
    }

    /// Writes the optimiser's moments.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub fn save_optimizer(&self, path: &Path) -> Result<(), String> {
        let saved = self.optimizer.save(path);
        saved.map_err(|error| format!("cannot write {}: {error:?}", path.display()))
    }

    /// The model, without autodiff.
    pub fn model(&self) -> NeedleModel {
        self.model.valid()
    }

    /// Steps made.
    pub fn step_number(&self) -> u64 {
        self.step
    }

    /// One step of a stage. What it draws depends on the seed and the number of the step alone.
    ///
    /// # Errors
    /// [`InputError`] when a number is not finite any more.
    pub fn step(
        &mut self,
        source: &Source,
        stage: &Stage,
        learning_rate: f64,
    ) -> Result<StepReport, InputError> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(self.step + 1);
        let samples: Vec<Sample> = (0..stage.batch)
            .map(|_| source.sample(&stage.samples, &mut rng))
            .collect();
        let noise = GateNoise::new(rng.random(), 1.0);
        let (loss, report) = loss(&self.model, &samples, noise, &mut rng)?;
        let gradients = GradientsParams::from_grads(loss.backward(), &self.model);
        self.model = self
            .optimizer
            .step(learning_rate, self.model.clone(), gradients);
        self.step += 1;
        Ok(report)
    }
}

/// Recall loss plus gate loss of a batch.
fn loss(
    model: &NeedleModel,
    samples: &[Sample],
    mut noise: GateNoise,
    rng: &mut ChaCha8Rng,
) -> Result<(Tensor<1>, StepReport), InputError> {
    let texts: Vec<&[TokenId]> = samples.iter().map(|sample| &sample.tokens[..]).collect();
    let reads = Reads::At(samples.iter().map(|sample| sample.reads.clone()).collect());
    let mut state = model.initial_state(samples.len());
    let output = model.forward(&texts, &mut state, &reads, Some(&mut noise))?;
    let device = output.rows.device().inner();

    let candidates = candidates(samples, rng);
    let place = |token: &TokenId| candidates.binary_search(token).unwrap_or(0) as i32;
    let targets: Vec<i32> = samples
        .iter()
        .flat_map(|s| s.targets.iter().map(place))
        .collect();
    let weights: Vec<f32> = samples.iter().flat_map(|s| s.read_counts.clone()).collect();
    let asked = weights.iter().sum::<f32>().max(1.0);
    let count = targets.len();
    let ids: Vec<i32> = candidates.iter().map(|token| *token as i32).collect();
    let width = ids.len();
    let ids: Tensor<1, Int> = Tensor::from_data(TensorData::new(ids, [width]), &device);
    let targets: Tensor<2, Int> = Tensor::from_data(TensorData::new(targets, [count, 1]), &device);
    let weights = Tensor::<2>::from_data(TensorData::new(weights, [count, 1]), &device);
    // A random word stands for all those that were not drawn.
    let stands_for = (VOCABULARY as f32 / DISTRACTORS as f32).ln();
    let asked_for: BTreeSet<TokenId> = samples.iter().flat_map(|s| s.targets.clone()).collect();
    let correction: Vec<f32> = (candidates.iter())
        .map(
            |token| match is_word(*token) && !asked_for.contains(token) {
                true => stands_for,
                false => 0.0,
            },
        )
        .collect();
    let correction = Tensor::<2>::from_data(TensorData::new(correction, [1, width]), &device);
    let logits = model.logits(&output, Some(ids)) + correction;
    let is_right = (logits.clone().inner().argmax(1).equal(targets.clone())).float();
    let right = (is_right * weights.clone()).sum().into_scalar::<f32>() / asked;
    let likelihood = log_softmax(logits, 1).gather(1, targets);
    let recall = -(likelihood * weights).sum() / asked;

    let mut report = StepReport {
        tokens_right: right,
        recall_loss: recall.clone().inner().into_scalar::<f32>(),
        ..StepReport::default()
    };
    let subjects = subject_loss(&output.subjects, samples, &device, &mut report);
    let recall = recall + subjects;
    if output.gates.is_empty() {
        return Ok((recall, report));
    }
    let gate = gate_loss(&output.gates, samples, &device, &mut report);
    Ok((recall + gate, report))
}

/// Subjects of a statement and of its question are to be one, those of different facts are
/// to be at right angles: `1 - cos` of the pairs, and the mean squared cosine of the others.
///
/// What statement and question do not share makes a key miss what was written; what all
/// statements share tells none from another, and makes writes overwrite each other.
fn subject_loss(
    subjects: &Tensor<3>,
    samples: &[Sample],
    device: &Device,
    report: &mut StepReport,
) -> Tensor<1> {
    let [batch, tokens, width] = subjects.dims();
    let flat = subjects.clone().reshape([batch * tokens, width]);
    let pairs = samples.iter().enumerate().flat_map(|(text, sample)| {
        let flat = move |at: usize| (text * tokens + at) as i32;
        let pairs = sample.pairs.iter();
        pairs.map(move |(question, statement)| (flat(*question), flat(*statement)))
    });
    let (questions, statements): (Vec<i32>, Vec<i32>) = pairs.unzip();
    let count = questions.len();
    if count < 2 {
        return Tensor::zeros([1], device);
    }
    let of = |positions: Vec<i32>| -> Tensor<2> {
        let positions = Tensor::from_data(TensorData::new(positions, [count]), device);
        flat.clone().select(0, positions)
    };
    let (questions, statements) = (of(questions), of(statements));
    let apart = (questions.clone() * statements.clone()).sum_dim(1).mean();
    let apart = -apart + 1.0;
    let others: Tensor<2> = -Tensor::eye(count, device) + 1.0;
    let among = (count * (count - 1)) as f32;
    let overlap = |left: Tensor<2>, right: Tensor<2>| {
        let cosines = left.matmul(right.transpose());
        (cosines.clone() * cosines * others.clone()).sum() / among
    };
    let overlap = overlap(statements.clone(), statements) + overlap(questions.clone(), questions);
    report.overlap = overlap.clone().inner().into_scalar::<f32>() / 2.0;
    report.apart = apart.clone().inner().into_scalar::<f32>();
    apart * APART_WEIGHT + overlap * OVERLAP_WEIGHT
}

/// Binary cross entropy of the gate, over the text and not the questions, per value token:
/// a false write costs as much as a missed value, however rare values are.
fn gate_loss(
    gates: &[titans_core::WriteGates],
    samples: &[Sample],
    device: &Device,
    report: &mut StepReport,
) -> Tensor<1> {
    let shape = [samples.len(), samples[0].tokens.len()];
    let plane = |of: &dyn Fn(&Sample) -> &Vec<f32>| -> Tensor<2> {
        let values: Vec<f32> = samples
            .iter()
            .flat_map(|sample| of(sample).clone())
            .collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    };
    let (is_value, counts) = (plane(&|s| &s.is_value), plane(&|s| &s.counts));
    let logits: Vec<Tensor<2>> = gates.iter().map(|gate| gate.logits.clone()).collect();
    let logits = Tensor::cat(logits, 1);
    let values = is_value.clone().sum().into_scalar::<f32>().max(1.0);
    let is_open = logits.clone().inner().greater_elem(0.0).float() * counts.clone();
    let opened = is_open.clone().sum().into_scalar::<f32>();
    let hits = (is_open * is_value.clone()).sum().into_scalar::<f32>();
    let positive = log_sigmoid(logits.clone()) * is_value.clone();
    let negative = log_sigmoid(-logits) * (counts - is_value);
    let loss = -(positive + negative).sum() / values;
    report.gate_loss = loss.clone().inner().into_scalar::<f32>();
    report.written = hits / values;
    report.false_writes = (opened - hits) / (shape[0] * shape[1]) as f32;
    loss
}

/// All characters, what is asked for, and random words: a sampled softmax, because one over
/// the whole vocabulary would cost more than all the rest of a step.
fn candidates(samples: &[Sample], rng: &mut ChaCha8Rng) -> Vec<TokenId> {
    let mut all: BTreeSet<TokenId> = (0..VOCABULARY as TokenId)
        .take_while(|t| !is_word(*t))
        .collect();
    all.extend(
        samples
            .iter()
            .flat_map(|sample| sample.targets.iter().copied()),
    );
    all.extend((0..DISTRACTORS).map(|_| random_word(rng)));
    all.into_iter().collect()
}
