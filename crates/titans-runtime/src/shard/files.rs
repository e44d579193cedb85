//! The files of one memory: its generations and what lies beside them.
//!
//! What lies beside is written first. So it is never behind the memory, and what it says of
//! tokens that the memory has not is dropped when it is read.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Device;
use titans_store::{
    MemoryImage, MemoryStore, RecordLog, Saved, Stamp, StoreError, encode as encode_image,
};

use crate::checkpoint::{has_same_tensors, image_delta};
use crate::context::Context;
use crate::ledger::{ItemId, Ledger, LedgerConfig, Record, decode, encode};
use crate::replay::{BaseOf, PlacedRows, Replay};
use crate::snapshot::Snapshot;

const LEDGER: &str = "ledger";
const PROBES: &str = "probes";
/// A log may be this much longer than twice what it holds before it is rewritten.
const SLACK: u64 = 64 << 10;

/// A base of a replay is no generation.
const NO_STAMP: Stamp = Stamp {
    sequence: 0,
    writer_epoch: 0,
    parent: None,
};

/// A snapshot to be saved.
#[derive(Debug)]
pub(crate) struct SaveJob {
    pub(crate) snapshot: Arc<Snapshot>,
    /// Whether the version before it is what the disk holds.
    pub(crate) follows_durable: bool,
    /// The tokens that were learned since the version that the disk holds.
    pub(crate) rows: Vec<PlacedRows>,
}

/// The open files of a shard. One thread has them at a time.
#[derive(Debug)]
pub(crate) struct ShardFiles {
    pub(crate) store: MemoryStore,
    pub(crate) replay: Replay,
    ledger: RecordLog,
    probes: RecordLog,
    /// Of the memory that the ledger's log tells of.
    lineage: u64,
    /// The log tells of everything before this position.
    ledger_through: u64,
    /// What the log tells may be of another memory than the one in use: the next save writes
    /// it anew.
    is_stale: bool,
}

impl ShardFiles {
    /// Opens what lies beside the generations of a memory that has read `tokens` tokens and
    /// was rebuilt `history` times. Also returns the ledger and the records of the probes.
    ///
    /// A rebuild that was interrupted is finished: whatever it had not removed yet is removed.
    pub(crate) fn open(
        mut store: MemoryStore,
        config: &LedgerConfig,
        widths: (usize, usize),
        tokens: u64,
        history: u64,
    ) -> Result<(Self, Ledger, Vec<Vec<u8>>), StoreError> {
        let (log, contents) = store.open_log(LEDGER)?;
        if let Some((path, error)) = &contents.ends_early {
            tracing::info!("{} ends early: {error}", path.display());
        }
        let (probes, probe_contents) = store.open_log(PROBES)?;
        let mut ledger = Ledger::default();
        let (mut section, mut sections) = (0, 0);
        let mut is_ahead = false;
        for record in contents
            .records
            .iter()
            .filter_map(|bytes| decode(bytes, widths))
        {
            match record {
                Record::History(number) => (section, sections) = (number, sections + 1),
                _ if section != history => {}
                Record::Entry(entry) if entry.tokens.end <= tokens => {
                    ledger.push(Arc::new(entry), config.max_bytes);
                }
                Record::Erased(item, by) if by.end <= tokens => ledger.mark_erased(item, &by),
                Record::Owed(item, place) => ledger.owe(item, place),
                Record::Entry(_) | Record::Erased(..) => is_ahead = true,
            }
        }
        ledger.settle_owed();
        let was_rebuilt = sections > 1 && section == history;
        if was_rebuilt {
            store.keep_only_newest()?;
        }
        let mut files = Self {
            replay: Replay::new(config.replay_bytes, widths, history),
            store,
            ledger: log,
            probes,
            lineage: 0,
            ledger_through: tokens,
            // What it says of tokens that were lost must be gone before others take their place.
            is_stale: is_ahead,
        };
        files.replay.remove_unwanted(&files.store)?;
        if was_rebuilt {
            files.replay.remove_other_histories(&files.store)?;
            files.store.remove_replaced_logs()?;
        }
        if sections > 1 {
            // Last: while the log tells both stories, the rebuild is not finished.
            files.rewrite_ledger(&[(history, &ledger)])?;
        }
        Ok((files, ledger, probe_contents.records))
    }

    /// The same files, in use for this snapshot.
    pub(crate) fn telling_of(self, snapshot: &Snapshot) -> Self {
        Self {
            lineage: snapshot.lineage,
            ledger_through: snapshot.state.tokens_seen,
            ..self
        }
    }

    /// The same files, in use for another memory than the one that they were opened for.
    pub(crate) fn into_stale(self) -> Self {
        Self {
            is_stale: true,
            ..self
        }
    }

