//! The files of one memory: its generations and what lies beside them.
//!
//! What lies beside is written first. So it is never behind the memory, and what it says of
//! tokens that the memory has not is dropped when it is read.

use std::ops::Range;
use std::sync::Arc;

use titans_store::{MemoryStore, RecordLog, StoreError};

use crate::ledger::{ItemId, Ledger, LedgerConfig, Record, decode, encode};
use crate::replay::{BaseOf, PlacedRows, Replay};
use crate::snapshot::Snapshot;

const LEDGER: &str = "ledger";
const PROBES: &str = "probes";
/// A log may be this much longer than twice what it holds before it is rewritten.
const SLACK: u64 = 64 << 10;

/// The open files of a shard. Only savers touch them.
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
}

impl ShardFiles {
    /// Opens what lies beside the generations of a memory that has read `tokens` tokens and
    /// was rebuilt `history` times. Also returns the ledger and the records of the probes.
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
                Record::Entry(_) | Record::Erased(..) => {}
            }
        }
        if sections > 1 && section == history {
            // A rebuild was durable and had not removed the generations before it.
            store.keep_only_newest()?;
        }
        let files = Self {
            replay: Replay::new(config.replay_bytes, widths, history),
            store,
            ledger: log,
            probes,
            lineage: 0,
            ledger_through: tokens,
        };
        Ok((files, ledger, probe_contents.records))
    }

    /// Makes durable what the next generation has beside it.
    pub(crate) fn save_beside(
        &mut self,
        next: &Snapshot,
        rows: &[PlacedRows],
        base: impl Fn(BaseOf) -> Result<Vec<u8>, StoreError>,
    ) -> Result<(), StoreError> {
        let (ledger, history) = (&*next.ledger, next.history);
        self.replay.extend(&self.store, rows, base)?;
        if next.lineage != self.lineage {
            self.go_back(next)?;
            return Ok(());
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
            std::iter::once(head).chain(records(ledger, 0))
        });
        self.store.rewrite_log(&mut self.ledger, all)
    }

    /// Whether a snapshot goes on from a rollback of the watch that is not saved yet.
    pub(crate) fn is_behind(&self, next: &Snapshot) -> bool {
        next.lineage != self.lineage
    }

    /// Writes the probes down, for the next time the memory is opened.
    pub(crate) fn save_probes(&mut self, records: &[Vec<u8>]) -> Result<(), StoreError> {
        self.store.rewrite_log(&mut self.probes, records)
    }

    /// Lets the logs go on from an earlier position, after a rollback.
    pub(crate) fn go_back(&mut self, to: &Snapshot) -> Result<(), StoreError> {
        self.ledger_through = to.state.tokens_seen;
        self.lineage = to.lineage;
        self.rewrite_ledger(&[(to.history, &to.ledger)])
    }
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
