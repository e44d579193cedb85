//! What is known of the recall of a snapshot.

use super::calibration::Calibration;

/// How many of its probes a memory answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeScore {
    /// Pairs of those that it has written, an even sample of the whole stream.
    pub probes: u64,
    /// Those that it recalls: what comes back is closer to the value than to nothing, by
    /// `|recalled - value| <= 0.7 |value|`.
    pub hits: u64,
}

/// What is known of the recall of a snapshot.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) score: ProbeScore,
    pub(super) calibration: Option<Calibration>,
}

impl Watched {
    /// How often recalls like this one were right.
    pub(crate) fn confidence(&self, recalled: &[f32]) -> Option<f32> {
        let calibration = self.calibration.as_ref()?;
        Some(calibration.confidence(strength(recalled)))
    }
}

/// How strong a recall is: nothing is zero.
pub(super) fn strength(recalled: &[f32]) -> f32 {
    recalled.iter().map(|x| x * x).sum::<f32>().sqrt()
}
