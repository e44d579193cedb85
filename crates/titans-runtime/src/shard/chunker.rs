//! A token stream to chunks: their borders never depend on how the caller cut the stream.

use std::collections::VecDeque;
use std::ops::Range;

use crate::rows::Rows;

/// Tokens at most that room is made for before they come. Pages that no row is written to cost
/// nothing, and no caller pays for moving what waits from one buffer to a larger one.
const RESERVED_TOKENS: usize = 4096;

/// Keys and values of consecutive tokens, each row-major and contiguous.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TokenRows {
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
}

impl TokenRows {
    /// A copy of rows that are checked.
    pub(crate) fn of(keys: Rows<'_>, values: Rows<'_>) -> Self {
        let mut rows = Self::default();
        keys.append_to(&mut rows.keys, 0..keys.len());
        values.append_to(&mut rows.values, 0..values.len());
        rows
    }
}

/// Tokens that wait to be learned.
///
/// A chunk ends where the position in the whole stream is a multiple of the chunk length.
/// A flush takes a shorter piece; the border after it stays where it was.
#[derive(Debug)]
pub(crate) struct Chunker {
    chunk_tokens: usize,
    key_dim: usize,
    value_dim: usize,
    /// A buffer for each chunk, so that a learner takes one whole, without copying it under
    /// the lock. Each but the last ends at a border.
    chunks: VecDeque<TokenRows>,
    /// Tokens in all of them.
    waiting: usize,
    /// Position in the stream of the first waiting token.
    taken: u64,
    /// Tokens before this position are taken without waiting for a whole chunk.
    flush_to: u64,
}

impl Chunker {
    /// A chunker for a stream of which `taken` tokens are learned.
    pub(crate) fn new(
        chunk_tokens: usize,
        (key_dim, value_dim): (usize, usize),
        taken: u64,
    ) -> Self {
        Self {
            chunk_tokens,
            key_dim,
            value_dim,
            chunks: VecDeque::new(),
            waiting: 0,
            taken,
            flush_to: 0,
        }
    }

    /// How many tokens wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Position in the stream after the last token that was pushed.
    pub(crate) fn accepted(&self) -> u64 {
        self.taken + self.waiting as u64
    }

    /// Place in the stream of the first token that waits.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes some of the rows, which are checked.
    pub(crate) fn push(&mut self, keys: Rows<'_>, values: Rows<'_>, tokens: Range<usize>) {
        let mut start = tokens.start;
        while start < tokens.end {
            let to_border = self.to_border(self.accepted());
            if self.chunks.is_empty() || to_border == self.chunk_tokens {
                let room = to_border.min(RESERVED_TOKENS);
                self.chunks.push_back(TokenRows {
                    keys: Vec::with_capacity(room * self.key_dim),
                    values: Vec::with_capacity(room * self.value_dim),
                });
            }
            let chunk = self.chunks.back_mut().expect("there is one now");
            let end = tokens.end.min(start + to_border);
            keys.append_to(&mut chunk.keys, start..end);
            values.append_to(&mut chunk.values, start..end);
            self.waiting += end - start;
            start = end;
        }
    }

    /// Lets everything before `position` be taken as it is.
    pub(crate) fn flush_to(&mut self, position: u64) {
        self.flush_to = self.flush_to.max(position);
    }

    /// Tokens that the next [`take`](Self::take) would give; 0 when it has to wait.
    pub(crate) fn ready(&self) -> usize {
        let to_border = self.to_border(self.taken);
        if self.waiting >= to_border {
            return to_border;
        }
        let to_flush = self.flush_to.saturating_sub(self.taken);
        self.waiting
            .min(usize::try_from(to_flush).unwrap_or(usize::MAX))
    }

