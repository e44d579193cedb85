//! Named configurations, each with its source and its reasons.

use std::fmt;
use std::str::FromStr;

use super::{
    Activation, AttentionalBias, DotProduct, GatedMlp, GradientDescent, Huber, HuberForm, Kl, L2,
    L2Retention, L2Scale, LearningAlgorithm, Lp, Lq, Matrix, MemoryArchitecture, MirasConfig, Mlp,
    Momentum, NewtonSchulz, NewtonSchulzSchedule, NoRetention, NormalisedStep, RetentionGate,
    RetentionTarget, RowNorm, SparseChannelMlp, SurpriseSigmoid, Wrap,
};
use crate::error::ConfigError;
use crate::memory::{ForgetScope, GateSpan, MemoryConfig, Reduction, SparseGate, UpdateConfig};

/// A named configuration.
///
/// The recall figures are those of `cargo run --release -p titans-bench --bin recall`, seed 1,
/// for keys and values of length one and width 64: *one-shot* is how many pairs, each written
/// once, are told apart with 50 % recall; *stream* is how many pairs of an endless stream are
/// recalled at its end (of 8192, values from 1024 candidates, chance taken off). The whole
/// table is in `docs/recall.md`. They are figures of memories as the seed makes them;
/// initial weights, gates and projections that were trained are another matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preset {
    /// Sparse channels, surprise threshold, normalised step, forgetting on the written
    /// coordinates only: the default.
    ///
    /// ```text
    /// f_t   = top-64 of relu(k_t E), divided by its norm
    /// W[j] <- retention W[j] + f_tj (v_t - f_t W)   if ||v_t - f_t W|| > 0.6 ||v_t||
    /// ```
    ///
    /// Every ingredient of the article in the reading under which it works. 8192 channels of
    /// which 64 are active: 2^20 parameters, half of them learned. Step 1 stores a pair at
    /// once, so that a repeated one is known and not written again: 1.6 % of a stream of
    /// repeating associations is written, and 64 of 64 needles are recalled at 65536 tokens.
    /// Threshold 0.6, because a haystack sentence that was read once predicts itself to
    /// about half of its norm. Offset 9 forgets 0.01 % of a written row.
    ///
    /// One-shot 12 709; stream 6855. With step 0.3 it is 22 182 and 8100, but twice as much
    /// is written. `delta` with as many learned parameters (and keys 724 wide) holds 7851.
    #[default]
    Sparse,
    /// The five equations of the article, to the letter.
    ///
    /// ```text
    /// s     = ||gradient of the mean loss over 4096 tokens||
    /// S    <- 0.9 S + 0.1 s
    /// alpha = sigmoid(0.8 S - 0.2)
    /// g~    = the 2 % of the gradient's elements that are largest
    /// W    <- (1 - alpha) W - 1e-4 g~
    /// ```
    ///
    /// Three layers, 960 wide: 2^20 parameters. Tokens whose relative error is at most 0.15
    /// are left out. Since alpha is never under 0.45, every update throws away almost half
    /// of the memory, and a mean gradient times 1e-4 writes next to nothing.
    ///
    /// One-shot 0 (1.6 % of 64 pairs, which is chance); stream 0; needles 0 of 64. Kept for
    /// comparison.
    Article,
    /// The deep memory with momentum and decay (Titans, arXiv:2501.00663, eq. 13-14).
    ///
    /// ```text
    /// S_t = 0.5 S_(t-1) - 0.1 g_t;   W_t = 0.999 W_(t-1) + S_t      g_t of ||M(k) - v||^2
    /// ```
    ///
    /// Two layers with expansion 4, gradients at the start of every 16 tokens. The paper
    /// gives no gates; step 0.1 with momentum 0.5 recalls most of a grid of steps 0.003 to 10
    /// and decays 0, 0.5 and 0.9, where decay 0.9 asks for a step of 0.01. Plain around the
    /// layers: with the normalisation and residual of later papers recall is zero until
    /// projections are trained to it.
    ///
    /// One-shot 290; stream 15 (143 of 512): what is not trained forgets fast.
    Titans,
    /// Robust to outliers (MIRAS, arXiv:2504.13173, eq. 26).
    ///
    /// ```text
    /// W_t = 0.999 W_(t-1) - 0.3 (e_t if ||e_t|| <= 3, else 3 sign(e_t)) k_t^T, through the layers
    /// ```
    ///
    /// The layers and updates of [`Titans`](Self::Titans). Threshold 3, because errors of
    /// values of length one stay under it: at 1 the memory meets its l1 side in ordinary
    /// interference and holds a third less.
    ///
    /// One-shot 319; stream 17 (143 of 512).
    Yaad,
    /// l3 errors and an l4 norm (MIRAS, eq. 24-25).
    ///
    /// ```text
    /// A_t = 0.9999 A_(t-1) - 0.9 g_t of sum |e|^3;   W = A / ||A||_4^2
    /// ```
    ///
    /// The layers and updates of [`Titans`](Self::Titans). Retention 0.9999 and step 0.9 as
    /// a grid chose them; retention 1 recalls the same.
    ///
    /// One-shot 265; stream 10 (89 of 512).
    Moneta,
    /// Weights on a simplex (MIRAS, eq. 27).
    ///
    /// ```text
    /// A_t = 0.9999 A_(t-1) - 0.09 g_t of ||M(k) - v||^2;   W = softmax(A) over inputs
    /// ```
    ///
    /// Two layers and a normalisation without residual: positive weights that sum to one
    /// cannot give values of both signs, and the normalisation takes their mean away. Mass 1
    /// and step 0.09 as a grid chose them; without the normalisation a tenth is recalled.
    ///
    /// One-shot 302; stream 44 (134 of 512).
    Memora,
    /// The exact linear delta rule (DeltaNet; Gated DeltaNet, arXiv:2412.06464).
    ///
    /// ```text
    /// W <- W + 0.3 k^T (v - k W) / ||k||^2
    /// ```
    ///
    /// Step 0.3 is `e ln M / value_dim` for M = 1024 candidates, where theory puts the most
    /// recallable age; step 1 is the better choice only if keys repeat and values change.
    ///
    /// One-shot 320 (`n ln n = P / 2` gives 350); stream 138 (`0.24 P / ln M` gives 142).
    Delta,
    /// Large chunks, orthogonalised updates (LaCT, arXiv:2505.23884).
    ///
    /// ```text
    /// S <- 0.9 S - 0.001 sum of g_t over 2048 tokens      g_t of -M(k) . v
    /// W <- row norms of W_0 restored on W + NS5(S)
    /// ```
    ///
    /// A SwiGLU memory, 256 wide. The step inside S sets proportions only. Everything is
    /// written with equal strength, so each chunk shrinks what came before it.
    ///
    /// One-shot 1299; stream 145 (500 of 2048).
    Lact,
}

