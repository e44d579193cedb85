//! Whether a memory still knows what it knew: probes, verdict, and what recalls are worth.
//!
//! From what is written, some pairs are kept aside. Before a chunk is published, they are put
//! to the memory that has learned it. If it answers clearly fewer of those that the last
//! known good memory answered, something has gone wrong: wrong layer, broken rows, a stream
//! that writes over everything. What is done then is [`OnDrop`].
//!
//! The same probes, and pairs of the stream before they are learned, tell how often a recall
//! of some strength is right.

mod calibration;
mod probes;
mod record;
mod verdict;
mod watched;

use std::sync::Arc;

use titans_core::{MemoryState, relative_error};

use self::calibration::Outcomes;
use self::probes::{Probe, Probes};
use self::verdict::{Comparison, Verdict, is_loop, verdict};
pub use self::watched::ProbeScore;
pub(crate) use self::watched::Watched;
use self::watched::strength;
use crate::setters::setters;
use crate::snapshot::Snapshot;

/// How recall is watched.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RecallWatch {
    /// Pairs that each memory keeps aside; 400 make a drop believed at once, fewer take two
    /// in a row. Default 512: 256 KiB at the default widths.
    pub probes: usize,
    /// Tokens between two looks, at least: a look reads every probe, whatever was learned since
    /// the last one. Default 2048, so that each chunk of the default length is looked at.
    pub look_every: usize,
    /// The drop that counts, as a fraction of the probes. Default 0.05: five points.
    pub max_drop: f32,
    /// What a drop does. Default: an alert.
    pub on_drop: OnDrop,
}

/// What a drop in recall does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDrop {
    /// An alert. For streams that write more than a memory of this size can hold, which
    /// forgets old pairs for new ones and is right to.
    Alert,
    /// An alert, and the memory goes back to the last known good one: the chunk is dropped
    /// and so is what waits behind it. The second time within ten looks the memory becomes
    /// read-only instead, until [`roll_back`](crate::UserMemory::roll_back). For memories
    /// whose gate keeps what is written below what they can hold. Where an item was forgotten
    /// since, it is an alert alone: the last known good memory knows the item.
    RollBack,
}

impl Default for RecallWatch {
    fn default() -> Self {
        Self {
            probes: 512,
            look_every: 2048,
            max_drop: 0.05,
            on_drop: OnDrop::Alert,
        }
    }
}

setters!(RecallWatch {
    with_probes => probes: usize,
    with_look_every => look_every: usize,
    with_max_drop => max_drop: f32,
    with_on_drop => on_drop: OnDrop,
});

/// A memory is right about a pair if it is this close.
const HIT: f32 = 0.7;

/// Pairs of a chunk that are asked for before it is learned.
const ASKED_BEFORE: usize = 128;

/// What a learner is to do with a chunk that it has learned.
#[derive(Debug)]
pub(crate) enum Outcome {
    Publish,
    /// Publish, and tell that recall has dropped to this.
    Alert(RecallDrop),
    /// Go back to this snapshot.
    GoBack(RecallDrop, Arc<Snapshot>),
    /// Go back to this snapshot, and let nothing more be learned.
    Freeze(RecallDrop, Arc<Snapshot>),
}

/// A drop in recall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecallDrop(Comparison);

impl std::fmt::Display for RecallDrop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Comparison { probes, good, now } = self.0;
        write!(f, "recall fell from {good} to {now} of {probes} probes")
    }
}

/// A chunk as the watch sees it.
pub(crate) struct Candidate<'a> {
    /// What is published.
    pub(crate) current: &'a Arc<Snapshot>,
    /// What would be published next.
    pub(crate) state: &'a MemoryState,
    /// Surprise of each token before it was learned.
    pub(crate) surprise: &'a [f32],
    /// Above this, a token was written.
    pub(crate) threshold: f32,
    /// Whether an item is being forgotten by tokens that are on their way.
    pub(crate) is_forgetting: bool,
}

/// What the watch asks the memory, so that it needs to know no tensor.
pub(crate) trait Ask {
    /// Keys and values of some tokens of the chunk.
    fn rows(&self, tokens: &[usize]) -> (Vec<f32>, Vec<f32>);
    /// What a memory recalls for some keys.
    fn recall(&self, state: &MemoryState, keys: Vec<f32>) -> Vec<f32>;
}

