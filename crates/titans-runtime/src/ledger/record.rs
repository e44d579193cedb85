//! Entries of the ledger as records of a log, and back.
//!
//! ```text
//! kind 1   entry     item 16, start 8, end 8, stored 8, key numbers 4, value numbers 4,
//!                    value f32 each, key f16 each
//! kind 2   erased    item 16, start 8, end 8 of the tokens that wrote over it
//! kind 3   history   number 8: what follows, and only that, belongs to a memory that was
//!                    rebuilt so often
//! kind 4   owed      item 16, place 8: its pieces before the place were forgotten, and a
//!                    rollback may have brought them back
//! ```
//!
//! Little-endian. A record of another kind or length is passed over: the ledger is of use
//! without it, and a log of a later version must not keep a memory from opening.

use std::ops::Range;

use half::f16;

use super::{Entry, ItemId};

const ENTRY: u8 = 1;
const ERASED: u8 = 2;
const HISTORY: u8 = 3;
const OWED: u8 = 4;

/// One record of a ledger's log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    Entry(Entry),
    /// Every piece of the item before these tokens was written over by them.
    Erased(ItemId, Range<u64>),
    /// The records behind this one are those of a memory that was rebuilt so often.
    History(u64),
    /// The pieces of the item before this place were forgotten; if they are known, they are to
    /// be forgotten once more.
    Owed(ItemId, u64),
}

pub(crate) fn encode(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    match record {
        Record::Entry(entry) => {
            bytes.push(ENTRY);
            bytes.extend(entry.item.0.to_le_bytes());
            for number in [entry.tokens.start, entry.tokens.end, entry.stored_unix] {
                bytes.extend(number.to_le_bytes());
            }
            for count in [entry.keys.len(), entry.mean_value.len()] {
                bytes.extend((count as u32).to_le_bytes());
            }
            bytes.extend(
                entry
                    .mean_value
                    .iter()
                    .flat_map(|value| value.to_le_bytes()),
            );
            bytes.extend(entry.keys.iter().flat_map(|key| key.to_le_bytes()));
        }
        Record::Erased(item, by) => {
            bytes.push(ERASED);
            bytes.extend(item.0.to_le_bytes());
            bytes.extend(by.start.to_le_bytes());
            bytes.extend(by.end.to_le_bytes());
        }
        Record::History(number) => {
            bytes.push(HISTORY);
            bytes.extend(number.to_le_bytes());
        }
        Record::Owed(item, place) => {
            bytes.push(OWED);
            bytes.extend(item.0.to_le_bytes());
            bytes.extend(place.to_le_bytes());
        }
    }
    bytes
}

/// The record in these bytes, if they are one of a memory with these widths.
pub(crate) fn decode(bytes: &[u8], (key_dim, value_dim): (usize, usize)) -> Option<Record> {
    let (&kind, rest) = bytes.split_first()?;
    if kind == HISTORY {
        let (number, rest) = rest.split_first_chunk::<8>()?;
        return (rest.is_empty()).then(|| Record::History(u64::from_le_bytes(*number)));
    }
    let (item, rest) = rest.split_first_chunk::<16>()?;
    let item = ItemId(u128::from_le_bytes(*item));
    let (start, rest) = rest.split_first_chunk::<8>()?;
    if kind == OWED {
        return (rest.is_empty()).then(|| Record::Owed(item, u64::from_le_bytes(*start)));
    }
    let (end, rest) = rest.split_first_chunk::<8>()?;
    let tokens = u64::from_le_bytes(*start)..u64::from_le_bytes(*end);
    if tokens.is_empty() {
        return None;
    }
    match kind {
        ERASED if rest.is_empty() => Some(Record::Erased(item, tokens)),
        ENTRY => {
            let (stored, rest) = rest.split_first_chunk::<8>()?;
            let (keys, rest) = rest.split_first_chunk::<4>()?;
            let (values, rest) = rest.split_first_chunk::<4>()?;
            let (keys, values) = (u32::from_le_bytes(*keys), u32::from_le_bytes(*values));
            let expected = (tokens.end - tokens.start).checked_mul(key_dim as u64)?;
            // An erased entry has no value any more.
            let fits = u64::from(keys) == expected
                && (values as usize == value_dim || values == 0)
                && rest.len() as u64 == u64::from(values) * 4 + u64::from(keys) * 2;
            if !fits {
                return None;
            }
            let (values, keys) = rest.split_at_checked(values as usize * 4)?;
            let mean_value: Vec<f32> = (values.as_chunks::<4>().0.iter())
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect();
            let keys: Vec<f16> = (keys.as_chunks::<2>().0.iter())
                .map(|bytes| f16::from_le_bytes(*bytes))
                .collect();
            let is_finite = mean_value.iter().all(|value| value.is_finite())
                && keys.iter().all(|key| key.is_finite());
            is_finite.then(|| {
                Record::Entry(Entry {
                    item,
                    tokens,
                    stored_unix: u64::from_le_bytes(*stored),
                    keys,
                    mean_value,
                    erased: None,
                })
            })
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_and_hostile_ones_are_passed_over() {
        let keys = [0.5, -1.0, 2.0, 4.0, 0.25, 1.0];
        let entry = Entry::new(ItemId(7), 3..6, 99, &keys, &[1.0, 2.0, 3.0]);
        let records = [
            Record::Entry(entry),
            Record::Erased(ItemId(7), 6..9),
            Record::History(2),
        ];
        for record in &records {
            let bytes = encode(record);
            assert!(decode(&bytes, (2, 1)).as_ref() == Some(record));
            for len in 0..bytes.len() {
                assert_eq!(decode(&bytes[..len], (2, 1)), None, "{len} bytes");
            }
            let mut longer = bytes.clone();
            longer.push(0);
            assert_eq!(decode(&longer, (2, 1)), None);
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] = 0xff;
                // Whatever comes of it, it is a record of the right size or none.
                if let Some(Record::Entry(entry)) = decode(&damaged, (2, 1)) {
                    assert!(entry.keys.len() == 6 && entry.mean_value.len() == 1);
                }
            }
        }
        assert_eq!(decode(&encode(&records[0]), (3, 1)), None, "another width");
        assert_eq!(decode(&[], (2, 1)), None);
    }

    #[test]
    fn numbers_that_are_not_finite_do_not_come_in() {
        let entry = Entry::new(ItemId(1), 0..1, 0, &[0.5, 0.0], &[f32::NAN]);
        assert_eq!(decode(&encode(&Record::Entry(entry)), (2, 1)), None);
    }
}
