//! What the ledger keeps of one piece of an item.

use std::ops::Range;

use half::f16;

use super::ItemId;

/// One piece of an item: what one `observe` handed over.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) item: ItemId,
    /// Where its tokens stand in the stream.
    pub(crate) tokens: Range<u64>,
    pub(crate) stored_unix: u64,
    /// Its keys, row-major. Half precision: enough to find again what was written.
    pub(crate) keys: Vec<f16>,
    /// The mean of its values.
    pub(crate) mean_value: Vec<f32>,
    /// Where the tokens stand that wrote over it.
    pub(crate) erased: Option<Range<u64>>,
}

impl Entry {
    pub(crate) fn new(
        item: ItemId,
        tokens: Range<u64>,
        stored_unix: u64,
        keys: &[f32],
        values: &[f32],
    ) -> Self {
        let count = (tokens.end - tokens.start).max(1) as usize;
        let width = values.len() / count;
        let mut mean_value = vec![0.0; width];
        for row in values.chunks_exact(width.max(1)) {
            for (sum, value) in mean_value.iter_mut().zip(row) {
                *sum += value / count as f32;
            }
        }
        Self {
            item,
            tokens,
            stored_unix,
            keys: (keys.iter())
                .map(|key| f16::from_f32(key.clamp(f16::MIN.to_f32(), f16::MAX.to_f32())))
                .collect(),
            mean_value,
            erased: None,
        }
    }

    /// Bytes that an entry about so many tokens takes in a ledger.
    pub(crate) fn bytes_of(tokens: usize, (key_dim, value_dim): (usize, usize)) -> usize {
        let keys = tokens
            .saturating_mul(key_dim)
            .saturating_mul(size_of::<f16>());
        let mean = value_dim * size_of::<f32>();
        keys.saturating_add(size_of::<Self>() + mean)
    }

    /// The entry when the tokens in `dropped` are taken out of the stream and the others stand
    /// at `tokens`.
    pub(crate) fn without_tokens(&self, dropped: &Range<u64>, tokens: Range<u64>) -> Self {
        let count = (self.tokens.end - self.tokens.start).max(1) as usize;
        let width = (self.keys.len() / count).max(1);
        let rows = self.tokens.clone().zip(self.keys.chunks_exact(width));
        let kept = rows.filter(|(token, _)| !dropped.contains(token));
        Self {
            tokens,
            keys: kept.flat_map(|(_, row)| row.iter().copied()).collect(),
            ..self.clone()
        }
    }

    /// The keys as the memory takes them.
    pub(crate) fn keys_f32(&self) -> impl Iterator<Item = f32> {
        self.keys.iter().map(|key| key.to_f32())
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.keys) + size_of_val(&*self.mean_value)
    }
}
