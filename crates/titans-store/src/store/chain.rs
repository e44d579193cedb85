//! From the files of a folder to states: a base, and the records that follow it.
//!
//! A record names the generation before it by number and digest. So it does not matter in
//! which journal a record lies or from which of two bases one starts: what follows a state
//! follows it wherever the state came from. A base that was written while its generation
//! already stood in a journal says so (`repeats`), and is known by the digest of the record.

use super::files::{self, Candidate, path_of};
use super::generation::{Generation, JournalName, Slot};
use super::journal::{End, Journal, Record};
use crate::codec::Precision;
use crate::codec::decode::Decoded;
use crate::codec::delta;
use crate::error::StoreError;
use crate::format::carried::Carried;
use crate::fs::Storage;
use crate::image::{MemoryImage, ShardId};
use crate::key::Access;

/// A memory at one generation, and what the next generation must know of it.
#[derive(Debug)]
pub(super) struct State {
    pub(super) image: MemoryImage,
    pub(super) generation: Generation,
    pub(super) writer_epoch: u64,
    pub(super) identity: [u8; 32],
    pub(super) precision: Precision,
    pub(super) carried: Carried,
    pub(super) unknown_ro_compat: u32,
}

impl From<Decoded> for State {
    fn from(decoded: Decoded) -> Self {
        Self {
            generation: Generation::new(decoded.stamp.sequence),
            writer_epoch: decoded.stamp.writer_epoch,
            image: decoded.image,
            identity: decoded.identity,
            precision: decoded.precision,
            carried: decoded.carried,
            unknown_ro_compat: decoded.unknown_ro_compat,
        }
    }
}

impl State {
    /// Newer is by epoch before number, so a writer that lost its lock and came back late
    /// does not outrank its successor.
    fn rank(&self) -> (u64, Generation) {
        (self.writer_epoch, self.generation)
    }
}

/// The files of a folder, with their first bytes and journals read.
pub(super) struct Folder {
    pub(super) bases: Vec<Candidate>,
    pub(super) journals: Vec<Journal>,
    /// A file that was listed and gone before it was read: a writer has pruned meanwhile, so
    /// what is left here may be old.
    pub(super) vanished: Option<StoreError>,
}

/// What was passed over on the way to a state.
pub(super) enum Passed {
    Base(Slot, StoreError),
    /// The journal ends there, and this was the first generation lost.
    Journal(JournalName, Generation, StoreError),
    /// Only an append that was never acknowledged is gone.
    Tail(JournalName, StoreError),
}

/// Reads the folder.
///
/// # Errors
/// When a file belongs to another shard, is too new for this build, or cannot be read for a
/// reason that does not lie in the file. A file that vanished is left out.
pub(super) fn survey(
    storage: &dyn Storage,
    shard: ShardId,
    access: Access<'_>,
) -> Result<Folder, StoreError> {
    let names = files::list(storage, "")?;
    let slots: Vec<Slot> = names
        .iter()
        .filter_map(|name| Slot::from_file_name(name))
        .collect();
    let mut journals = Vec::new();
    let mut vanished = None;
    for name in names
        .iter()
        .filter_map(|name| JournalName::from_file_name(name))
    {
        match Journal::read(storage, name, Some(shard), access.limits) {
            Err(error) if error.is_not_found() => vanished = Some(error),
            Err(error) if error.is_damage() => journals.push(Journal::unreadable(name, error)),
            journal => journals.push(journal?),
        }
    }
    let bases = files::candidates(storage, shard, &slots, &mut vanished)?;
    Ok(Folder {
        bases,
        journals,
        vanished,
    })
}

