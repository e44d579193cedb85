//! The newest tokens as they came, on disk, so that a memory can be learned again without
//! some of them.
//!
//! Two logs take turns. Each begins with an image of the memory at some position and goes on
//! with the tokens from there. When the newer one has half of the room, the older one gives
//! way to a new one, which begins at the memory as it is then. So between half and all of
//! the room is in use, and what can be learned again reaches back at least half of it.
//!
//! ```text
//! kind 1   base   history 8, tokens 8, a file as `titans_store::encode` makes it
//! kind 2   rows   first position 8, tokens 4, keys f32 each, values f32 each
//! ```

use std::sync::Arc;

use titans_store::{MemoryStore, RecordLog, StoreError};

use crate::shard::TokenRows;

const BASE: u8 = 1;
const ROWS: u8 = 2;
const NAMES: [&str; 2] = ["replayone", "replaytwo"];

/// The tokens of one chunk, where they stand in the stream.
#[derive(Clone, Debug)]
pub(crate) struct PlacedRows {
    pub(crate) start: u64,
    pub(crate) tokens: u64,
    pub(crate) rows: Arc<TokenRows>,
}

impl PlacedRows {
    pub(crate) fn end(&self) -> u64 {
        self.start + self.tokens
    }

    /// Bytes in RAM.
    pub(crate) fn bytes(&self) -> usize {
        let numbers = self.rows.keys.capacity() + self.rows.values.capacity();
        numbers * size_of::<f32>()
    }
}

/// Which memory a base is an image of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BaseOf {
    /// The one that has learned nothing.
    Nothing,
    /// The one that has learned the given tokens.
    AllGiven,
}

/// The replay logs of one memory.
#[derive(Debug)]
pub(crate) struct Replay {
    budget: u64,
    widths: (usize, usize),
    history: u64,
    /// Opened when they are first needed; the newer one last.
    segments: Option<[Segment; 2]>,
}

/// One of the two logs.
#[derive(Debug)]
struct Segment {
    log: RecordLog,
    /// Position of the base, if there is one.
    base: Option<u64>,
    /// Position after the last token.
    end: u64,
}

/// Everything from which a memory can be learned again.
pub(crate) struct Replayed {
    /// The image of the memory before the tokens.
    pub(crate) base: Vec<u8>,
    pub(crate) base_tokens: u64,
    /// Consecutive tokens from the base on.
    pub(crate) rows: Vec<PlacedRows>,
}

impl Replay {
    pub(crate) fn new(budget: u64, widths: (usize, usize), history: u64) -> Self {
        Self {
            budget,
            widths,
            history,
            segments: None,
        }
    }

