//! What was stored and when, beside the memory: bounded, and never needed to recall.
//!
//! A memory of constant size cannot list what it knows and cannot take one thing back. The
//! ledger can name the items nearest to what was recalled, and has the keys under which an
//! item was written, so that [`forget`](crate::UserMemory::forget) can write over them. It
//! holds the newest items up to a bound; what falls out stays in the memory without a name.
//!
//! A ledger never changes once it is part of a snapshot: the next one shares its entries.

mod entry;
mod item;
mod record;

use std::ops::Range;
use std::sync::Arc;

use titans_core::relative_error;

pub(crate) use self::entry::Entry;
pub use self::item::ItemId;
pub(crate) use self::record::{Record, decode, encode};
use crate::setters::setters;

/// What an entry of a ledger takes beside its numbers: a pointer to it, its counts, and what an
/// allocator adds to each of its three pieces.
const PER_ENTRY: usize = 72;

/// How much is kept beside each memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerConfig {
    /// Bytes of one user's ledger. Default 1 MiB: some 2100 items of one row at the default
    /// widths. 0 keeps none. The oldest items fall out first.
    pub max_bytes: usize,
    /// How many of the nearest items a recall names at most. Default 3.
    pub neighbours: usize,
    /// Bytes of one user's tokens that are kept on disk as they came, so that an item can be
    /// forgotten exactly. Default 0: items are forgotten approximately.
    pub replay_bytes: u64,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 20,
            neighbours: 3,
            replay_bytes: 0,
        }
    }
}

setters!(LedgerConfig {
    with_max_bytes => max_bytes: usize,
    with_neighbours => neighbours: usize,
    with_replay_bytes => replay_bytes: u64,
});

/// An item that is close to what was recalled.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Neighbour {
    /// The item.
    pub item: ItemId,
    /// Cosine between what was recalled and the mean of the item's values.
    pub score: f32,
    /// When it was handed over, in seconds since 1970.
    pub stored_unix: u64,
}

/// The items of one memory, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    entries: Vec<Arc<Entry>>,
    bytes: usize,
    /// Where the tokens end that were the last to write over an item.
    erased_to: u64,
    /// Items that were forgotten and that a rollback may have brought back: their pieces before
    /// this place are to be written over once more, if they are not.
    owed: Vec<(ItemId, u64)>,
}

impl Ledger {
    /// The ledger with one more entry, and without the oldest ones that it has no room for. An
    /// entry that it could not hold alone is left out: it takes nobody's place.
    pub(crate) fn push(&mut self, entry: Arc<Entry>, max_bytes: usize) {
        if entry.bytes() > max_bytes {
            return;
        }
        self.bytes += entry.bytes();
        self.entries.push(entry);
        let mut surplus = 0;
        while self.bytes > max_bytes && surplus < self.entries.len() {
            self.bytes -= self.entries[surplus].bytes();
            surplus += 1;
        }
        self.entries.drain(..surplus);
    }

    /// Marks every piece of `item` before the tokens that write over it.
    pub(crate) fn mark_erased(&mut self, item: ItemId, by: &Range<u64>) {
        for entry in &mut self.entries {
            let is_meant = entry.item == item && entry.tokens.end <= by.start;
            if is_meant && entry.erased.is_none() {
                self.erased_to = self.erased_to.max(by.end);
                let entry = Arc::make_mut(entry);
                entry.erased = Some(by.clone());
                self.bytes -= size_of_val(&*entry.mean_value);
                entry.mean_value = Vec::new();
            }
        }
    }

    /// Drops what was stored behind a position in the stream. Items that had been erased behind
    /// it and are known again are [owed](Self::owed) from then on.
    pub(crate) fn truncate(&mut self, tokens: u64) {
        self.entries.retain(|entry| entry.tokens.end <= tokens);
        let mut brought_back = Vec::new();
        for entry in &mut self.entries {
            if entry.erased.as_ref().is_some_and(|by| by.end > tokens) {
                Arc::make_mut(entry).erased = None;
                brought_back.push(entry.item);
            }
        }
        self.recount();
        self.erased_to = self.erased_to.min(tokens);
        brought_back
            .into_iter()
            .for_each(|item| self.owe(item, tokens));
    }

    /// Says that the pieces of an item before a place were forgotten, and may be known again.
    pub(crate) fn owe(&mut self, item: ItemId, place: u64) {
        self.owed.retain(|(other, _)| *other != item);
        self.owed.push((item, place));
    }

    /// Every item that was said to be owed, with its place, whether it is known again or not.
    /// They are told until the memory is opened: only then is it known what came through.
    pub(crate) fn all_owed(&self) -> &[(ItemId, u64)] {
        &self.owed
    }

