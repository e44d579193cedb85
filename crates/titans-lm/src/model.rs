//! The model: front end, one layer, head.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use titans_core::{
    AttentionalBias, BlockConfig, ConfigError, GateKind, GateNoise, GradientDescent, Initial,
    InputError, KeyConfig, L2, L2Scale, LayerConfig, LayerState, LearningAlgorithm, MemoryConfig,
    Preset, Reads, Target, TitansLayer, Wiring, WriteGateConfig, WriteGates,
};

use crate::frontend::{
    ANSWER_AT, CODE, CONTEXT, CONTEXT_AT, FrontEnd, FrontEndState, LOCAL_AT, SUBJECT_AT, TYPE,
    VALUE, VALUE_AT, WIDTH,
};
use crate::tokens::{TokenId, VOCABULARY};

/// Sizes and choices of a [`NeedleModel`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelConfig {
    /// How memory and attention stand together.
    pub wiring: Wiring,
    /// Rows of the memory.
    pub rows: usize,
    /// Rows that one write touches.
    pub active: usize,
    /// Fraction of the error that a write removes.
    pub step_size: f32,
    /// Whether the write gate is exactly zero or has strengths.
    pub gate: GateKind,
    /// Tokens of a segment or of the sliding window.
    pub window: usize,
    /// Seed of the initial parameters and of the frozen features.
    pub seed: u64,
}

impl Default for ModelConfig {
    /// 7680 rows of 32 numbers: 983 040 bytes of memory.
    fn default() -> Self {
        Self {
            wiring: Wiring::Lmm,
            rows: 7680,
            active: 256,
            step_size: 0.5,
            gate: GateKind::Hard,
            window: 64,
            seed: 1,
        }
    }
}

/// A language model for texts with facts: it reads words, keeps values, and answers.
#[derive(Module, Debug)]
pub struct NeedleModel {
    front: FrontEnd,
    layer: TitansLayer,
    /// `[WIDTH, VALUE]`: what of a row is an answer.
    answer: Param<Tensor<2>>,
    /// `[CONTEXT, TYPE]`: which types come after this wording.
    prior: Param<Tensor<2>>,
    /// `[1, VOCABULARY]`: how common each token is in answers.
    bias: Param<Tensor<2>>,
    sharpness: Param<Tensor<1>>,
    #[module(skip)]
    config: ModelConfig,
}

/// What the model carries from piece to piece.
#[derive(Clone, Debug)]
pub struct ModelState {
    /// Of the front end.
    pub front: FrontEndState,
    /// Of the layer, the memories among it.
    pub layer: LayerState,
}

impl ModelState {
    /// Bytes of everything that is carried.
    pub fn bytes(&self) -> usize {
        self.front.bytes() + self.layer.bytes()
    }
}

/// What a piece gives.
#[derive(Clone, Debug)]
pub struct ModelOutput {
    /// `[batch, reads, WIDTH]`, for [`NeedleModel::logits`].
    pub rows: Tensor<3>,
    /// Of the local wording at the same tokens, `[batch, reads, CONTEXT]`.
    pub context: Tensor<3>,
    /// What every sentence is about so far, `[batch, tokens, CODE]`, rows of length one.
    pub subjects: Tensor<3>,
    /// What the write gate said, part after part.
    pub gates: Vec<WriteGates>,
    /// Tokens written for each text.
    pub written: Vec<usize>,
}