    /// Appends consecutive tokens, durably.
    pub(crate) fn extend(
        &mut self,
        store: &MemoryStore,
        rows: &[PlacedRows],
        base: impl Fn(BaseOf) -> Result<Vec<u8>, StoreError>,
    ) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(());
        };
        if self.budget == 0 {
            return Ok(());
        }
        self.open(store)?;
        let (history, half) = (self.history, self.budget / 2);
        let Some([older, newer]) = &mut self.segments else {
            return Ok(());
        };
        if newer.base.is_none_or(|base| base > first.start) {
            // A rollback went back behind the newer one.
            std::mem::swap(older, newer);
            older.base = None;
            store.remove_log(&mut older.log)?;
        }
        let is_next = newer.base.is_some() && newer.end >= first.start;
        if !is_next {
            older.base = None;
            store.remove_log(&mut older.log)?;
            let start = if first.start == 0 {
                BaseOf::Nothing
            } else {
                BaseOf::AllGiven
            };
            let record = base_record(history, position(start, last), &base(start)?);
            newer.begin(store, record, position(start, last))?;
            if start == BaseOf::AllGiven {
                return Ok(());
            }
        }
        let records: Vec<_> = rows.iter().map(rows_record).collect();
        if newer.end > first.start || !newer.log.is_appendable() {
            newer.cut_and_extend(store, first.start, records)?;
        } else {
            store.append_to_log(&mut newer.log, records)?;
        }
        newer.end = last.end();
        if newer.log.file_bytes() > half {
            let record = base_record(history, last.end(), &base(BaseOf::AllGiven)?);
            older.begin(store, record, last.end())?;
            std::mem::swap(older, newer);
        }
        Ok(())
    }

    /// What the logs hold up to position `end`, if they reach it.
    pub(crate) fn read(
        &mut self,
        store: &MemoryStore,
        end: u64,
    ) -> Result<Option<Replayed>, StoreError> {
        self.open(store)?;
        let Some([older, newer]) = &self.segments else {
            return Ok(None);
        };
        let Some(newer_base) = newer.base else {
            return Ok(None);
        };
        let reaches = older.base.is_some() && older.end >= newer_base;
        let parts = if reaches {
            vec![older, newer]
        } else {
            vec![newer]
        };
        let mut replayed: Option<Replayed> = None;
        for segment in parts {
            let (_, contents) = store.open_log(segment.log.name())?;
            let mut records = contents.records.into_iter();
            let Some(Base { tokens, image }) = records
                .next()
                .and_then(|bytes| parse_base(&bytes, self.history))
            else {
                continue;
            };
            let replayed = replayed.get_or_insert(Replayed {
                base: image,
                base_tokens: tokens,
                rows: Vec::new(),
            });
            for record in records {
                let Some(rows) = parse_rows(&record, self.widths) else {
                    break;
                };
                replayed.rows.push(rows);
            }
        }
        if let Some(replayed) = &mut replayed {
            // A rollback leaves tokens behind its end until others take their place.
            replayed.rows.retain(|rows| rows.end() <= end);
        }
        Ok(replayed.filter(|replayed| replayed.is_whole(end)))
    }

    /// Removes logs of a memory that was rebuilt less or more often: they hold what the rebuild
    /// has forgotten, or what it has not become.
    pub(crate) fn remove_other_histories(&mut self, store: &MemoryStore) -> Result<(), StoreError> {
        self.open(store)?;
        for segment in self.segments.iter_mut().flatten() {
            if segment.base.is_none() && segment.log.file_bytes() > 0 {
                store.remove_log(&mut segment.log)?;
            }
        }
        Ok(())
    }

    /// Removes the logs that a configuration has left which kept tokens, where this one keeps
    /// none: they would stay as they are, whatever is forgotten.
    pub(crate) fn remove_unwanted(&mut self, store: &MemoryStore) -> Result<(), StoreError> {
        if self.budget > 0 || !(store.has_log(NAMES[0])? || store.has_log(NAMES[1])?) {
            return Ok(());
        }
        self.open(store)?;
        for segment in self.segments.iter_mut().flatten() {
            store.remove_log(&mut segment.log)?;
            segment.base = None;
        }
        Ok(())
    }

    /// Begins anew with a base and the tokens behind it.
    pub(crate) fn restart(
        &mut self,
        store: &MemoryStore,
        history: u64,
        replayed: &Replayed,
    ) -> Result<(), StoreError> {
        self.history = history;
        self.open(store)?;
        let Some([older, newer]) = &mut self.segments else {
            return Ok(());
        };
        older.base = None;
        store.remove_log(&mut older.log)?;
        let base = base_record(history, replayed.base_tokens, &replayed.base);
        let rows = replayed.rows.iter().map(rows_record);
        store.rewrite_log(&mut newer.log, std::iter::once(base).chain(rows))?;
        newer.base = Some(replayed.base_tokens);
        newer.end = replayed
            .rows
            .last()
            .map_or(replayed.base_tokens, PlacedRows::end);
        Ok(())
    }

    fn open(&mut self, store: &MemoryStore) -> Result<(), StoreError> {
        if self.segments.is_some() {
            return Ok(());
        }
        let open = |name| -> Result<Segment, StoreError> {
            let (log, contents) = store.open_log(name)?;
            let mut records = contents.records.iter();
            let base = records
                .next()
                .and_then(|bytes| parse_base(bytes, self.history));
            let base = base.map(|base| base.tokens);
            let end = records.map_while(|bytes| rows_end(bytes)).last();
            Ok(Segment {
                log,
                base,
                end: end.or(base).unwrap_or(0),
            })
        };
        let mut segments = [open(NAMES[0])?, open(NAMES[1])?];
        segments.sort_by_key(|segment| segment.base);
        self.segments = Some(segments);
        Ok(())
    }
}

