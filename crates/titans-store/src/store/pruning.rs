//! Which old files go: a pure function over lists.

use super::generation::{Generation, JournalName};

/// What a folder holds, by numbers.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    /// Numbered files. Pinned ones have other names and never appear here.
    pub(super) bases: Vec<Generation>,
    /// Journals with the generations of their records.
    pub(super) journals: Vec<(JournalName, Vec<Generation>)>,
}

/// Files that nothing needs any more.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Expired {
    pub(super) bases: Vec<Generation>,
    pub(super) journals: Vec<JournalName>,
}

impl Holdings {
    /// What lies beyond the newest generation and `keep_old` before it.
    ///
    /// Where there are journals two bases stay, with the journals between them: should the
    /// newer base turn out to be damaged, the older one and the journal lead to the same
    /// state. A journal goes with the base it follows.
    pub(super) fn expired(&self, keep_old: usize) -> Expired {
        let mut bases = self.bases.clone();
        bases.sort_unstable_by(|a, b| b.cmp(a));
        let least = match self.journals.is_empty() {
            true => 1,
            false => 2.min(keep_old.saturating_add(1)),
        };
        let enough = |kept: &usize| {
            let oldest = kept.checked_sub(1).and_then(|last| bases.get(last));
            let generations = oldest.map_or(0, |&oldest| self.generations_from(oldest));
            *kept >= least && generations > keep_old
        };
        let kept = (1..bases.len()).find(enough).unwrap_or(bases.len());
        let gone = bases.split_off(kept);
        let oldest = bases.last().copied().unwrap_or(Generation::new(0));
        let journals = self.journals.iter().map(|(name, _)| *name);
        Expired {
            bases: gone,
            journals: journals.filter(|name| name.base < oldest).collect(),
        }
    }

    /// How many generations stay if `oldest` is the oldest base that does.
    fn generations_from(&self, oldest: Generation) -> usize {
        let records = self.journals.iter().filter(|(name, _)| name.base >= oldest);
        let records = records.flat_map(|(_, generations)| generations);
        let bases = self.bases.iter().filter(|&&base| base >= oldest);
        let mut all: Vec<_> = records.chain(bases).collect();
        all.sort_unstable();
        all.dedup();
        all.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generations(numbers: &[u64]) -> Vec<Generation> {
        numbers.iter().copied().map(Generation::new).collect()
    }

    #[test]
    fn the_newest_always_stays() {
        let holdings = Holdings {
            bases: generations(&[5, 1, 9, 3]),
            journals: Vec::new(),
        };
        assert_eq!(holdings.expired(0).bases, generations(&[5, 3, 1]));
        assert_eq!(holdings.expired(2).bases, generations(&[1]));
        assert_eq!(holdings.expired(usize::MAX), Expired::default());
        assert_eq!(Holdings::default().expired(0), Expired::default());
    }

    #[test]
    fn with_journals_two_bases_stay_and_records_count() {
        let journal = |base, records: &[u64]| {
            let base = Generation::new(base);
            (JournalName { base, epoch: 1 }, generations(records))
        };
        let holdings = Holdings {
            bases: generations(&[1, 4, 9]),
            journals: vec![
                journal(1, &[2, 3, 4]),
                journal(4, &[5, 6, 7, 8, 9]),
                journal(9, &[]),
            ],
        };
        let expired = holdings.expired(3);
        assert_eq!(expired.bases, generations(&[1]));
        assert_eq!(expired.journals, [holdings.journals[0].0]);
        assert_eq!(holdings.expired(0).bases, generations(&[4, 1]));
        assert_eq!(holdings.expired(6), Expired::default());
    }
}
