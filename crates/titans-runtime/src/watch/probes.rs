//! Pairs that were written, kept aside to ask for them later.

use std::ops::Range;

/// A sample of the pairs that a memory has written, every pair equally likely to be in it.
#[derive(Debug)]
pub(crate) struct Probes {
    capacity: usize,
    probes: Vec<Probe>,
    /// Pairs that were written and could have been taken.
    offered: u64,
    random: u64,
}

/// One pair.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Probe {
    pub(crate) key: Vec<f32>,
    pub(crate) value: Vec<f32>,
    /// Where its token stands in the stream.
    pub(crate) position: u64,
    /// Whether the last known good memory recalled it, or, where that is older than the pair,
    /// the one that learned it. `None` if that is not known.
    pub(crate) good: Option<bool>,
}

/// A token that was chosen, and the place that it is to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Which of the offered tokens.
    pub(crate) token: usize,
    place: usize,
}

impl Probes {
    /// An empty sample; `seed` decides what will be in it.
    pub(crate) fn new(capacity: usize, seed: u64) -> Self {
        Self {
            capacity,
            probes: Vec::new(),
            offered: 0,
            random: seed | 1,
        }
    }

    pub(crate) fn all(&self) -> &[Probe] {
        &self.probes
    }

    pub(crate) fn all_mut(&mut self) -> &mut [Probe] {
        &mut self.probes
    }

    /// How many pairs could have been taken so far.
    pub(crate) fn offered(&self) -> u64 {
        self.offered
    }

    /// Chooses among tokens that were written (Vitter's algorithm R). Each place is in the
    /// result at most once, with the last token that is to take it.
    pub(crate) fn choose(&mut self, written: impl Iterator<Item = usize>) -> Vec<Chosen> {
        let mut chosen: Vec<Chosen> = Vec::new();
        for token in written {
            self.offered += 1;
            let place = match self.offered <= self.capacity as u64 {
                true => self.offered - 1,
                false => self.next_random() % self.offered,
            };
            if place < self.capacity as u64 {
                let place = place as usize;
                chosen.retain(|other| other.place != place);
                chosen.push(Chosen { token, place });
            }
        }
        // So that places that are new are filled in their order.
        chosen.sort_by_key(|chosen| chosen.place);
        chosen
    }

    /// Puts a chosen pair in its place.
    pub(crate) fn put(&mut self, chosen: Chosen, probe: Probe) {
        match self.probes.get_mut(chosen.place) {
            Some(place) => *place = probe,
            None => self.probes.push(probe),
        }
    }

    /// Drops the pairs at some positions.
    pub(crate) fn drop_at(&mut self, positions: &Range<u64>) {
        self.probes
            .retain(|probe| !positions.contains(&probe.position));
        // What is left is offered anew, or the places that are free now would stay so.
        self.offered = self.offered.min(self.probes.len() as u64);
    }

    /// Takes back what was written down.
    pub(crate) fn restore(&mut self, probes: Vec<Probe>, offered: u64) {
        self.probes = probes;
        self.probes.truncate(self.capacity);
        self.offered = offered.max(self.probes.len() as u64);
        if self.probes.len() < self.capacity {
            self.offered = self.probes.len() as u64;
        }
    }

    fn next_random(&mut self) -> u64 {
        // Marsaglia's xorshift: that the sample is even is all that is asked of it.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(probes: &mut Probes, positions: Range<u64>) {
        for chosen in probes.choose(0..(positions.end - positions.start) as usize) {
            let probe = Probe {
                key: Vec::new(),
                value: Vec::new(),
                position: positions.start + chosen.token as u64,
                good: None,
            };
            probes.put(chosen, probe);
        }
    }

    #[test]
    fn every_pair_is_as_likely_as_any_other() {
        let mut per_tenth = [0_u32; 10];
        for seed in 0..200 {
            let mut probes = Probes::new(50, seed * 7919 + 1);
            for start in (0..1000).step_by(37) {
                offer(&mut probes, start..(start + 37).min(1000));
            }
            assert_eq!((probes.all().len(), probes.offered()), (50, 1000));
            for probe in probes.all() {
                per_tenth[probe.position as usize / 100] += 1;
            }
        }
        // 1000 expected in each, standard deviation 30.
        assert!(
            per_tenth.iter().all(|n| (850..1150).contains(n)),
            "{per_tenth:?}"
        );
    }

    #[test]
    fn what_a_rollback_takes_back_leaves_room() {
        let mut probes = Probes::new(10, 3);
        offer(&mut probes, 0..10);
        probes.drop_at(&(4..u64::MAX));
        assert_eq!(probes.all().len(), 4);
        offer(&mut probes, 4..10);
        assert_eq!(probes.all().len(), 10);
    }
}