/// The watch over one memory.
#[derive(Debug)]
pub(crate) struct Watch {
    config: RecallWatch,
    widths: (usize, usize),
    probes: Probes,
    outcomes: Outcomes,
    /// Looks since the last known good memory; none of them was good.
    since_good: Vec<Comparison>,
    /// The last known good one, if it is not the published one and may be gone back to.
    good: Option<Arc<Snapshot>>,
    is_dropping: bool,
    /// Tokens that were learned since the last look.
    unseen: usize,
    looks: u64,
    has_learned: bool,
    last_rollback: Option<u64>,
}

impl Watch {
    pub(crate) fn new(config: RecallWatch, widths: (usize, usize), seed: u64) -> Self {
        Self {
            config,
            widths,
            probes: Probes::new(config.probes, seed),
            outcomes: Outcomes::default(),
            since_good: Vec::new(),
            good: None,
            is_dropping: false,
            unseen: 0,
            looks: 0,
            has_learned: false,
            last_rollback: None,
        }
    }

    /// Looks at what a chunk has made of a memory, if the last look is long enough ago. Also
    /// returns what is then known of it.
    pub(crate) fn look(
        &mut self,
        candidate: &Candidate<'_>,
        ask: &dyn Ask,
    ) -> (Outcome, Option<Watched>) {
        self.has_learned = true;
        self.unseen += candidate.surprise.len();
        if self.unseen < self.config.look_every {
            self.hold(candidate.current);
            self.take_probes(candidate, ask);
            return (Outcome::Publish, None);
        }
        self.unseen = 0;
        self.looks += 1;
        self.ask_before(candidate, ask);
        let hits = self.ask_probes(candidate.state, ask);
        let comparison = self.compare(&hits);
        self.since_good.push(comparison);
        let drop = RecallDrop(comparison);
        let outcome = match verdict(&self.since_good, self.config.max_drop) {
            Verdict::Keep => {
                self.is_dropping = false;
                self.keep(&hits);
                Outcome::Publish
            }
            Verdict::Wait => {
                self.hold(candidate.current);
                Outcome::Publish
            }
            Verdict::GoBack
                if self.config.on_drop == OnDrop::Alert || self.would_bring_back(candidate) =>
            {
                // One alert for one fall, however many looks it takes.
                let was_dropping = std::mem::replace(&mut self.is_dropping, true);
                self.keep(&hits);
                match was_dropping {
                    true => Outcome::Publish,
                    false => Outcome::Alert(drop),
                }
            }
            Verdict::GoBack => {
                let good = self.good.take();
                let good = good.unwrap_or_else(|| Arc::clone(candidate.current));
                let is_loop = is_loop(self.last_rollback, self.looks);
                self.last_rollback = Some(self.looks);
                self.forget_behind(good.state.tokens_seen);
                match is_loop {
                    true => Outcome::Freeze(drop, good),
                    false => Outcome::GoBack(drop, good),
                }
            }
        };
        let score = ProbeScore {
            probes: hits.len() as u64,
            hits: hits.iter().filter(|hit| **hit).count() as u64,
        };
        if !matches!(outcome, Outcome::GoBack(..) | Outcome::Freeze(..)) {
            self.take_probes(candidate, ask);
        }
        let calibration = self.outcomes.calibration();
        (outcome, Some(Watched { score, calibration }))
    }

    /// Bytes that it keeps beside the memory, without the snapshot to go back to.
    pub(crate) fn bytes(&self) -> usize {
        let (key_dim, value_dim) = self.widths;
        let pair = size_of::<Probe>() + (key_dim + value_dim) * size_of::<f32>();
        self.probes.all().len() * pair
    }

    /// Whether anything was learned under it.
    pub(crate) fn has_looked(&self) -> bool {
        self.has_learned
    }

    /// Drops what it knows of tokens from `position` on, after a rollback.
    pub(crate) fn forget_behind(&mut self, position: u64) {
        self.probes.drop_at(&(position..u64::MAX));
        self.since_good.clear();
        self.good = None;
        self.is_dropping = false;
        self.unseen = 0;
    }

    /// Drops everything, after positions have changed.
    pub(crate) fn start_over(&mut self) {
        self.forget_behind(0);
    }

    /// The probes as records of a log.
    pub(crate) fn records(&self) -> Vec<Vec<u8>> {
        record::encode(&self.probes)
    }

    /// Takes the probes of a log back that are about the first `tokens` tokens.
    pub(crate) fn restore(&mut self, records: &[Vec<u8>], tokens: u64) {
        record::decode(&mut self.probes, records, self.widths, tokens);
    }

