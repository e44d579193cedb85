//! One user's stream: what waits to be learned, what it is about, and where a caller's rows
//! stand in it.
//!
//! There are two ways to count. A token's *place in the memory* is how many tokens the memory
//! has learned before it; snapshots, files and chunk borders count so. A caller's *position*
//! also counts the chunks that were handed over and could not be learned, so that it never
//! changes once a ticket has it. The two differ only after such a chunk.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::chunker::{Chunker, TokenRows};
use crate::ledger::{Entry, ItemId, Ledger};
use crate::rows::Rows;

/// Chunks that could not be learned and that tickets can still ask about.
const MOST_DROPS: usize = 256;

/// Rows of a caller in a user's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Before the first row.
    start: u64,
    /// After the last row.
    pub(crate) tokens: u64,
    /// How often the stream had gone back.
    epoch: u64,
}

/// What became of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They are learned once the memory has learned this many tokens.
    Expected(u64),
    /// The stream went back: nothing is known of them.
    RolledBack,
    /// Some of them were in a chunk that could not be learned.
    Dropped,
}

/// What a ledger is told once the tokens it is about are learned.
#[derive(Clone, Debug)]
pub(crate) enum Note {
    Stored(Arc<Entry>),
    Erased(ItemId, Range<u64>),
}

/// What a caller says of tokens that it hands over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum About {
    /// Nothing.
    Nothing,
    /// They are, or are a piece of, this item, handed over at this time.
    Stored(ItemId, u64),
    /// They write over this item.
    Erases(ItemId),
}

/// What waits to be learned, and how positions are counted.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) chunker: Chunker,
    /// What the next snapshots have to tell their ledger, in the order of the stream.
    notes: VecDeque<Note>,
    /// Positions of chunks that could not be learned, in order.
    drops: VecDeque<Range<u64>>,
    /// Tokens in all of them, and in those that are not listed any more.
    dropped: u64,
    epoch: u64,
}

impl Note {
    fn end(&self) -> u64 {
        match self {
            Self::Stored(entry) => entry.tokens.end,
            Self::Erased(_, by) => by.end,
        }
    }

    /// Tells a ledger.
    pub(crate) fn tell(&self, ledger: &mut Ledger, max_bytes: usize) {
        match self {
            Self::Stored(entry) => ledger.push(Arc::clone(entry), max_bytes),
            Self::Erased(item, by) => ledger.mark_erased(*item, by),
        }
    }

    /// What is left of it when the tokens in `dropped` are taken out of the stream.
    fn without(self, dropped: &Range<u64>) -> Option<Self> {
        let place = |at: u64| at - (at.min(dropped.end).saturating_sub(dropped.start));
        let moved = |range: &Range<u64>| place(range.start)..place(range.end);
        match self {
            Self::Stored(entry) => {
                let tokens = moved(&entry.tokens);
                let stays = !tokens.is_empty();
                stays.then(|| Self::Stored(Arc::new(entry.without_tokens(dropped, tokens))))
            }
            Self::Erased(item, by) => {
                let by = moved(&by);
                (!by.is_empty()).then_some(Self::Erased(item, by))
            }
        }
    }
}

impl Stream {
    pub(crate) fn new(chunker: Chunker) -> Self {
        Self {
            chunker,
            notes: VecDeque::new(),
            drops: VecDeque::new(),
            dropped: 0,
            epoch: 0,
        }
    }

    /// How often the stream went back. Positions from before mean nothing after it.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Tokens in chunks that could not be learned, since the stream last went back.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The end of what was handed over.
    pub(crate) fn end(&self) -> Position {
        self.position_of(self.chunker.accepted())
    }

    /// The position behind a place in the memory that waits to be learned, or is its end.
    pub(crate) fn position_of(&self, place: u64) -> Position {
        let tokens = place + self.dropped;
        Position {
            start: tokens,
            tokens,
            epoch: self.epoch,
        }
    }

