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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preset {
    /// Sparse channels, surprise threshold, normalised step, forgetting on the written
    /// coordinates only: the default.
    #[default]
    Sparse,
    /// The five equations of the article, to the letter.
    Article,
    /// The deep memory with momentum and decay (Titans, arXiv:2501.00663).
    Titans,
    /// Robust to outliers (MIRAS, arXiv:2504.13173, eq. 26).
    Yaad,
    /// l3 errors and an l4 norm (MIRAS, eq. 24-25).
    Moneta,
    /// Weights on a simplex (MIRAS, eq. 27).
    Memora,
    /// The exact linear delta rule (DeltaNet; Gated DeltaNet, arXiv:2412.06464).
    Delta,
    /// Large chunks, orthogonalised updates (LaCT, arXiv:2505.23884).
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