    /// Keeps the last known good snapshot, which is about to be replaced by one of which that
    /// is not known, if it may be needed again.
    fn hold(&mut self, current: &Arc<Snapshot>) {
        if self.config.on_drop == OnDrop::RollBack && self.good.is_none() {
            self.good = Some(Arc::clone(current));
        }
    }

    /// Whether an item that is forgotten, or about to be, would be known after going back.
    fn would_bring_back(&self, candidate: &Candidate<'_>) -> bool {
        let forgotten_to = candidate.current.ledger.erased_to();
        let good = self.good.as_ref();
        candidate.is_forgetting || good.is_some_and(|good| forgotten_to > good.state.tokens_seen)
    }

    /// Asks for pairs of the chunk that are not learned yet.
    fn ask_before(&mut self, candidate: &Candidate<'_>, ask: &dyn Ask) {
        let tokens = candidate.surprise.len();
        let step = tokens.div_ceil(ASKED_BEFORE).max(1);
        let asked: Vec<usize> = (0..tokens).step_by(step).collect();
        let (keys, values) = ask.rows(&asked);
        let recalled = ask.recall(&candidate.current.state, keys);
        self.note(&recalled, &values);
    }

    /// Puts the probes to a memory; which of them it answers.
    fn ask_probes(&mut self, state: &MemoryState, ask: &dyn Ask) -> Vec<bool> {
        if self.probes.all().is_empty() {
            return Vec::new();
        }
        let all = self.probes.all().iter();
        let keys: Vec<f32> = all.clone().flat_map(|probe| &probe.key).copied().collect();
        let values: Vec<f32> = all.flat_map(|probe| &probe.value).copied().collect();
        let recalled = ask.recall(state, keys);
        self.note(&recalled, &values)
    }

    /// Remembers how strong some recalls were and whether they were right.
    fn note(&mut self, recalled: &[f32], values: &[f32]) -> Vec<bool> {
        let width = self.widths.1;
        let rows = recalled.chunks_exact(width).zip(values.chunks_exact(width));
        let outcomes = rows.map(|(recalled, value)| {
            let right = relative_error(recalled, value) <= HIT;
            self.outcomes.push(strength(recalled), right);
            right
        });
        outcomes.collect()
    }

    fn compare(&self, hits: &[bool]) -> Comparison {
        let mut comparison = Comparison {
            probes: 0,
            good: 0,
            now: 0,
        };
        for (probe, now) in self.probes.all().iter().zip(hits) {
            if let Some(good) = probe.good {
                comparison.probes += 1;
                comparison.good += u64::from(good);
                comparison.now += u64::from(*now);
            }
        }
        comparison
    }

    /// The memory that gave these answers is the last known good one.
    fn keep(&mut self, hits: &[bool]) {
        self.since_good.clear();
        self.good = None;
        for (probe, hit) in self.probes.all_mut().iter_mut().zip(hits) {
            probe.good = Some(*hit);
        }
    }

    /// Takes some of the pairs that were written into the sample.
    fn take_probes(&mut self, candidate: &Candidate<'_>, ask: &dyn Ask) {
        let surprise = candidate.surprise.iter().enumerate();
        let written = surprise.filter(|(_, surprise)| **surprise > candidate.threshold);
        let chosen = self.probes.choose(written.map(|(token, _)| token));
        if chosen.is_empty() {
            return;
        }
        let tokens: Vec<usize> = chosen.iter().map(|chosen| chosen.token).collect();
        let (keys, values) = ask.rows(&tokens);
        // What a memory makes of a pair as it learns it is the first that is known of it: the
        // next chunk may be the one that takes it away.
        let recalled = ask.recall(candidate.state, keys.clone());
        let start = candidate.state.tokens_seen - candidate.surprise.len() as u64;
        let (key_dim, value_dim) = self.widths;
        let rows = keys
            .chunks_exact(key_dim)
            .zip(values.chunks_exact(value_dim))
            .zip(recalled.chunks_exact(value_dim));
        for (chosen, ((key, value), recalled)) in chosen.into_iter().zip(rows) {
            let probe = Probe {
                key: key.to_vec(),
                value: value.to_vec(),
                position: start + chosen.token as u64,
                good: Some(relative_error(recalled, value) <= HIT),
            };
            self.probes.put(chosen, probe);
        }
    }
}