impl Segment {
    fn begin(&mut self, store: &MemoryStore, base: Vec<u8>, tokens: u64) -> Result<(), StoreError> {
        store.rewrite_log(&mut self.log, [base])?;
        (self.base, self.end) = (Some(tokens), tokens);
        Ok(())
    }

    /// Drops the tokens from `position` on and appends others.
    fn cut_and_extend(
        &mut self,
        store: &MemoryStore,
        position: u64,
        records: Vec<Vec<u8>>,
    ) -> Result<(), StoreError> {
        let (_, contents) = store.open_log(self.log.name())?;
        // A rollback goes back to the end of a chunk, so no record is cut in two.
        let stays = |record: &Vec<u8>| rows_end(record).is_none_or(|end| end <= position);
        let kept = contents.records.into_iter().filter(stays);
        store.rewrite_log(&mut self.log, kept.chain(records))
    }
}

impl Replayed {
    /// Whether the tokens follow each other from the base to `end`.
    fn is_whole(&self, end: u64) -> bool {
        let mut at = self.base_tokens;
        for rows in &self.rows {
            if rows.start != at {
                return false;
            }
            at = rows.end();
        }
        at == end
    }
}

/// Where a base stands.
fn position(base: BaseOf, last: &PlacedRows) -> u64 {
    match base {
        BaseOf::Nothing => 0,
        BaseOf::AllGiven => last.end(),
    }
}

struct Base {
    tokens: u64,
    image: Vec<u8>,
}

fn base_record(history: u64, tokens: u64, image: &[u8]) -> Vec<u8> {
    let mut bytes = vec![BASE];
    bytes.extend(history.to_le_bytes());
    bytes.extend(tokens.to_le_bytes());
    bytes.extend(image);
    bytes
}

/// The base in a record, if it belongs to a memory that was rebuilt so often.
fn parse_base(bytes: &[u8], history: u64) -> Option<Base> {
    let (&kind, rest) = bytes.split_first()?;
    let (found, rest) = rest.split_first_chunk::<8>()?;
    let (tokens, image) = rest.split_first_chunk::<8>()?;
    let is_ours = kind == BASE && u64::from_le_bytes(*found) == history;
    is_ours.then(|| Base {
        tokens: u64::from_le_bytes(*tokens),
        image: image.to_vec(),
    })
}

fn rows_record(placed: &PlacedRows) -> Vec<u8> {
    let mut bytes = vec![ROWS];
    bytes.extend(placed.start.to_le_bytes());
    bytes.extend((placed.tokens as u32).to_le_bytes());
    for numbers in [&placed.rows.keys, &placed.rows.values] {
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }
    bytes
}

fn rows_end(bytes: &[u8]) -> Option<u64> {
    let rest = bytes.strip_prefix(&[ROWS])?;
    let (start, rest) = rest.split_first_chunk::<8>()?;
    let (tokens, _) = rest.split_first_chunk::<4>()?;
    u64::from_le_bytes(*start).checked_add(u32::from_le_bytes(*tokens).into())
}

fn parse_rows(bytes: &[u8], (key_dim, value_dim): (usize, usize)) -> Option<PlacedRows> {
    let end = rows_end(bytes)?;
    let numbers = bytes.get(1 + 8 + 4..)?;
    let (numbers, []) = numbers.as_chunks::<4>() else {
        return None;
    };
    let tokens = numbers.len() / (key_dim + value_dim);
    let numbers: Vec<f32> = numbers.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let start = end.checked_sub(tokens as u64)?;
    let fits = tokens > 0 && numbers.len() == tokens * (key_dim + value_dim);
    let is_said = bytes.get(1..9) == Some(start.to_le_bytes().as_slice());
    if !fits || !is_said || numbers.iter().any(|number| !number.is_finite()) {
        return None;
    }
    let (keys, values) = numbers.split_at(tokens * key_dim);
    Some(PlacedRows {
        start,
        tokens: tokens as u64,
        rows: Arc::new(TokenRows {
            keys: keys.to_vec(),
            values: values.to_vec(),
        }),
    })
}