    /// The next chunk, or the flushed part of one.
    pub(crate) fn take(&mut self) -> Option<TokenRows> {
        let tokens = self.ready();
        if tokens == 0 {
            return None;
        }
        let first = self.chunks.front_mut()?;
        let (keys, values) = (tokens * self.key_dim, tokens * self.value_dim);
        self.taken += tokens as u64;
        self.waiting -= tokens;
        if first.keys.len() == keys {
            return self.chunks.pop_front();
        }
        Some(TokenRows {
            keys: first.keys.drain(..keys).collect(),
            values: first.values.drain(..values).collect(),
        })
    }

    /// Lets the first token that waits stand at an earlier place, and the others behind it.
    pub(crate) fn move_to(&mut self, place: u64) {
        self.flush_to = self.flush_to.saturating_sub(self.taken - place);
        self.taken = place;
        self.waiting = 0;
        for rows in std::mem::take(&mut self.chunks) {
            let tokens = rows.keys.len() / self.key_dim;
            let keys = Rows::matrix(&rows.keys, self.key_dim);
            let values = Rows::matrix(&rows.values, self.value_dim);
            self.push(keys, values, 0..tokens);
        }
    }

    /// Bytes of what waits. Room that was only made costs nothing.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting * (self.key_dim + self.value_dim) * size_of::<f32>()
    }

    /// Forgets what waits and goes on at `position`.
    pub(crate) fn restart_at(&mut self, position: u64) {
        self.chunks.clear();
        self.waiting = 0;
        self.taken = position;
        self.flush_to = 0;
    }

    /// Tokens from a position to the next border after it.
    fn to_border(&self, position: u64) -> usize {
        self.chunk_tokens - (position % self.chunk_tokens as u64) as usize
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(positions: std::ops::Range<u64>) -> (Vec<f32>, Vec<f32>) {
        let keys = positions.clone().flat_map(|p| [p as f32, -(p as f32)]);
        (keys.collect(), positions.map(|p| p as f32).collect())
    }

    fn push(chunker: &mut Chunker, keys: &[f32], values: &[f32]) {
        let tokens = values.len();
        let (keys, values) = (Rows::matrix(keys, 2), Rows::matrix(values, 1));
        chunker.push(keys, values, 0..tokens);
    }

    #[test]
    fn a_flush_takes_what_there_is_and_keeps_the_border() {
        let mut chunker = Chunker::new(4, (2, 1), 6);
        let (keys, values) = rows(6..7);
        push(&mut chunker, &keys, &values);
        assert_eq!(chunker.take(), None);
        chunker.flush_to(chunker.accepted());
        assert_eq!(chunker.take().unwrap().values, [6.0]);

        let (keys, values) = rows(7..13);
        push(&mut chunker, &keys, &values);
        // One token to the border at 8, then a whole chunk, then one has to wait.
        assert_eq!(chunker.take().unwrap().values, [7.0]);
        assert_eq!(chunker.take().unwrap().values, [8.0, 9.0, 10.0, 11.0]);
        assert_eq!(chunker.take(), None);
        assert_eq!((chunker.waiting(), chunker.accepted()), (1, 13));
    }

    proptest! {
        #[test]
        fn chunks_are_the_stream_however_it_was_cut(
            pieces in prop::collection::vec(0u64..23, 1..40),
            chunk in 1usize..17,
        ) {
            let mut chunker = Chunker::new(chunk, (2, 1), 0);
            let mut position = 0;
            let mut chunks = Vec::new();
            for piece in pieces {
                let (keys, values) = rows(position..position + piece);
                push(&mut chunker, &keys, &values);
                position += piece;
                while let Some(rows) = chunker.take() {
                    chunks.push(rows);
                }
            }
            prop_assert!(chunks.iter().all(|rows| rows.values.len() == chunk));
            chunker.flush_to(position);
            chunks.extend(chunker.take());
            let (keys, values) = rows(0..position);
            prop_assert_eq!(chunks.iter().flat_map(|c| c.keys.clone()).collect::<Vec<_>>(), keys);
            prop_assert_eq!(chunks.iter().flat_map(|c| c.values.clone()).collect::<Vec<_>>(), values);
        }
    }
}
