//! Counting hits, with the interval that the count allows.

/// How many of how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// How many were asked for.
    pub n: usize,
    /// How many of them were right.
    pub hits: usize,
}

impl Hits {
    /// Counts what was right.
    pub fn of(outcomes: impl IntoIterator<Item = bool>) -> Self {
        let mut counted = Self::default();
        for hit in outcomes {
            counted.n += 1;
            counted.hits += usize::from(hit);
        }
        counted
    }

    /// The fraction of hits; 0 of nothing.
    pub fn rate(self) -> f64 {
        match self.n {
            0 => 0.0,
            n => self.hits as f64 / n as f64,
        }
    }

    /// Wilson's score interval at 95 %, which stays inside 0..1 and is right for rates near
    /// its ends.
    pub fn interval(self) -> (f64, f64) {
        if self.n == 0 {
            return (0.0, 1.0);
        }
        const Z: f64 = 1.959_963_984_540_054;
        let n = self.n as f64;
        let rate = self.rate();
        let scale = 1.0 + Z * Z / n;
        let centre = (rate + Z * Z / (2.0 * n)) / scale;
        let half = Z / scale * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
        ((centre - half).max(0.0), (centre + half).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_textbook() {
        let close = |(low, high): (f64, f64), expected: (f64, f64)| {
            assert!((low - expected.0).abs() < 5e-4, "{low}");
            assert!((high - expected.1).abs() < 5e-4, "{high}");
        };
        // Newcombe 1998, table I: 81 of 263; and the ends, where p = 0 and p = 1.
        close(Hits { n: 263, hits: 81 }.interval(), (0.2553, 0.3662));
        close(Hits { n: 64, hits: 64 }.interval(), (0.9434, 1.0));
        close(Hits { n: 20, hits: 0 }.interval(), (0.0, 0.1611));
        assert_eq!(Hits::default().interval(), (0.0, 1.0));
        assert_eq!(Hits::of([true, false, true]).rate(), 2.0 / 3.0);
    }
}
