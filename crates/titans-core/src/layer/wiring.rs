//! A layer: memory and attention, wired as one word says.

use std::fmt;
use std::str::FromStr;

use burn::module::{Module, Param};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};

use super::{
    Attention, AttentionConfig, AttentionState, BlockConfig, GateNoise, Initial, LayerState,
    NeuralMemoryBlock, Reads, RmsNorm, Span, Target, WriteGates, project,
};
use crate::error::{ConfigError, InputError};

/// How memory and attention stand together (Titans, arXiv:2501.00663, section 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wiring {
    /// The memory alone.
    #[default]
    Lmm,
    /// Memory as context: what the memory held before the segment stands beside the
    /// segment's tokens in its attention, and what attention makes of them is written.
    Mac,
    /// Memory as gate: a branch beside sliding-window attention, which gates it.
    Mag,
    /// Memory as layer: the memory first, then sliding-window attention.
    Mal,
    /// Attention over everything, no memory: the cache grows with the text.
    FullAttention,
    /// Sliding-window attention, no memory.
    SlidingWindow,
}

impl Wiring {
    /// Every wiring.
    pub const ALL: &'static [Self] = &[
        Self::Lmm,
        Self::Mac,
        Self::Mag,
        Self::Mal,
        Self::FullAttention,
        Self::SlidingWindow,
    ];

    /// The word that asks for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lmm => "lmm",
            Self::Mac => "mac",
            Self::Mag => "mag",
            Self::Mal => "mal",
            Self::FullAttention => "full-attention",
            Self::SlidingWindow => "sliding-window",
        }
    }

    /// Whether there is a memory.
    pub fn has_memory(self) -> bool {
        !matches!(self, Self::FullAttention | Self::SlidingWindow)
    }

    /// Whether the state has one size however long the text is.
    pub fn is_constant(self) -> bool {
        self != Self::FullAttention
    }
}

impl fmt::Display for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Wiring {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().copied().find(|w| w.name() == text);
        found.ok_or_else(|| ConfigError::UnknownChoice {
            choice: "wiring",
            name: text.to_owned(),
            known: (Self::ALL.iter().map(|w| w.name()).collect::<Vec<_>>()).join(", "),
        })
    }
}

/// Sizes and choices of a [`TitansLayer`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerConfig {
    /// How memory and attention stand together.
    pub wiring: Wiring,
    /// The memory; of attention alone, only its `dim` and `target` matter.
    pub block: BlockConfig,
    /// Heads of the attention.
    pub heads: usize,
    /// Width of each.
    pub head_dim: usize,
    /// Tokens of a segment (memory as context) or of the sliding window.
    pub window: usize,
    /// Learned tokens that attention always sees.
    pub persistent: usize,
}

/// One layer, with a residual connection around it.
#[derive(Module, Debug)]
pub struct TitansLayer {
    block: Option<NeuralMemoryBlock>,
    attention: Option<Attention>,
    attention_norm: Option<RmsNorm>,
    /// `[dim, dim]`: what gates the memory's answer.
    gate: Option<Param<Tensor<2>>>,
    gate_norm: Option<RmsNorm>,
    #[module(skip)]
    config: LayerConfig,
    #[module(skip)]
    device: Device,
}

/// What a layer gives for a piece.
#[derive(Clone, Debug)]
pub struct LayerOutput {
    /// `[batch, reads, dim]`.
    pub rows: Tensor<3>,
    /// What the write gate said of each token, part after part of the piece.
    pub gates: Vec<WriteGates>,
    /// Tokens written to each memory.
    pub written: Vec<usize>,
}

impl TitansLayer {
    /// A layer whose attention begins by adding nothing and whose gates begin at one: as if
    /// the memory stood alone.
    ///
    /// # Errors
    /// A size that is zero or a configuration that does not fit.
    pub fn new(config: LayerConfig, initial: &mut Initial) -> Result<Self, ConfigError> {
        let wiring = config.wiring;
        let dim = config.block.dim;
        let attention = AttentionConfig {
            dim,
            heads: config.heads,
            head_dim: config.head_dim,
            span: match wiring {
                Wiring::FullAttention => Span::Full,
                Wiring::Mac => Span::Segment(config.window),
                _ => Span::Window(config.window),
            },
            persistent: config.persistent,
        };
        let attends = wiring != Wiring::Lmm;
        let is_gated = matches!(wiring, Wiring::Mac | Wiring::Mag);
        if attends {
            attention.validate()?;
        }
        let block = match wiring.has_memory() {
            true => Some(NeuralMemoryBlock::new(config.block, initial)?),
            false => None,
        };
        Ok(Self {
            block,
            attention: attends.then(|| Attention::new(attention, initial)),
            attention_norm: attends.then(|| RmsNorm::new(dim, initial)),
            gate: is_gated.then(|| initial.constant([dim, dim], 0.0)),
            gate_norm: is_gated.then(|| RmsNorm::new(dim, initial)),
            config,
            device: initial.device(),
        })
    }