    /// The items that were forgotten, are known again, and are to be forgotten once more.
    pub(crate) fn owed(&self) -> Vec<ItemId> {
        let is_known = |(item, place): &&(ItemId, u64)| {
            self.pieces(*item).any(|piece| piece.tokens.end <= *place)
        };
        let owed = self.owed.iter().filter(is_known);
        owed.map(|(item, _)| *item).collect()
    }

    /// Leaves out what is not owed any more, once the ledger is that of a durable memory.
    pub(crate) fn settle_owed(&mut self) {
        let owed = self.owed();
        self.owed.retain(|(item, _)| owed.contains(item));
    }

    /// The ledger without some items, the others moved to where their tokens stand once the
    /// tokens in `removed` are gone.
    pub(crate) fn without(&self, items: &[ItemId], removed: &[Range<u64>]) -> Self {
        let place = |position: u64| position - tokens_before(removed, position);
        let moved = |range: &Range<u64>| place(range.start)..place(range.end);
        let left = self.entries.iter().filter(|entry| {
            let is_removed = removed
                .iter()
                .any(|range| range.contains(&entry.tokens.start));
            !(is_removed && items.contains(&entry.item))
        });
        let moved = left.map(|entry| {
            let mut entry = Entry::clone(entry);
            entry.tokens = moved(&entry.tokens);
            entry.erased = entry.erased.as_ref().map(moved);
            Arc::new(entry)
        });
        let mut ledger = Self {
            entries: moved.collect(),
            bytes: 0,
            erased_to: place(self.erased_to),
            owed: (self.owed.iter())
                .map(|(item, to)| (*item, place(*to)))
                .collect(),
        };
        ledger.recount();
        ledger
    }

    /// Every piece, oldest first.
    pub(crate) fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The pieces of one item that were not erased.
    pub(crate) fn pieces(&self, item: ItemId) -> impl Iterator<Item = &Arc<Entry>> {
        let entries = self.entries.iter();
        entries.filter(move |entry| entry.item == item && entry.erased.is_none())
    }

    /// The pieces that were erased.
    pub(crate) fn erased(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter().filter(|entry| entry.erased.is_some())
    }

    /// Where the tokens end that were the last to write over an item. A memory that had learned
    /// fewer knows the item.
    pub(crate) fn erased_to(&self) -> u64 {
        self.erased_to
    }

    /// Bytes that the ledger takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that it takes with what stands around its numbers.
    pub(crate) fn footprint(&self) -> usize {
        self.bytes + self.entries.len() * PER_ENTRY
    }

    /// The items whose mean value is closest to one of the recalled rows, best first, and
    /// how far the rows are from the closest: the mean of `|row - value| / |value|`.
    pub(crate) fn nearest(
        &self,
        recalled: &[f32],
        width: usize,
        at_most: usize,
    ) -> (Vec<Neighbour>, Option<f32>) {
        let mut best: Vec<Neighbour> = Vec::new();
        let (mut distance, mut rows) = (0.0, 0);
        for row in recalled.chunks_exact(width.max(1)) {
            let length = dot(row, row).sqrt();
            let mut closest: Option<(f32, &Entry)> = None;
            for entry in self.entries.iter().filter(|entry| entry.erased.is_none()) {
                let value = &*entry.mean_value;
                let size = length * dot(value, value).sqrt();
                let score = match size > 0.0 {
                    true => dot(row, value) / size,
                    false => 0.0,
                };
                offer(&mut best, entry, score, at_most);
                if closest.is_none_or(|(found, _)| score > found) {
                    closest = Some((score, entry));
                }
            }
            if let Some((_, entry)) = closest {
                distance += relative_error(row, &entry.mean_value);
                rows += 1;
            }
        }
        (best, (rows > 0).then(|| distance / rows as f32))
    }

    fn recount(&mut self) {
        self.bytes = self.entries.iter().map(|entry| entry.bytes()).sum();
    }
}

/// How many of the tokens in `removed`, which are in order, stand before `position`.
pub(crate) fn tokens_before(removed: &[Range<u64>], position: u64) -> u64 {
    let before = removed.iter().map(|range| {
        let end = range.end.min(position);
        end.saturating_sub(range.start)
    });
    before.sum()
}

