//! How often a recall of some strength is right.

use std::collections::VecDeque;

/// Recalls of which the answer is known that are remembered.
const REMEMBERED: usize = 2048;
/// Right and wrong ones without which nothing is said.
const FEWEST: usize = 25;

/// Recalls of which the answer is known, the newest ones.
#[derive(Debug, Default)]
pub(crate) struct Outcomes(VecDeque<Outcome>);

#[derive(Clone, Copy, Debug)]
struct Outcome {
    strength: f32,
    right: bool,
}

/// The fraction of right recalls as a function of their strength that never falls:
/// the least-squares fit of that kind (pool adjacent violators).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Calibration {
    /// Strength from which on the fraction holds, ascending in both.
    steps: Vec<(f32, f32)>,
}

impl Outcomes {
    pub(crate) fn push(&mut self, strength: f32, right: bool) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(Outcome { strength, right });
    }

    /// The fit, if there are enough outcomes of both kinds.
    pub(crate) fn calibration(&self) -> Option<Calibration> {
        let right = self.0.iter().filter(|outcome| outcome.right).count();
        if right < FEWEST || self.0.len() - right < FEWEST {
            return None;
        }
        let mut outcomes: Vec<_> = self.0.iter().copied().collect();
        outcomes.sort_by(|a, b| a.strength.total_cmp(&b.strength));
        // Blocks of first strength, right ones, all.
        let mut blocks: Vec<(f32, f64, f64)> = Vec::new();
        for outcome in outcomes {
            blocks.push((outcome.strength, f64::from(u8::from(outcome.right)), 1.0));
            while let [.., (_, right, all), (_, next_right, next_all)] = blocks[..]
                && right * next_all >= next_right * all
            {
                blocks.pop();
                if let Some(last) = blocks.last_mut() {
                    (last.1, last.2) = (right + next_right, all + next_all);
                }
            }
        }
        let step = |(strength, right, all)| (strength, (right / all) as f32);
        Some(Calibration {
            steps: blocks.into_iter().map(step).collect(),
        })
    }
}

impl Calibration {
    /// How often a recall of this strength was right.
    pub(crate) fn confidence(&self, strength: f32) -> f32 {
        let above = self.steps.partition_point(|(from, _)| *from <= strength);
        match above.checked_sub(1) {
            Some(step) => self.steps[step].1,
            // Weaker than all that were seen.
            None => 0.0,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    #[test]
    fn the_fit_is_the_fraction_that_was_right() {
        let mut rng = StdRng::seed_from_u64(5);
        let mut draw = |outcomes: &mut Outcomes| {
            let strength: f32 = rng.random();
            outcomes.push(strength, rng.random::<f32>() < strength * strength);
        };
        let mut outcomes = Outcomes::default();
        for _ in 0..3000 {
            draw(&mut outcomes);
        }
        assert_eq!(outcomes.0.len(), REMEMBERED);
        let fit = outcomes.calibration().unwrap();
        assert!(
            fit.steps
                .windows(2)
                .all(|s| s[0].0 <= s[1].0 && s[0].1 < s[1].1)
        );
        for strength in [0.1_f32, 0.3, 0.5, 0.7, 0.9] {
            let error = fit.confidence(strength) - strength * strength;
            assert!(error.abs() < 0.15, "{strength}: {error}");
        }
        // Reliability on outcomes that it has not seen: what is said and what happens.
        let mut unseen = Outcomes::default();
        (0..2000).for_each(|_| draw(&mut unseen));
        let mut bins = [(0.0_f64, 0.0_f64, 0.0_f64); 5];
        for outcome in &unseen.0 {
            let said = f64::from(fit.confidence(outcome.strength));
            let bin = &mut bins[((said * 5.0) as usize).min(4)];
            *bin = (
                bin.0 + said,
                bin.1 + f64::from(u8::from(outcome.right)),
                bin.2 + 1.0,
            );
        }
        let gap: f64 = bins
            .iter()
            .map(|(said, right, _)| (said - right).abs())
            .sum();
        assert!(gap / 2000.0 < 0.05, "{bins:?}");
    }

    #[test]
    fn nothing_is_said_without_both_kinds() {
        let mut outcomes = Outcomes::default();
        for n in 0..100 {
            outcomes.push(n as f32, true);
        }
        assert!(outcomes.calibration().is_none());
        for n in 0..FEWEST {
            outcomes.push(-(n as f32), false);
        }
        let fit = outcomes.calibration().unwrap();
        assert_eq!((fit.confidence(-5.0), fit.confidence(50.0)), (0.0, 1.0));
        assert_eq!(fit.confidence(f32::NEG_INFINITY), 0.0);
    }
}