impl Preset {
    /// Every preset that this build has.
    pub const ALL: &'static [Self] = &[
        Self::Sparse,
        Self::Article,
        Self::Titans,
        Self::Yaad,
        Self::Moneta,
        Self::Memora,
        Self::Delta,
        Self::Lact,
    ];

    /// The name by which it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sparse => "sparse",
            Self::Article => "article",
            Self::Titans => "titans",
            Self::Yaad => "yaad",
            Self::Moneta => "moneta",
            Self::Memora => "memora",
            Self::Delta => "delta",
            Self::Lact => "lact",
        }
    }

    /// The configuration, with its default sizes.
    pub fn config(self) -> MemoryConfig {
        let (miras, update) = match self {
            Self::Sparse => sparse(),
            Self::Article => article(),
            Self::Titans => titans(),
            Self::Yaad => yaad(),
            Self::Moneta => moneta(),
            Self::Memora => memora(),
            Self::Delta => delta(),
            Self::Lact => lact(),
        };
        MemoryConfig {
            key_dim: 64,
            value_dim: 64,
            seed: 0,
            miras,
            update,
        }
    }
}

fn sparse() -> (MirasConfig, UpdateConfig) {
    (
        MirasConfig {
            architecture: MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
                channels: 8192,
                active_channels: 64,
            }),
            attentional_bias: AttentionalBias::L2(L2 {
                scale: L2Scale::Half,
            }),
            retention_gate: RetentionGate::SurpriseSigmoid(SurpriseSigmoid {
                gain: 0.8,
                offset: 9.0,
                smoothing: 0.9,
            }),
            learning_algorithm: LearningAlgorithm::NormalisedStep(NormalisedStep {
                step_size: 1.0,
            }),
        },
        UpdateConfig {
            surprise_threshold: 0.6,
            forget_scope: ForgetScope::Written,
            ..UpdateConfig::default()
        },
    )
}

fn article() -> (MirasConfig, UpdateConfig) {
    (
        MirasConfig {
            architecture: MemoryArchitecture::Mlp(Mlp {
                depth: 3,
                hidden: 960,
                activation: Activation::Gelu,
                wrap: Wrap::Plain,
            }),
            attentional_bias: AttentionalBias::L2(L2 {
                scale: L2Scale::Sum,
            }),
            retention_gate: RetentionGate::SurpriseSigmoid(SurpriseSigmoid {
                gain: 0.8,
                offset: 0.2,
                smoothing: 0.9,
            }),
            learning_algorithm: LearningAlgorithm::GradientDescent(GradientDescent {
                step_size: 1e-4,
            }),
        },
        UpdateConfig {
            update_size: 4096,
            gate_span: GateSpan::PerUpdate,
            reduction: Reduction::Mean,
            surprise_threshold: 0.15,
            sparse_gate: SparseGate::Elements { ratio: 0.02 },
            forget_scope: ForgetScope::Dense,
            ..UpdateConfig::default()
        },
    )
}