/// Ranges in order, those that touch or overlap made one.
pub(crate) fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// Puts an entry among the best, once per item.
fn offer(best: &mut Vec<Neighbour>, entry: &Entry, score: f32, at_most: usize) {
    if best.len() == at_most && best.last().is_none_or(|last| score <= last.score) {
        return;
    }
    if let Some(known) = best.iter().position(|known| known.item == entry.item) {
        if best[known].score >= score {
            return;
        }
        best.remove(known);
    }
    let place = best.partition_point(|known| known.score >= score);
    let neighbour = Neighbour {
        item: entry.item,
        score,
        stored_unix: entry.stored_unix,
    };
    best.insert(place, neighbour);
    best.truncate(at_most);
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn entry(item: u64, tokens: Range<u64>, value: [f32; 2]) -> Entry {
        let count = (tokens.end - tokens.start) as usize;
        let keys: Vec<f32> = (0..count * 3).map(|n| n as f32 * 0.5).collect();
        Entry::new(item.into(), tokens, 100 + item, &keys, &value.repeat(count))
    }

    fn ledger(entries: impl IntoIterator<Item = Entry>) -> Ledger {
        let mut ledger = Ledger::default();
        for entry in entries {
            ledger.push(Arc::new(entry), usize::MAX);
        }
        ledger
    }

    fn items(ledger: &Ledger) -> Vec<u128> {
        ledger.entries.iter().map(|entry| entry.item.0).collect()
    }

    #[test]
    fn the_oldest_items_fall_out_and_the_bytes_are_those_of_the_rest() {
        let one = entry(0, 0..1, [1.0, 0.0]).bytes();
        let mut bounded = Ledger::default();
        for n in 0..10 {
            bounded.push(Arc::new(entry(n, n..n + 1, [1.0, 0.0])), 3 * one);
        }
        assert_eq!(items(&bounded), [7, 8, 9]);
        assert_eq!(bounded.bytes(), 3 * one);
        // One that is larger than the bound takes nobody's place.
        bounded.push(Arc::new(entry(10, 10..500, [1.0, 0.0])), 3 * one);
        assert_eq!(items(&bounded), [7, 8, 9]);
        assert_eq!(bounded.bytes(), 3 * one);
    }

    #[test]
    fn the_nearest_items_are_named_once_each_best_first() {
        let ledger = ledger([
            entry(1, 0..2, [1.0, 0.0]),
            entry(2, 2..3, [0.0, 2.0]),
            entry(1, 3..4, [0.9, 0.1]),
            entry(3, 4..5, [-1.0, 0.0]),
        ]);
        let (nearest, surprise) = ledger.nearest(&[0.5, 0.0], 2, 2);
        let named: Vec<_> = nearest.iter().map(|n| (n.item.0, n.score)).collect();
        assert_eq!(named[0], (1, 1.0));
        assert_eq!((named[1].0, named.len()), (2, 2));
        assert_eq!(nearest[0].stored_unix, 101);
        // Half of the stored value is missing.
        assert_eq!(surprise, Some(0.5));
        assert_eq!(ledger.nearest(&[0.0, 0.0], 2, 1).0[0].score, 0.0);
        assert_eq!(
            Ledger::default().nearest(&[1.0, 0.0], 2, 3),
            (Vec::new(), None)
        );
    }

    #[test]
    fn erased_items_are_not_named_and_leave_their_place_to_the_others() {
        let mut ledger = ledger([
            entry(1, 0..2, [1.0, 0.0]),
            entry(2, 2..5, [0.0, 1.0]),
            entry(1, 6..7, [1.0, 0.0]),
        ]);
        ledger.mark_erased(ItemId(2), &(7..10));
        ledger.push(Arc::new(entry(2, 10..11, [0.0, 1.0])), usize::MAX);
        assert_eq!(ledger.erased().count(), 1);
        assert_eq!(ledger.pieces(ItemId(2)).count(), 1, "what came later stays");
        let (nearest, _) = ledger.nearest(&[0.0, 1.0], 2, 9);
        assert_eq!(nearest[0].stored_unix, 102);

        let removed = merged(vec![7..10, 2..5]);
        let left = ledger.without(&[ItemId(2)], &removed);
        let tokens: Vec<_> = left.entries.iter().map(|e| e.tokens.clone()).collect();
        assert_eq!(tokens, [0..2, 3..4, 4..5]);
        assert_eq!(
            left.bytes(),
            left.entries.iter().map(|e| e.bytes()).sum::<usize>()
        );

        // Back to before the erasure: the item has to be erased again.
        ledger.truncate(8);
        assert_eq!(ledger.owed(), [ItemId(2)]);
        assert_eq!(items(&ledger), [1, 2, 1]);
        assert_eq!(ledger.pieces(ItemId(2)).count(), 1);
    }

    #[test]
    fn ranges_that_touch_are_one() {
        assert_eq!(merged(vec![5..7, 0..2, 2..3, 6..9]), [0..3, 5..9]);
        assert_eq!(tokens_before(&[0..3, 5..9], 6), 4);
    }
}