    /// Makes a snapshot durable, with what belongs beside it.
    pub(crate) fn save(&mut self, job: &SaveJob, context: &Context) -> Result<(), StoreError> {
        let snapshot = &*job.snapshot;
        let memory = context.memories.of(snapshot.shard);
        let mut rolled_back_from = None;
        if snapshot.lineage != self.lineage && !self.is_stale {
            let generations = self.store.generations()?;
            rolled_back_from = generations.last().map(|newest| newest.number());
        }
        // Copied from the device when it is asked for: a record may do without.
        let whole = LazyCell::new(|| MemoryImage {
            rolled_back_from,
            ..context.identity.image(snapshot)
        });
        let base = |of| match of {
            BaseOf::AllGiven => encode_image(&whole, &NO_STAMP),
            BaseOf::Nothing => {
                let initial = context.identity.image_of(&memory.initial_state(), snapshot);
                encode_image(&initial, &NO_STAMP)
            }
        };
        self.save_beside(snapshot, &job.rows, base)?;
        // A delta says what changed since the version before, so it is of use only when
        // that one is what the disk holds.
        let delta = (snapshot.changed.as_ref())
            .filter(|delta| job.follows_durable && has_same_tensors(delta));
        let is_on_host = memory.device() == Device::flex();
        let told = delta.and_then(|delta| match is_on_host {
            true => delta.tells_values().then_some(Cow::Borrowed(delta)),
            false => snapshot.state.with_values(delta).map(Cow::Owned),
        });
        measured(&mut self.store, context, |store| match (told, delta) {
            (Some(told), _) => {
                let outline = MemoryImage {
                    rolled_back_from,
                    ..context.identity.outline(snapshot)
                };
                store.save_changes(&outline, &image_delta(&told), &|| Cow::Borrowed(&*whole))
            }
            (None, Some(delta)) => store.save_delta(&whole, &image_delta(delta)),
            (None, None) => store.save(&whole),
        })?;
        Ok(())
    }

    /// Makes durable what the next generation has beside it.
    fn save_beside(
        &mut self,
        next: &Snapshot,
        rows: &[PlacedRows],
        base: impl Fn(BaseOf) -> Result<Vec<u8>, StoreError>,
    ) -> Result<(), StoreError> {
        let (ledger, history) = (&*next.ledger, next.history);
        self.replay.extend(&self.store, rows, base)?;
        if next.lineage != self.lineage || self.is_stale {
            return self.go_back(next);
        }
        let news = records(ledger, self.ledger_through);
        if news.is_empty() {
            return Ok(());
        }
        let too_long = 2 * ledger.bytes() as u64 + SLACK;
        match self.ledger.is_appendable() && self.ledger.file_bytes() < too_long {
            true => self.store.append_to_log(&mut self.ledger, news)?,
            false => self.rewrite_ledger(&[(history, ledger)])?,
        }
        self.ledger_through = next.state.tokens_seen;
        Ok(())
    }

    /// Replaces the log of the ledger: for each number of rebuilds, what is in the ledger
    /// if the memory turns out to be that one.
    pub(crate) fn rewrite_ledger(&mut self, parts: &[(u64, &Ledger)]) -> Result<(), StoreError> {
        let is_empty = parts.iter().all(|(_, ledger)| ledger.entries().is_empty());
        if is_empty && self.ledger.file_bytes() == 0 {
            return Ok(());
        }
        let all = parts.iter().flat_map(|(history, ledger)| {
            let head = encode(&Record::History(*history));
            let owed = ledger.all_owed().iter();
            let owed = owed.map(|(item, place)| encode(&Record::Owed(*item, *place)));
            std::iter::once(head).chain(records(ledger, 0)).chain(owed)
        });
        self.store.rewrite_log(&mut self.ledger, all)
    }

    /// Writes the probes down, for the next time the memory is opened.
    pub(crate) fn save_probes(&mut self, records: &[Vec<u8>]) -> Result<(), StoreError> {
        self.store.rewrite_log(&mut self.probes, records)
    }

    /// Lets the logs go on from an earlier position, after a rollback.
    pub(crate) fn go_back(&mut self, to: &Snapshot) -> Result<(), StoreError> {
        self.rewrite_ledger(&[(to.history, &to.ledger)])?;
        self.ledger_through = to.state.tokens_seen;
        self.lineage = to.lineage;
        self.is_stale = false;
        Ok(())
    }
}

/// Saves, and records which part of it was encoding and which was the device.
fn measured(
    store: &mut MemoryStore,
    context: &Context,
    save: impl FnOnce(&mut MemoryStore) -> Result<Saved, StoreError>,
) -> Result<Saved, StoreError> {
    let before = store.spent();
    let saved = save(store);
    let spent = store.spent().since(before);
    context.timers.encode.record(spent.encode);
    context.timers.fsync.record(spent.flush);
    if spent.flush_errors > 0 {
        context.meters.fsync_errors.add(spent.flush_errors);
    }
    saved
}

/// What the ledger says of positions behind `through`.
fn records(ledger: &Ledger, through: u64) -> Vec<Vec<u8>> {
    let new = |range: &Range<u64>| range.end > through;
    let mut records = Vec::new();
    let mut erased: Vec<(ItemId, Range<u64>)> = Vec::new();
    for entry in ledger.entries() {
        if new(&entry.tokens) {
            records.push(encode(&Record::Entry((**entry).clone())));
        }
        if let Some(by) = entry.erased.clone().filter(|by| new(by)) {
            erased.push((entry.item, by));
        }
    }
    erased.sort_by_key(|(item, by)| (*item, by.start));
    erased.dedup();
    records.extend(
        erased
            .into_iter()
            .map(|(item, by)| encode(&Record::Erased(item, by))),
    );
    records
}