impl Folder {
    /// The newest state that verifies. Files that are damaged go to `passed`.
    ///
    /// # Errors
    /// What is neither damage nor absence.
    pub(super) fn newest(
        &mut self,
        storage: &dyn Storage,
        shard: ShardId,
        access: Access<'_>,
        passed: &mut Vec<Passed>,
    ) -> Result<Option<State>, StoreError> {
        let promise = |base: &Candidate| (self.promise(base), base.slot);
        let mut order: Vec<_> = self.bases.iter().map(promise).collect();
        // Damaged preambles promise most: they cannot be ranked, will fail, and had better be
        // reported. Among equals the newest base has the least to replay, and pins come last.
        order.sort_by_key(|(promise, slot)| {
            let is_pinned = matches!(slot, Slot::Pinned(_));
            std::cmp::Reverse((*promise, !is_pinned, slot.generation()))
        });
        let mut best: Option<State> = None;
        let mut broken = Vec::new();
        for (promise, slot) in order {
            if best.as_ref().is_some_and(|best| best.rank() >= promise) {
                break;
            }
            match files::read(storage, slot, Some(shard), access) {
                Ok(decoded) => {
                    let mut state = State::from(decoded);
                    if let Err(damage) = self.follow(&mut state, None, storage, access)? {
                        broken.push(damage);
                    }
                    if best.as_ref().is_none_or(|best| best.rank() < state.rank()) {
                        best = Some(state);
                    }
                }
                Err(reason) if reason.is_damage() => passed.push(Passed::Base(slot, reason)),
                Err(error) => return Err(error),
            }
        }
        self.report(best.as_ref().map(State::rank), broken, passed);
        Ok(best)
    }

    /// The state at `generation`, by any way that leads there; `None` when none does.
    ///
    /// # Errors
    /// The damage that lies in every way.
    pub(super) fn at(
        &self,
        storage: &dyn Storage,
        generation: Generation,
        shard: ShardId,
        access: Access<'_>,
    ) -> Result<Option<State>, StoreError> {
        let mut bases: Vec<_> = self.bases.iter().map(|base| base.slot).collect();
        bases.retain(|slot| slot.generation() <= generation);
        bases.sort_by_key(|slot| std::cmp::Reverse(slot.generation()));
        let mut damage = None;
        for slot in bases {
            if !self.reaches(slot.generation(), generation) {
                continue;
            }
            let outcome = files::read(storage, slot, Some(shard), access).and_then(|decoded| {
                let mut state = State::from(decoded);
                match self.follow(&mut state, Some(generation), storage, access)? {
                    Ok(()) => Ok(state),
                    Err((_, _, error)) => Err(error),
                }
            });
            match outcome {
                Ok(state) if state.generation == generation => return Ok(Some(state)),
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => damage = damage.or(Some(error)),
            }
        }
        damage.map_or(Ok(None), Err)
    }