impl NeedleModel {
    /// A model whose projections begin where their parts of a row are: keys from subject and
    /// local code, values from the value code, answers where an answer belongs.
    ///
    /// `counts` are how often each token occurs in the training texts.
    ///
    /// # Errors
    /// A size of zero, or more active rows than there are.
    pub fn new(config: ModelConfig, counts: &[u64], device: &Device) -> Result<Self, ConfigError> {
        let mut initial = Initial::new(config.seed, device);
        let mut layer = TitansLayer::new(layer_config(&config), &mut initial)?;
        let place = |at: usize, width: usize, gain: f32| placed(at, width, gain, device);
        if let Some(block) = layer.block_mut() {
            if let Some(winners) = block.winners_mut() {
                winners.set_projections(place(SUBJECT_AT, CODE, 1.0), place(LOCAL_AT, CODE, 1.0));
            }
            let output = place(ANSWER_AT, VALUE, 1.0).transpose();
            block.set_value_projections(place(VALUE_AT, VALUE, 1.0), output);
        }
        if !config.wiring.has_memory() {
            // Attention compares what the memory's keys are made of.
            let both = Tensor::cat(
                vec![place(SUBJECT_AT, CODE, 3.0), place(LOCAL_AT, CODE, 3.0)],
                1,
            );
            let value = pad_columns(place(VALUE_AT, VALUE, 1.0), 2 * CODE);
            let output = pad_columns(place(ANSWER_AT, VALUE, 1.0), 2 * CODE).transpose();
            if let Some(attention) = layer.attention_mut() {
                attention.set_projections([both.clone(), both, value], output);
            }
        }
        Ok(Self {
            front: FrontEnd::new(counts, &mut initial),
            layer,
            answer: Param::from_tensor(place(ANSWER_AT, VALUE, 1.0)),
            prior: initial.matrix(CONTEXT, TYPE, 0.1),
            bias: initial.constant([1, VOCABULARY], 0.0),
            sharpness: initial.constant([1], 3.0),
            config,
        })
    }

    /// The sizes and choices.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The same model with a write gate that is always open, or always closed: controls.
    #[must_use]
    pub fn with_forced_gate(mut self, open: bool) -> Self {
        let block = self.layer.block_mut();
        if let Some(gate) = block.and_then(|block| block.write_gate_mut()) {
            gate.force(open);
        }
        self
    }

    /// The same model, whose projections around the memory do not learn: each key stays made
    /// of subject and local code alone, each value of its code, and an answer of what was
    /// read. Free, they learn within some hundred steps to mix in wording, which recalls ten
    /// facts as well and hundreds worse.
    #[must_use]
    pub(crate) fn with_frozen_projections(mut self) -> Self {
        let Some(block) = self.layer.block_mut() else {
            return self;
        };
        block.freeze_projections();
        self.answer = self.answer.no_grad();
        self
    }

    /// The front end.
    pub fn front(&self) -> &FrontEnd {
        &self.front
    }

    /// The layer.
    pub fn layer(&self) -> &TitansLayer {
        &self.layer
    }

    /// Before the first token of `batch` texts.
    pub fn initial_state(&self, batch: usize) -> ModelState {
        ModelState {
            front: self.front.initial_state(batch),
            layer: self.layer.initial_state(batch),
        }
    }

    /// Reads a piece of each text.
    ///
    /// # Errors
    /// [`InputError`] when a number is not finite.
    ///
    /// # Panics
    /// If the texts are empty, not equally long, or not as many as the state's.
    pub fn forward(
        &self,
        texts: &[&[TokenId]],
        state: &mut ModelState,
        reads: &Reads,
        noise: Option<&mut GateNoise>,
    ) -> Result<ModelOutput, InputError> {
        let rows = self.front.forward(texts, &mut state.front);
        let context = rows.clone().narrow(2, CONTEXT_AT, CONTEXT);
        let subjects = rows.clone().narrow(2, SUBJECT_AT, CODE);
        let output = self.layer.forward(rows, &mut state.layer, reads, noise)?;
        Ok(ModelOutput {
            rows: output.rows,
            context: rows_at(context, reads),
            subjects,
            gates: output.gates,
            written: output.written,
        })
    }

    /// Logits of the next token, over some candidates or the whole vocabulary.
    ///
    /// `sharpness * (row W_answer) . value code + (context W_prior) . type + bias`
    ///
    /// # Shapes
    /// - returns: `[batch * reads, candidates]`
    pub fn logits(&self, output: &ModelOutput, candidates: Option<Tensor<1, Int>>) -> Tensor<2> {
        let [batch, reads, width] = output.rows.dims();
        let of = |table: Tensor<2>| match &candidates {
            Some(candidates) => table.select(0, candidates.clone()),
            None => table,
        };
        let rows = output.rows.clone().reshape([batch * reads, width]);
        let recalled = rows.matmul(self.answer.val());
        let context = output.context.clone().reshape([batch * reads, CONTEXT]);
        let expected = context.matmul(self.prior.val());
        let bias = match &candidates {
            Some(candidates) => self.bias.val().select(1, candidates.clone()),
            None => self.bias.val(),
        };
        let sharpness = self.sharpness.val().exp().reshape([1, 1]);
        recalled.matmul(of(self.front.values()).transpose()) * sharpness
            + expected.matmul(of(self.front.types()).transpose())
            + bias
    }

