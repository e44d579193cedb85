//! Named configurations, each with its source and its reasons.

use std::fmt;
use std::str::FromStr;

use super::{
    AttentionalBias, LearningAlgorithm, MemoryArchitecture, MirasConfig, NormalisedStep,
    RetentionGate, SparseChannelMlp, SurpriseSigmoid,
};
use crate::error::ConfigError;
use crate::memory::MemoryConfig;

/// A named configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preset {
    /// Sparse channels, surprise threshold, normalised step, forgetting on the written
    /// coordinates only: the default.
    ///
    /// Keys and values of 64 numbers, 8192 channels of which 64 are active: 2^20
    /// parameters, half of them learned. Threshold 0.6, because a haystack sentence that
    /// was read once predicts itself to about half of its norm. Measured recall: see the
    /// table in the README, made by `cargo run --release --example needle -- --full`.
    #[default]
    Sparse,
}

impl Preset {
    /// Every preset that this build has.
    pub const ALL: &'static [Self] = &[Self::Sparse];

    /// The name by which it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sparse => "sparse",
        }
    }

    /// The configuration, with its default sizes.
    pub fn config(self) -> MemoryConfig {
        match self {
            Self::Sparse => MemoryConfig {
                key_dim: 64,
                value_dim: 64,
                seed: 0,
                miras: MirasConfig {
                    architecture: MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
                        channels: 8192,
                        active_channels: 64,
                    }),
                    attentional_bias: AttentionalBias::L2,
                    retention_gate: RetentionGate::SurpriseSigmoid(SurpriseSigmoid {
                        gain: 0.8,
                        offset: 9.0,
                    }),
                    learning_algorithm: LearningAlgorithm::NormalisedStep(NormalisedStep {
                        step_size: 1.0,
                        surprise_threshold: 0.6,
                        momentum_decay: 0.9,
                    }),
                },
            },
        }
    }
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