    /// The sizes and choices.
    pub fn config(&self) -> &LayerConfig {
        &self.config
    }

    /// The memory, if there is one.
    pub fn block(&self) -> Option<&NeuralMemoryBlock> {
        self.block.as_ref()
    }

    /// The memory, if there is one.
    pub fn block_mut(&mut self) -> Option<&mut NeuralMemoryBlock> {
        self.block.as_mut()
    }

    /// The attention, if there is some.
    pub fn attention_mut(&mut self) -> Option<&mut Attention> {
        self.attention.as_mut()
    }

    /// Where the parameters are.
    pub fn device(&self) -> Device {
        self.device.clone()
    }

    /// Before the first token of `batch` texts.
    pub fn initial_state(&self, batch: usize) -> LayerState {
        let block = self.block.as_ref().map(|block| block.initial_state(batch));
        let delays = self.block.is_none() && self.config.block.target == Target::Next;
        LayerState {
            batch,
            segment_start: (self.config.wiring == Wiring::Mac)
                .then(|| block.as_ref().map(|block| block.memories.clone()))
                .flatten(),
            block,
            attention: self.attention.as_ref().map(|_| AttentionState::empty()),
            delayed: delays.then(|| Tensor::zeros([batch, 1, self.config.block.dim], &self.device)),
            position: 0,
        }
    }

    /// A piece of each text of the batch.
    ///
    /// # Shapes
    /// - `rows`: `[batch, tokens, dim]`
    ///
    /// # Errors
    /// [`InputError`] when a number is not finite.
    ///
    /// # Panics
    /// If `reads` are not positions of the piece, or the batch is not that of the state.
    pub fn forward(
        &self,
        rows: Tensor<3>,
        state: &mut LayerState,
        reads: &Reads,
        noise: Option<&mut GateNoise>,
    ) -> Result<LayerOutput, InputError> {
        let [batch, tokens, _] = rows.dims();
        if tokens == 0 {
            return Ok(LayerOutput {
                rows,
                gates: Vec::new(),
                written: vec![0; batch],
            });
        }
        let output = match self.config.wiring {
            Wiring::Lmm => self.memory_alone(rows, state, reads, noise)?,
            Wiring::Mac => self.memory_as_context(rows, state, reads, noise)?,
            Wiring::Mag => self.memory_as_gate(rows, state, reads, noise)?,
            Wiring::Mal => self.memory_as_layer(rows, state, reads, noise)?,
            Wiring::FullAttention | Wiring::SlidingWindow => {
                self.attention_alone(rows, state, reads)
            }
        };
        state.position += tokens as u64;
        Ok(output)
    }

    /// `o = x + M(x)`.
    fn memory_alone(
        &self,
        rows: Tensor<3>,
        state: &mut LayerState,
        reads: &Reads,
        noise: Option<&mut GateNoise>,
    ) -> Result<LayerOutput, InputError> {
        let (block, of_block) = self.block_of(state);
        let read = block.advance(rows.clone(), of_block, reads, noise)?;
        Ok(LayerOutput {
            rows: reads.pick(rows) + read.retrieved,
            gates: read.gates.into_iter().collect(),
            written: read.written,
        })
    }

    /// For each segment, with M the memory before it (Titans, eq. 21-25, causal):
    ///
    /// ```text
    /// h_j = M(q(x_j));  y = x + attention over [P | h_j, x_j for j <= i]
    /// o_i = y_i + M_i(y_i) * 2 sigmoid(norm(y_i) G)      M_i: after the writes of y_1 .. y_i
    /// ```
    fn memory_as_context(
        &self,
        rows: Tensor<3>,
        state: &mut LayerState,
        reads: &Reads,
        mut noise: Option<&mut GateNoise>,
    ) -> Result<LayerOutput, InputError> {
        let [batch, tokens, _] = rows.dims();
        let segment = self.config.window as u64;
        let (mut outputs, mut gates) = (Vec::new(), Vec::new());
        let mut written = vec![0; batch];
        let mut start = 0;
        while start < tokens {
            let at = state.position + start as u64;
            let count = ((segment - at % segment) as usize).min(tokens - start);
            let part = rows.clone().narrow(1, start, count);
            let block = self.block.as_ref().expect("this wiring has a memory");
            let held = (state.segment_start.as_ref()).expect("this wiring keeps the memories");
            let context = block.read(part.clone(), held);
            let attended = part.clone() + self.attend(part, Some(context), state);
            let (_, of_block) = self.block_of(state);
            let read = block.advance(
                attended.clone(),
                of_block,
                &Reads::All,
                noise.as_deref_mut(),
            )?;
            outputs.push(attended.clone() + read.retrieved * self.gate_of(attended));
            gates.extend(read.gates);
            (written.iter_mut().zip(read.written)).for_each(|(sum, more)| *sum += more);
            start += count;
            if (state.position + start as u64).is_multiple_of(segment) {
                state.segment_start = state.block.as_ref().map(|block| block.memories.clone());
            }
        }
        let all = match outputs.is_empty() {
            true => rows,
            false => Tensor::cat(outputs, 1),
        };
        Ok(LayerOutput {
            rows: reads.pick(all),
            gates,
            written,
        })
    }

