//! Keep, wait or go back: a pure function of what the probes have shown.

/// Hits among the probes that both the last known good memory and the one after it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Probes that were put to both.
    pub(crate) probes: u64,
    /// Hits of the last known good memory.
    pub(crate) good: u64,
    /// Hits of the memory that is looked at.
    pub(crate) now: u64,
}

/// What is to be done with a memory that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the last known good one from now on.
    Keep,
    /// It dropped, and the probes are too few to believe it at once.
    Wait,
    /// It dropped for certain.
    GoBack,
}

/// Below this, nothing is judged.
const FEWEST: u64 = 50;
/// At 90 % recall and 400 probes a score is known to 1.5 points, a difference of two
/// independent ones to 2.1: one drop of more than 5 points is believed.
const ENOUGH: u64 = 400;

/// The verdict on the newest of some memories in a row, none of which was kept before it.
pub(crate) fn verdict(since_good: &[Comparison], max_drop: f32) -> Verdict {
    let Some((newest, before)) = since_good.split_last() else {
        return Verdict::Keep;
    };
    if newest.probes < FEWEST || !newest.is_drop(max_drop) {
        return Verdict::Keep;
    }
    let is_second = before.last().is_some_and(|before| before.is_drop(max_drop));
    match newest.probes >= ENOUGH || is_second {
        true => Verdict::GoBack,
        false => Verdict::Wait,
    }
}

impl Comparison {
    /// Whether recall fell by more than `max_drop`, a fraction of the probes.
    pub(crate) fn is_drop(&self, max_drop: f32) -> bool {
        let lost = self.good.saturating_sub(self.now) as f64;
        lost > f64::from(max_drop) * self.probes as f64
    }
}

/// Rollbacks within this many looks are a loop.
const LOOP_LOOKS: u64 = 10;

/// Whether a rollback at look `now` is the second within ten looks: the stream, not an
/// accident, takes recall away, and going back would never end.
pub(crate) fn is_loop(last_rollback: Option<u64>, now: u64) -> bool {
    last_rollback.is_some_and(|last| now.saturating_sub(last) < LOOP_LOOKS)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    const MAX_DROP: f32 = 0.05;

    fn of(probes: u64, good: u64, now: u64) -> Comparison {
        Comparison { probes, good, now }
    }

    #[test]
    fn a_drop_is_believed_with_enough_probes_or_twice_in_a_row() {
        let judge = |history: &[Comparison]| verdict(history, MAX_DROP);
        assert_eq!(judge(&[]), Verdict::Keep);
        assert_eq!(
            judge(&[of(400, 380, 360)]),
            Verdict::Keep,
            "exactly 5 points"
        );
        assert_eq!(judge(&[of(400, 380, 359)]), Verdict::GoBack);
        assert_eq!(judge(&[of(399, 380, 300)]), Verdict::Wait);
        assert_eq!(
            judge(&[of(399, 380, 300), of(399, 380, 300)]),
            Verdict::GoBack
        );
        assert_eq!(
            judge(&[of(399, 380, 300), of(399, 380, 379)]),
            Verdict::Keep
        );
        assert_eq!(
            judge(&[of(49, 49, 0), of(49, 49, 0)]),
            Verdict::Keep,
            "too few"
        );
        assert_eq!(judge(&[of(400, 300, 390)]), Verdict::Keep, "it rose");
        assert!(is_loop(Some(5), 14) && !is_loop(Some(5), 15) && !is_loop(None, 0));
    }

    /// How often a memory is sent back whose every probe is answered with probability
    /// `recall`, beside a last known good one of 90 %.
    fn sent_back(recall: f64, paired: bool, trials: u64) -> f64 {
        let mut rng = StdRng::seed_from_u64(7);
        let mut count = 0;
        for _ in 0..trials {
            let mut comparison = of(400, 0, 0);
            for _ in 0..400 {
                let luck = rng.random::<f64>();
                let other = if paired { luck } else { rng.random::<f64>() };
                comparison.good += u64::from(luck < 0.9);
                comparison.now += u64::from(other < recall);
            }
            count += u64::from(verdict(&[comparison], MAX_DROP) == Verdict::GoBack);
        }
        count as f64 / trials as f64
    }

    #[test]
    fn ten_points_are_caught_and_none_is_no_alarm() {
        // The two scores drawn independently, which is worse than the same items twice.
        let (caught, false_alarms) = (sent_back(0.8, false, 4000), sent_back(0.9, false, 4000));
        println!("independent: caught {caught}, false alarms {false_alarms}");
        assert!(
            caught >= 0.97 && false_alarms <= 0.015,
            "{caught} {false_alarms}"
        );
        let (caught, false_alarms) = (sent_back(0.8, true, 4000), sent_back(0.9, true, 4000));
        println!("the same items: caught {caught}, false alarms {false_alarms}");
        assert!(
            caught >= 0.99 && false_alarms <= 0.01,
            "{caught} {false_alarms}"
        );
    }
}