    /// What is known of rows at a position.
    pub(crate) fn fate(&self, position: Position) -> Fate {
        if position.epoch != self.epoch {
            return Fate::RolledBack;
        }
        let is_hit = |drop: &Range<u64>| drop.start < position.tokens && position.start < drop.end;
        if self.drops.iter().any(is_hit) {
            return Fate::Dropped;
        }
        let listed = self.drops.iter().map(|drop| drop.end - drop.start);
        let unlisted = self.dropped - listed.sum::<u64>();
        let before = self.drops.iter().map(|drop| {
            let end = drop.end.min(position.tokens);
            end.saturating_sub(drop.start)
        });
        let before = unlisted + before.sum::<u64>();
        Fate::Expected(position.tokens.saturating_sub(before))
    }

    /// Takes some of the rows, which are checked. The position is that of all rows since
    /// `start`, where the first of them was taken.
    pub(crate) fn push(
        &mut self,
        (keys, values): (Rows<'_>, Rows<'_>),
        rows: Range<usize>,
    ) -> Position {
        let all_before = rows.start as u64;
        let from = self.chunker.accepted() + self.dropped - all_before;
        self.chunker.push(keys, values, rows);
        Position {
            start: from,
            ..self.end()
        }
    }

    /// Notes what the ledger has to be told of the next `tokens` tokens.
    pub(crate) fn note(&mut self, about: About, rows: &TokenRows, tokens: u64) {
        let start = self.chunker.accepted();
        let range = start..start + tokens;
        self.notes.extend(match about {
            About::Nothing => None,
            About::Stored(item, unix) => {
                let entry = Entry::new(item, range, unix, &rows.keys, &rows.values);
                Some(Note::Stored(Arc::new(entry)))
            }
            About::Erases(item) => Some(Note::Erased(item, range)),
        });
    }

    /// Of an item that was not taken whole, nothing is known.
    pub(crate) fn drop_notes_of_the_rest(&mut self) {
        let accepted = self.chunker.accepted();
        self.notes.retain(|note| note.end() <= accepted);
    }

    /// The notes about tokens that a memory of `tokens` tokens has learned.
    pub(crate) fn notes_before(&self, tokens: u64) -> Vec<Note> {
        let due = self.notes.iter().take_while(|note| note.end() <= tokens);
        due.cloned().collect()
    }

    /// The first `count` notes were told.
    pub(crate) fn told(&mut self, count: usize) {
        self.notes.drain(..count.min(self.notes.len()));
    }

    /// The pieces of an item that no snapshot may have yet.
    pub(crate) fn noted_pieces(&self, item: ItemId) -> Vec<Arc<Entry>> {
        let mut pieces = Vec::new();
        for note in &self.notes {
            match note {
                Note::Stored(entry) if entry.item == item => pieces.push(Arc::clone(entry)),
                Note::Erased(erased, _) if *erased == item => pieces.clear(),
                Note::Stored(_) | Note::Erased(..) => {}
            }
        }
        pieces
    }

    /// The items that tokens on their way write over.
    pub(crate) fn being_erased(&self) -> Vec<ItemId> {
        let erased = self.notes.iter().filter_map(|note| match note {
            Note::Erased(item, _) => Some(*item),
            Note::Stored(_) => None,
        });
        erased.collect()
    }

    /// The last `tokens` that were taken from the chunker could not be learned: the memory goes
    /// on as if they had never been handed over.
    pub(crate) fn drop_taken(&mut self, tokens: u64) {
        let end = self.chunker.taken();
        let places = end - tokens..end;
        self.drops.push_back(Range {
            start: places.start + self.dropped,
            end: places.end + self.dropped,
        });
        self.dropped += tokens;
        if self.drops.len() > MOST_DROPS {
            self.drops.pop_front();
        }
        self.chunker.move_to(places.start);
        let notes = std::mem::take(&mut self.notes);
        self.notes = (notes.into_iter())
            .filter_map(|note| note.without(&places))
            .collect();
    }

