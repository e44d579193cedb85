//! What was measured of one model at one task and length.

use std::time::Duration;

use titans_needle::Hits;

use crate::measure::Measured;

/// All texts of one task and length, read by one model.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) model: String,
    pub(crate) task: &'static str,
    pub(crate) haystack: String,
    pub(crate) tokens: usize,
    pub(crate) texts: Vec<Measured>,
    /// Bytes of state that this length would need, where it was not run.
    pub(crate) computed_bytes: Option<u64>,
}

impl Row {
    pub(crate) fn recall(&self) -> Hits {
        let answers = self.texts.iter().flat_map(|text| &text.answers);
        Hits::of(answers.map(|answer| answer.is_right()))
    }

    pub(crate) fn sum(&self, of: impl Fn(&Measured) -> usize) -> usize {
        self.texts.iter().map(of).sum()
    }

    pub(crate) fn tokens_per_second(&self) -> Option<f64> {
        let seconds: f64 = self.texts.iter().map(|t| t.reading.as_secs_f64()).sum();
        (seconds > 0.0).then(|| self.sum(|text| text.tokens) as f64 / seconds)
    }

    pub(crate) fn state_bytes(&self) -> u64 {
        let measured = self.texts.iter().map(|text| text.state_bytes as u64).max();
        measured.or(self.computed_bytes).unwrap_or(0)
    }

    fn first_tokens(&self) -> Vec<Duration> {
        let answers = self.texts.iter().flat_map(|text| &text.answers);
        let mut all: Vec<Duration> = answers.map(|answer| answer.first_token).collect();
        all.sort_unstable();
        all
    }

    /// Milliseconds to the first token of an answer.
    pub(crate) fn first_token_ms(&self, share: f64) -> Option<f64> {
        quantile(&self.first_tokens(), share)
    }

    pub(crate) fn per_token_ms(&self) -> Option<f64> {
        let answers = self.texts.iter().flat_map(|text| &text.answers);
        let mut all: Vec<Duration> = answers
            .flat_map(|answer| answer.per_token.clone())
            .collect();
        all.sort_unstable();
        quantile(&all, 0.5)
    }
}

/// The value under which so many of some ascending durations lie, in milliseconds.
fn quantile(ascending: &[Duration], share: f64) -> Option<f64> {
    let index = (share * ascending.len().saturating_sub(1) as f64).round() as usize;
    ascending
        .get(index)
        .map(|duration| duration.as_secs_f64() * 1e3)
}