    /// The numbers of all generations that some file or record holds.
    pub(super) fn generations(&self) -> Vec<Generation> {
        let bases = self.bases.iter().map(|base| base.slot.generation());
        let records = self.journals.iter().flat_map(|journal| &journal.records);
        let mut all: Vec<_> = bases
            .chain(records.map(|record| record.generation))
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The rank that the chain of a base ends with, by numbers alone.
    fn promise(&self, base: &Candidate) -> (u64, Generation) {
        let Some(epoch) = base.epoch() else {
            return (u64::MAX, base.slot.generation());
        };
        let mut rank = (epoch, base.slot.generation());
        while let Some((journal, record)) = self.next(rank.1).into_iter().next() {
            rank = (journal.name.epoch, record.generation);
        }
        rank
    }

    fn reaches(&self, from: Generation, to: Generation) -> bool {
        let mut reached = vec![from];
        while let Some(generation) = reached.pop() {
            if generation == to {
                return true;
            }
            let next = self.next(generation).into_iter();
            reached.extend(
                next.map(|(_, record)| record.generation)
                    .filter(|&at| at <= to),
            );
        }
        false
    }

    /// The records that follow a generation by number, the one to try first in front.
    fn next(&self, generation: Generation) -> Vec<(&Journal, &Record)> {
        let of = |journal| move |record| (journal, record);
        let all = self
            .journals
            .iter()
            .flat_map(|journal| journal.records.iter().map(of(journal)));
        let mut next: Vec<_> = all
            .filter(|(_, record)| record.follows == generation)
            .collect();
        next.sort_by_key(|(journal, record)| {
            std::cmp::Reverse((journal.name.epoch, record.generation))
        });
        next
    }

    /// Applies what follows `state`, up to `last` if given. The inner error is damage, at
    /// which the state stops.
    #[allow(clippy::type_complexity)]
    fn follow(
        &self,
        state: &mut State,
        last: Option<Generation>,
        storage: &dyn Storage,
        access: Access<'_>,
    ) -> Result<Result<(), (JournalName, Generation, StoreError)>, StoreError> {
        let mut damage = None;
        while last != Some(state.generation) {
            let mut moved = false;
            for (journal, record) in self.next(state.generation) {
                if last.is_some_and(|last| record.generation > last) {
                    continue;
                }
                match state.step(journal, record, access) {
                    Ok(true) => {
                        moved = true;
                        break;
                    }
                    // It follows another generation of the same number.
                    Ok(false) => {}
                    Err(error) if error.is_damage() => {
                        let path = path_of(storage, &journal.name.file_name());
                        let error = error.in_file(&path);
                        damage = damage.or(Some((journal.name, record.generation, error)));
                    }
                    Err(error) => {
                        return Err(error.in_file(&path_of(storage, &journal.name.file_name())));
                    }
                }
            }
            if !moved {
                break;
            }
        }
        Ok(damage.map_or(Ok(()), Err))
    }

    /// Tells what lies beyond the state that was found.
    fn report(
        &mut self,
        found: Option<(u64, Generation)>,
        broken: Vec<(JournalName, Generation, StoreError)>,
        passed: &mut Vec<Passed>,
    ) {
        let is_beyond = |journal: &Journal, generation| {
            found.is_none_or(|rank| (journal.name.epoch, generation) > rank)
        };
        let mut told = Vec::new();
        for (name, generation, error) in broken {
            if !told.contains(&name) {
                told.push(name);
                passed.push(Passed::Journal(name, generation, error));
            }
        }
        for journal in &mut self.journals {
            let name = journal.name;
            let last = journal
                .records
                .last()
                .map_or(name.base, |record| record.generation);
            match journal.end.take() {
                Some(End::Damaged(error)) if !told.contains(&name) => {
                    let lost = Generation::new(last.number().saturating_add(1));
                    passed.push(Passed::Journal(name, lost, error));
                    told.push(name);
                }
                Some(End::Torn(error)) => passed.push(Passed::Tail(name, error)),
                _ => {}
            }
            let first_beyond = journal
                .records
                .iter()
                .find(|record| is_beyond(journal, record.generation));
            if let Some(record) = first_beyond
                && !told.contains(&name)
            {
                let error = StoreError::Orphan {
                    generation: record.generation,
                    follows: record.follows,
                };
                passed.push(Passed::Journal(name, record.generation, error));
            }
        }
    }
}

impl State {
    /// Applies one record; `false` when it follows another state than this.
    fn step(
        &mut self,
        journal: &Journal,
        record: &Record,
        access: Access<'_>,
    ) -> Result<bool, StoreError> {
        let payload = journal.payload(record);
        let link = delta::Link {
            parent: (self.generation.number(), self.identity),
            sequence: record.generation.number(),
            last_chunk_id: record.last_chunk_id,
        };
        let Some(facts) = delta::apply(&mut self.image, payload, &link, access)? else {
            return Ok(false);
        };
        self.generation = record.generation;
        self.writer_epoch = facts.stamp.writer_epoch;
        self.identity = facts.digest;
        self.carried = facts.carried;
        self.unknown_ro_compat |= facts.unknown_ro_compat;
        Ok(true)
    }
}
