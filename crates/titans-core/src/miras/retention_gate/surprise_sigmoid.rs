//! Forgetting driven by the smoothed surprise of the stream.

use crate::error::{ConfigError, in_range};

/// `forgotten = sigmoid(gain * smoothed_surprise - offset)`.
///
/// The article sets gain 0.8 and offset 0.2 and decays every weight, which forgets at
/// least 45 % of the memory per update. Here only the *written* coordinates decay, and
/// the offset is large enough that next to nothing is forgotten at rest: what is not
/// written again does not drift.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SurpriseSigmoid {
    /// Slope against the smoothed surprise.
    pub gain: f32,
    /// Subtracted before the sigmoid; 9 forgets 0.01 % at zero surprise.
    pub offset: f32,
}

impl SurpriseSigmoid {
    pub(crate) const NAME: &'static str = "surprise-sigmoid";

    pub(crate) fn forgotten(&self, smoothed_surprise: f32) -> f32 {
        1.0 / (1.0 + (self.offset - self.gain * smoothed_surprise).exp())
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        in_range("gain", self.gain, "a number >= 0", |gain| gain >= 0.0)?;
        in_range("offset", self.offset, "a finite number", |_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_articles_constants_forget_almost_half_at_rest() {
        let article = SurpriseSigmoid {
            gain: 0.8,
            offset: 0.2,
        };
        // sigmoid(-0.2), computed by hand in float64.
        assert!((article.forgotten(0.0) - 0.450_166).abs() < 1e-6);
    }

    #[test]
    fn more_surprise_forgets_more() {
        let gate = SurpriseSigmoid {
            gain: 0.8,
            offset: 9.0,
        };
        assert!(gate.forgotten(1.0) > gate.forgotten(0.0));
        assert!(gate.forgotten(1.0) < 3e-4);
    }
}
