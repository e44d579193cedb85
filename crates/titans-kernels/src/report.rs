//! What a write tells the host, in one copy.

/// The report of one memory: the surprises as bits, the smoothed surprise as bits, the
/// number of tokens written, then one bit for each channel, set where its row changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    pub(crate) surprise: Vec<f32>,
    pub(crate) smoothed_surprise: f32,
    pub(crate) tokens_written: usize,
    /// Ascending.
    pub(crate) touched_rows: Vec<u32>,
}

/// Words of a report.
pub(crate) fn words(tokens: usize, channels: usize) -> usize {
    tokens + 2 + channels.div_ceil(32)
}

impl Report {
    /// # Panics
    /// If there are not as many words as [`words`] says.
    pub(crate) fn decode(report: &[i32], tokens: usize, channels: usize) -> Self {
        assert_eq!(report.len(), words(tokens, channels), "words of a report");
        let float = |word: &i32| f32::from_bits(*word as u32);
        let touched = &report[tokens + 2..];
        Self {
            surprise: report[..tokens].iter().map(float).collect(),
            smoothed_surprise: float(&report[tokens]),
            tokens_written: report[tokens + 1] as usize,
            touched_rows: (0..channels as u32)
                .filter(|row| touched[*row as usize / 32] as u32 >> (row % 32) & 1 == 1)
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let bits = |number: f32| number.to_bits() as i32;
        let report = [bits(0.5), bits(1e3), bits(-0.0), 1, i32::MIN | 1, 2];
        let read = Report::decode(&report, 2, 35);
        assert_eq!(read.surprise, [0.5, 1e3]);
        assert_eq!(read.smoothed_surprise.to_bits(), (-0.0f32).to_bits());
        assert_eq!(read.tokens_written, 1);
        assert_eq!(read.touched_rows, [0, 31, 33]);
    }
}