    /// `y = attention(x); o = x + M(x) * 2 sigmoid(norm(y) G)` (Titans, eq. 26-28).
    fn memory_as_gate(
        &self,
        rows: Tensor<3>,
        state: &mut LayerState,
        reads: &Reads,
        noise: Option<&mut GateNoise>,
    ) -> Result<LayerOutput, InputError> {
        let attended = self.attend(rows.clone(), None, state);
        let (block, of_block) = self.block_of(state);
        let read = block.advance(rows.clone(), of_block, reads, noise)?;
        let gate = self.gate_of(reads.pick(attended));
        Ok(LayerOutput {
            rows: reads.pick(rows) + read.retrieved * gate,
            gates: read.gates.into_iter().collect(),
            written: read.written,
        })
    }

    /// `y = x + M(x); o = y + attention(y)` (Titans, eq. 29-31).
    ///
    /// Where no output is wanted, only the tokens that a later window shows are read.
    fn memory_as_layer(
        &self,
        rows: Tensor<3>,
        state: &mut LayerState,
        reads: &Reads,
        noise: Option<&mut GateNoise>,
    ) -> Result<LayerOutput, InputError> {
        let [batch, tokens, _] = rows.dims();
        let (block, of_block) = self.block_of(state);
        let shown = tokens.saturating_sub(self.config.window - 1)..tokens;
        let first = if *reads == Reads::Nothing {
            shown.start
        } else {
            0
        };
        let wanted = Reads::At(vec![(first..tokens).collect(); batch]);
        let read = block.advance(rows.clone(), of_block, &wanted, noise)?;
        let through = wanted.pick(rows.clone()) + read.retrieved;
        let through = match first {
            0 => through,
            _ => Tensor::cat(vec![rows.narrow(1, 0, first), through], 1),
        };
        let attended = self.attend(through.clone(), None, state);
        Ok(LayerOutput {
            rows: reads.pick(through + attended),
            gates: read.gates.into_iter().collect(),
            written: read.written,
        })
    }

    /// `o = x + attention(x)`.
    fn attention_alone(
        &self,
        rows: Tensor<3>,
        state: &mut LayerState,
        reads: &Reads,
    ) -> LayerOutput {
        let [batch, _, _] = rows.dims();
        let attended = self.attend(rows.clone(), None, state);
        LayerOutput {
            rows: reads.pick(rows + attended),
            gates: Vec::new(),
            written: vec![0; batch],
        }
    }

    fn attend(
        &self,
        rows: Tensor<3>,
        beside: Option<Tensor<3>>,
        state: &mut LayerState,
    ) -> Tensor<3> {
        let [_, tokens, _] = rows.dims();
        let norm = self.attention_norm.as_ref().expect("attention has a norm");
        let attention = self.attention.as_ref().expect("this wiring attends");
        let of_attention = (state.attention.as_mut()).expect("this wiring attends");
        let rows = norm.forward(rows);
        let beside = beside.map(|rows| norm.forward(rows));
        let key_rows = match state.delayed.take() {
            None => rows.clone(),
            Some(last) => {
                let all = Tensor::cat(vec![last, rows.clone()], 1);
                state.delayed = Some(all.clone().narrow(1, tokens, 1));
                all.narrow(1, 0, tokens)
            }
        };
        attention.forward(rows, key_rows, beside, of_attention)
    }

    /// Between 0 and 2; 1 where nothing is learned.
    fn gate_of(&self, rows: Tensor<3>) -> Tensor<3> {
        let gate = self.gate.as_ref().expect("this wiring has a gate");
        let norm = self.gate_norm.as_ref().expect("a gate has a norm");
        sigmoid(project(norm.forward(rows), gate.val())) * 2.0
    }

    fn block_of<'a>(
        &'a self,
        state: &'a mut LayerState,
    ) -> (&'a NeuralMemoryBlock, &'a mut super::BlockState) {
        let block = self.block.as_ref().expect("this wiring has a memory");
        let of_block = state.block.as_mut().expect("this wiring has a memory");
        (block, of_block)
    }
}