    /// Goes on at a place in the memory; what waits is dropped, and positions from before mean
    /// nothing any more. Returns how many tokens had been accepted.
    pub(crate) fn restart_at(&mut self, place: u64) -> u64 {
        let accepted = self.chunker.accepted();
        self.chunker.restart_at(place);
        self.notes.clear();
        self.drops.clear();
        self.dropped = 0;
        self.epoch += 1;
        accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(stream: &mut Stream, tokens: usize) -> Position {
        let numbers = vec![1.0; tokens];
        let rows = Rows::matrix(&numbers, 1);
        stream.push((rows, rows), 0..tokens)
    }

    fn stream() -> Stream {
        Stream::new(Chunker::new(4, (1, 1), 0))
    }

    #[test]
    fn a_position_stays_right_when_a_chunk_before_it_is_dropped() {
        let mut stream = stream();
        let first = push(&mut stream, 3);
        let second = push(&mut stream, 3);
        let third = push(&mut stream, 4);
        assert_eq!(stream.fate(third), Fate::Expected(10));
        // The first chunk holds the first three and one of the second.
        assert_eq!(stream.chunker.take().map(|rows| rows.keys.len()), Some(4));
        stream.drop_taken(4);
        assert_eq!(stream.fate(first), Fate::Dropped);
        assert_eq!(stream.fate(second), Fate::Dropped);
        assert_eq!(stream.fate(third), Fate::Expected(6));
        assert_eq!(stream.end().tokens, 10);
        let fourth = push(&mut stream, 2);
        assert_eq!(stream.fate(fourth), Fate::Expected(8));
        // Chunks end where they would have ended without the dropped ones.
        assert_eq!(stream.chunker.take().map(|rows| rows.keys.len()), Some(4));
        stream.drop_taken(4);
        assert_eq!(stream.fate(third), Fate::Dropped);
        assert_eq!(stream.fate(fourth), Fate::Expected(4));
    }

    #[test]
    fn a_piece_that_is_shorter_than_a_chunk_moves_the_borders_back() {
        let mut stream = stream();
        push(&mut stream, 3);
        stream.chunker.flush_to(3);
        assert_eq!(stream.chunker.take().map(|rows| rows.keys.len()), Some(3));
        push(&mut stream, 6);
        stream.drop_taken(3);
        assert_eq!(stream.chunker.take().map(|rows| rows.keys.len()), Some(4));
        assert_eq!(stream.chunker.take(), None);
        assert_eq!(stream.chunker.accepted(), 6);
    }

    #[test]
    fn notes_move_with_their_tokens_and_go_with_them() {
        let mut stream = stream();
        let rows = |tokens: usize| TokenRows {
            keys: (0..tokens).map(|key| key as f32).collect(),
            values: vec![1.0; tokens],
        };
        for (item, tokens) in [(1, 2), (2, 4), (3, 1)] {
            let about = About::Stored(ItemId(item), 0);
            stream.note(about, &rows(tokens), tokens as u64);
            push(&mut stream, tokens);
        }
        assert!(stream.chunker.take().is_some());
        stream.drop_taken(4);
        let left = stream.notes_before(u64::MAX);
        let left: Vec<_> = (left.iter())
            .map(|note| match note {
                Note::Stored(entry) => (entry.item.0, entry.tokens.clone(), entry.keys.len()),
                Note::Erased(..) => unreachable!("nothing was erased"),
            })
            .collect();
        assert_eq!(left, [(2, 0..2, 2), (3, 2..3, 1)]);
    }

    #[test]
    fn going_back_ends_every_position() {
        let mut stream = stream();
        let position = push(&mut stream, 3);
        assert_eq!(stream.restart_at(0), 3);
        assert_eq!(stream.fate(position), Fate::RolledBack);
        let other = push(&mut stream, 3);
        assert_eq!(stream.fate(other), Fate::Expected(3));
    }

    #[test]
    fn the_list_of_drops_is_bounded_and_positions_stay_right() {
        let mut stream = stream();
        for _ in 0..3 * MOST_DROPS {
            push(&mut stream, 4);
            assert!(stream.chunker.take().is_some());
            stream.drop_taken(4);
        }
        assert_eq!(stream.drops.len(), MOST_DROPS);
        let position = push(&mut stream, 4);
        assert_eq!(stream.fate(position), Fate::Expected(4));
    }
}