    /// Answers a question freely: the most likely token, fed back, until a full stop or
    /// `longest` tokens. What is read is forgotten with the state, which is the caller's
    /// copy; what the gate lets through of the question is written there.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn answer(
        &self,
        question: &[TokenId],
        state: &mut ModelState,
        longest: usize,
        mut each: impl FnMut(),
    ) -> Result<Vec<TokenId>, InputError> {
        let mut answer = Vec::new();
        let mut given = question.to_vec();
        while answer.len() < longest {
            let last = Reads::At(vec![vec![given.len() - 1]]);
            let output = self.forward(&[&given], state, &last, None)?;
            let best = self.logits(&output, None).argmax(1);
            let token = best.into_scalar::<i32>() as TokenId;
            each();
            if token == crate::tokens::FULL_STOP {
                break;
            }
            answer.push(token);
            given = vec![token];
        }
        Ok(answer)
    }
}

fn rows_at(rows: Tensor<3>, reads: &Reads) -> Tensor<3> {
    let [batch, tokens, width] = rows.dims();
    match reads {
        Reads::All => rows,
        Reads::Nothing => Tensor::zeros([batch, 0, width], &rows.device().inner()),
        Reads::At(positions) => {
            let wanted = positions.first().map_or(0, Vec::len);
            let flat: Vec<i32> = (positions.iter().enumerate())
                .flat_map(|(text, at)| at.iter().map(move |at| (text * tokens + at) as i32))
                .collect();
            let device = rows.device().inner();
            let count = flat.len();
            let flat = Tensor::from_data(TensorData::new(flat, [count]), &device);
            let rows = rows.reshape([batch * tokens, width]);
            rows.select(0, flat).reshape([batch, wanted, width])
        }
    }
}

fn layer_config(config: &ModelConfig) -> LayerConfig {
    let mut memory: MemoryConfig = Preset::Delta.config();
    memory.key_dim = config.rows;
    memory.value_dim = VALUE;
    memory.seed = config.seed;
    memory.miras.attentional_bias = AttentionalBias::L2(L2 {
        scale: L2Scale::Half,
    });
    memory.miras.learning_algorithm = LearningAlgorithm::GradientDescent(GradientDescent {
        step_size: config.step_size,
    });
    let is_memory = config.wiring.has_memory();
    LayerConfig {
        wiring: config.wiring,
        block: BlockConfig {
            dim: WIDTH,
            memory,
            keys: KeyConfig::Winners {
                code_dim: CODE,
                active: config.active,
                seed: 0x0fea_7e5e_ed00_0001,
            },
            target: Target::Next,
            write_gate: Some(WriteGateConfig {
                hidden: 64,
                bias: -2.0,
                kind: config.gate,
            }),
            gathered: 32,
        },
        heads: if is_memory { 2 } else { 1 },
        head_dim: if is_memory { 32 } else { 2 * CODE },
        window: config.window,
        persistent: 4,
    }
}

/// `[WIDTH, width]` that takes the columns from `at` on.
fn placed(at: usize, width: usize, gain: f32, device: &Device) -> Tensor<2> {
    let mut values = vec![0.0; WIDTH * width];
    for column in 0..width {
        values[(at + column) * width + column] = gain;
    }
    Tensor::from_data(
        TensorData::new(values, [WIDTH, width]),
        &device.clone().inner(),
    )
}

fn pad_columns(matrix: Tensor<2>, width: usize) -> Tensor<2> {
    let [rows, columns] = matrix.dims();
    let empty = Tensor::zeros([rows, width - columns], &matrix.device());
    Tensor::cat(vec![matrix, empty], 1)
}