/// Two layers, expansion 4: the memory of the MIRAS models, without the normalisation and
/// residual around it. `LN(h)` has norm `sqrt(value_dim)` whatever the value is; trained
/// projections grow used to that, but values as they come do not fit, and recall is zero.
fn two_layers() -> MemoryArchitecture {
    MemoryArchitecture::Mlp(Mlp {
        depth: 2,
        hidden: 256,
        activation: Activation::Gelu,
        wrap: Wrap::Plain,
    })
}

fn titans() -> (MirasConfig, UpdateConfig) {
    (
        MirasConfig {
            architecture: two_layers(),
            attentional_bias: AttentionalBias::L2(L2 {
                scale: L2Scale::Sum,
            }),
            retention_gate: RetentionGate::L2(L2Retention {
                retention: 0.999,
                target: RetentionTarget::Zero,
            }),
            learning_algorithm: LearningAlgorithm::Momentum(Momentum {
                step_size: 0.1,
                momentum_decay: 0.5,
                second_momentum_decay: None,
            }),
        },
        UpdateConfig {
            update_size: 16,
            ..UpdateConfig::default()
        },
    )
}

fn yaad() -> (MirasConfig, UpdateConfig) {
    (
        MirasConfig {
            architecture: two_layers(),
            attentional_bias: AttentionalBias::Huber(Huber {
                threshold: 3.0,
                form: HuberForm::TokenSwitch,
            }),
            retention_gate: RetentionGate::L2(L2Retention {
                retention: 0.999,
                target: RetentionTarget::Zero,
            }),
            learning_algorithm: LearningAlgorithm::GradientDescent(GradientDescent {
                step_size: 0.3,
            }),
        },
        UpdateConfig {
            update_size: 16,
            ..UpdateConfig::default()
        },
    )
}

fn moneta() -> (MirasConfig, UpdateConfig) {
    (
        MirasConfig {
            architecture: two_layers(),
            attentional_bias: AttentionalBias::Lp(Lp { power: 3.0 }),
            retention_gate: RetentionGate::Lq(Lq {
                retention: 0.9999,
                power: 4.0,
            }),
            learning_algorithm: LearningAlgorithm::GradientDescent(GradientDescent {
                step_size: 0.9,
            }),
        },
        UpdateConfig {
            update_size: 16,
            ..UpdateConfig::default()
        },
    )
}

fn memora() -> (MirasConfig, UpdateConfig) {
    (
        MirasConfig {
            // The normalisation stays: it gives the positive sums of a simplex a sign.
            architecture: MemoryArchitecture::Mlp(Mlp {
                depth: 2,
                hidden: 256,
                activation: Activation::Gelu,
                wrap: Wrap::Norm,
            }),
            attentional_bias: AttentionalBias::L2(L2 {
                scale: L2Scale::Sum,
            }),
            retention_gate: RetentionGate::Kl(Kl {
                retention: 0.9999,
                mass: 1.0,
            }),
            learning_algorithm: LearningAlgorithm::GradientDescent(GradientDescent {
                step_size: 0.09,
            }),
        },
        UpdateConfig {
            update_size: 16,
            ..UpdateConfig::default()
        },
    )
}

fn delta() -> (MirasConfig, UpdateConfig) {
    (
        MirasConfig {
            architecture: MemoryArchitecture::Matrix(Matrix { wrap: Wrap::Plain }),
            attentional_bias: AttentionalBias::L2(L2 {
                scale: L2Scale::Half,
            }),
            retention_gate: RetentionGate::None(NoRetention),
            learning_algorithm: LearningAlgorithm::NormalisedStep(NormalisedStep {
                step_size: 0.3,
            }),
        },
        UpdateConfig::default(),
    )
}

fn lact() -> (MirasConfig, UpdateConfig) {
    (
        MirasConfig {
            architecture: MemoryArchitecture::GatedMlp(GatedMlp {
                hidden: 256,
                activation: Activation::Silu,
                wrap: Wrap::Plain,
            }),
            attentional_bias: AttentionalBias::DotProduct(DotProduct),
            retention_gate: RetentionGate::RowNorm(RowNorm),
            learning_algorithm: LearningAlgorithm::NewtonSchulz(NewtonSchulz {
                momentum: Momentum {
                    step_size: 1e-3,
                    momentum_decay: 0.9,
                    second_momentum_decay: None,
                },
                schedule: NewtonSchulzSchedule::Lact,
            }),
        },
        UpdateConfig {
            update_size: 2048,
            gate_span: GateSpan::PerUpdate,
            ..UpdateConfig::default()
        },
    )
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Preset {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|preset| preset.name() == text)
            .ok_or_else(|| ConfigError::UnknownPreset {
                name: text.to_owned(),
                known: Self::ALL
                    .iter()
                    .map(|preset| preset.name())
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for preset in Preset::ALL {
            assert_eq!(preset.name().parse(), Ok(*preset));
        }
    }

    #[test]
    fn the_default_memory_has_at_most_two_to_the_twenty_parameters() {
        assert!(Preset::Sparse.config().parameters() <= 1 << 20);
    }
}
