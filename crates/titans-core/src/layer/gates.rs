//! What decides how strongly a token is written, and whether at all.

use burn::module::{Module, Param};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::{Initial, project};
use crate::memory::{GateValues, TokenGates};

/// Data-dependent gates of a dense memory, one number per token each.
///
/// ```text
/// step_size      = largest_step * sigmoid(x w_1 + b_1)
/// momentum_decay = sigmoid(x w_2 + b_2)
/// retention      = sigmoid(x w_3 + b_3)
/// ```
///
/// The papers say that the gates depend on the token and not how. Biases begin at a kept
/// fraction of 0.999: with a half, nothing survives twenty tokens, and no gradient says so.
#[derive(Module, Debug)]
pub struct GateHeads {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    largest_step: f32,
    #[module(skip)]
    momentum: bool,
    #[module(skip)]
    retention: bool,
}

impl GateHeads {
    /// Heads for rows of `dim`; a memory without momentum or retention gets no such gate.
    pub(crate) fn new(
        dim: usize,
        largest_step: f32,
        (momentum, retention): (bool, bool),
        initial: &mut Initial,
    ) -> Self {
        let device = initial.device();
        Self {
            weight: initial.matrix(dim, 3, 0.1),
            bias: Param::from_tensor(Tensor::from_data([0.0, 0.0, 7.0], &device)),
            largest_step,
            momentum,
            retention,
        }
    }

    /// # Shapes
    /// - `rows`: `[batch, tokens, dim]`
    /// - `write`: `[batch, tokens]`, multiplies the step
    pub(crate) fn forward(&self, rows: Tensor<3>, write: Option<Tensor<2>>) -> TokenGates {
        let [batch, tokens, _] = rows.dims();
        let logits = project(rows, self.weight.val()) + self.bias.val().reshape([1, 1, 3]);
        let gates = sigmoid(logits);
        let gate = |index: usize| gates.clone().narrow(2, index, 1).reshape([batch, tokens]);
        let step = gate(0) * self.largest_step;
        let step = match write {
            Some(write) => step * write,
            None => step,
        };
        let per_token = |values| Some(GateValues::PerToken(values));
        TokenGates {
            step_size: per_token(step),
            momentum_decay: self.momentum.then(|| gate(1)).and_then(per_token),
            retention: self.retention.then(|| gate(2)).and_then(per_token),
            ..TokenGates::default()
        }
    }
}

/// Logistic noise for the write gates of a training step.
#[derive(Clone, Debug)]
pub struct GateNoise {
    words: ChaCha8Rng,
    scale: f32,
}

impl GateNoise {
    /// Noise of a seed. Scale 1 makes an open gate a draw with probability `sigmoid(logit)`.
    pub fn new(seed: u64, scale: f32) -> Self {
        Self {
            words: ChaCha8Rng::seed_from_u64(seed),
            scale,
        }
    }

    fn draw(&mut self, shape: [usize; 2], like: &Tensor<2>) -> Tensor<2> {
        let values: Vec<f32> = (0..shape[0] * shape[1])
            .map(|_| {
                let unit = ((self.words.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
                self.scale * (unit / (1.0 - unit)).ln() as f32
            })
            .collect();
        let options = (&like.device().inner(), like.dtype());
        Tensor::from_data(TensorData::new(values, shape), options)
    }
}

/// What a write gate does with what it thinks of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GateKind {
    /// A token is written whole or not at all.
    #[default]
    Hard,
    /// Every token is written, with a strength between zero and one: the control that shows
    /// what an exact zero is good for.
    Soft,
}

/// A gate that is exactly zero on what is not worth keeping.
///
/// `l = tanh(x G) w + b`, and a token is written where `l > 0`. In training logistic noise is
/// added to l and the gradient is that of `sigmoid(l)` (straight-through; concrete
/// distribution, arXiv:1611.00712): the noise keeps gates from resting just above zero.
/// A soft gate writes every token with strength `sigmoid(l)`.
#[derive(Module, Debug)]
pub struct WriteGate {
    inner: Param<Tensor<2>>,
    outer: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    kind: GateKind,
}

/// Sizes and choices of a [`WriteGate`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WriteGateConfig {
    /// Width of the hidden layer.
    pub hidden: usize,
    /// Where the bias begins.
    pub bias: f32,
    /// Hard or soft.
    pub kind: GateKind,
}

/// What a write gate says of each token.
#[derive(Clone, Debug)]
pub struct WriteGates {
    /// `[batch, tokens]`, without noise.
    pub logits: Tensor<2>,
    /// `[batch, tokens]`: 1 or 0, under autodiff with the gradient of the sigmoid; of a soft
    /// gate the strength.
    pub open: Tensor<2>,
    /// What was compared with zero, on the host; of a soft gate infinite.
    pub(super) ranks: Vec<f32>,
}

impl WriteGate {
    /// A gate over rows of `dim`.
    pub fn new(dim: usize, config: WriteGateConfig, initial: &mut Initial) -> Self {
        Self {
            inner: initial.matrix(dim, config.hidden, 1.0),
            outer: initial.matrix(config.hidden, 1, 1.0),
            bias: initial.constant([1], config.bias),
            kind: config.kind,
        }
    }

    /// A gate that lets everything through, or nothing: the controls of an experiment.
    pub fn force(&mut self, open: bool) {
        let bias = if open { 1e6 } else { -1e6 };
        let device = self.bias.val().device();
        self.bias = Param::from_tensor(Tensor::full([1], bias, &device));
    }

    /// # Shapes
    /// - `rows`: `[batch, tokens, dim]`
    pub fn forward(&self, rows: Tensor<3>, noise: Option<&mut GateNoise>) -> WriteGates {
        let [batch, tokens, _] = rows.dims();
        let hidden = project(rows, self.inner.val()).tanh();
        let logits = project(hidden, self.outer.val()).reshape([batch, tokens])
            + self.bias.val().reshape([1, 1]);
        if self.kind == GateKind::Soft {
            return WriteGates {
                open: sigmoid(logits.clone()),
                logits,
                ranks: vec![f32::INFINITY; batch * tokens],
            };
        }
        let noisy = match noise {
            Some(noise) => logits.clone() + noise.draw([batch, tokens], &logits),
            None => logits.clone(),
        };
        let hard = (noisy.clone().inner())
            .greater_elem(0.0)
            .float()
            .cast(noisy.dtype());
        let ranks = crate::ops::host_floats(noisy.clone().inner());
        let open = match noisy.is_autodiff() {
            true => {
                let soft = sigmoid(noisy);
                // The value of the first, the gradient of the second.
                hard - soft.clone().inner() + soft
            }
            false => hard,
        };
        WriteGates {
            logits,
            open,
            ranks,
        }
    }
}
