//! What is trained in which order.

use std::str::FromStr;

use titans_core::Wiring;
use titans_lm::{SampleConfig, Stage};

/// A named list of stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recipe {
    /// From nothing, on two cores.
    Cpu,
    /// The same on a card: larger batches, longer texts, more facts, more steps.
    Gpu,
    /// Another wiring, from a trained memory.
    Finetune,
    /// Enough to see that it learns.
    Smoke,
}

impl Recipe {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Finetune => "finetune",
            Self::Smoke => "smoke",
        }
    }

    /// The stages. A wiring that reads at every token, or a gate that writes every token,
    /// trains on shorter texts: a key for each is what it costs.
    pub(crate) fn stages(self, wiring: Wiring, writes_everything: bool) -> Vec<Stage> {
        let is_dear = writes_everything || reads_every_token(wiring);
        let long = if is_dear { 384 } else { 768 };
        let stage = |steps, batch, tokens, facts: usize, negatives, rates: (f64, f64)| Stage {
            steps,
            batch,
            samples: SampleConfig {
                tokens,
                facts: 1..=facts,
                reads: 48,
                hard_negatives: negatives,
                word_dropout: 0.2,
                same_subject: 0.15,
                wording_dropout: 0.3,
            },
            learning_rate: rates.0,
            last_learning_rate: rates.1,
        };
        match self {
            Self::Smoke => vec![stage(20, 4, 256, 3, 0.5, (3e-3, 1e-3))],
            Self::Finetune => vec![stage(150, 4, long, long / 96, 0.7, (1e-3, 1e-4))],
            Self::Cpu => vec![
                stage(100, 8, 256, 3, 0.0, (5e-3, 5e-3)),
                stage(80, 8, long, 8, 0.7, (5e-3, 5e-3)),
                stage(80, 8, long, 8, 0.8, (5e-3, 4e-3)),
                stage(100, 8, long, 12, 0.8, (4e-3, 3e-3)),
                stage(80, 4, 2 * long, 32, 0.8, (3e-3, 2e-3)),
                stage(80, 4, 2 * long, 32, 0.9, (2e-3, 1e-3)),
                stage(80, 4, 2 * long, 32, 0.9, (1e-3, 1e-4)),
            ],
            // The last texts have 2048 tokens, or 1024 where each is read or written.
            Self::Gpu => vec![
                stage(200, 32, 256, 3, 0.0, (5e-3, 5e-3)),
                stage(300, 32, long, 8, 0.7, (5e-3, 5e-3)),
                stage(300, 32, long, 12, 0.8, (5e-3, 4e-3)),
                stage(400, 24, 2 * long, 32, 0.8, (4e-3, 3e-3)),
                stage(400, 16, 8 * long / 3, 48, 0.9, (3e-3, 2e-3)),
                stage(300, 16, 8 * long / 3, 48, 0.9, (2e-3, 1e-3)),
                stage(300, 16, 8 * long / 3, 48, 0.9, (1e-3, 1e-4)),
            ],
        }
    }
}

/// Whether a wiring reads its memory at every token: a key for each is what it costs.
pub(crate) fn reads_every_token(wiring: Wiring) -> bool {
    matches!(wiring, Wiring::Mac | Wiring::Mal)
}

impl FromStr for Recipe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Cpu, Self::Gpu, Self::Finetune, Self::Smoke];
        let found = all.into_iter().find(|recipe| recipe.name() == text);
        found.ok_or_else(|| {
            format!("unknown recipe {text:?}; there are cpu, gpu, finetune and smoke")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_stage_is_longer_than_two_thousand_tokens() {
        for recipe in [Recipe::Cpu, Recipe::Gpu, Recipe::Finetune, Recipe::Smoke] {
            assert_eq!(recipe.name().parse(), Ok(recipe));
            for wiring in Wiring::ALL {
                let stages = recipe.stages(*wiring, false);
                assert!(stages.iter().all(|stage| stage.samples.tokens <= 2048));
            }
        }
    }
}
