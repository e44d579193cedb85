//! What a sparse read and a sparse write take and give.

use burn::tensor::{Int, Tensor};

use crate::miras::RetentionGate;

/// The active channels of some tokens.
#[derive(Clone, Debug)]
pub struct ActiveChannels {
    /// `[tokens, active]`, ascending in each row.
    pub indices: Tensor<2, Int>,
    /// `[tokens, active]`. Of a sparse memory: unit energy in each row, or all zero where no
    /// activation was positive.
    pub features: Tensor<2>,
}

/// What decides whether and how a token is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WriteRule {
    /// Fraction of the error that a write removes, per unit of feature energy.
    pub step_size: f32,
    /// Divide the step by the features' energy; not needed where that is one.
    pub normalise: bool,
    /// Relative error above which a token is written.
    pub surprise_threshold: f32,
    /// What the written coordinates keep.
    pub retention_gate: RetentionGate,
}

impl WriteRule {
    /// Smoothed surprise after a token, and what the token's write keeps.
    pub(crate) fn forget(&self, smoothed: f32, surprise: f32) -> (f32, f32) {
        match self.retention_gate {
            RetentionGate::SurpriseSigmoid(gate) => {
                let smoothed = gate.smoothing * smoothed + (1.0 - gate.smoothing) * surprise;
                (smoothed, 1.0 - gate.forgotten(smoothed))
            }
            _ => (smoothed, 1.0),
        }
    }
}

/// The result of a write.
#[derive(Clone, Debug)]
pub struct Written {
    /// `[channels, value_dim]`.
    pub weights: Tensor<2>,
    /// Smoothed surprise after the last token.
    pub smoothed_surprise: f32,
    /// Relative error of each token before its own write.
    pub surprise: Vec<f32>,
    /// How many tokens were written.
    pub tokens_written: usize,
    /// Rows of the weights that changed, ascending.
    pub touched_rows: Vec<u32>,
}
