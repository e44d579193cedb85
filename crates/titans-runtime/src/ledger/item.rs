//! The name that a caller gives to what it stores.

use std::fmt;

use crate::number_ids::from_numbers;

/// The caller's name of something stored: a message, a document, a fact. Pieces that are handed
/// over under one name are one item.
///
/// It is a number of 128 bits, made of what the caller has:
///
/// - a number of any type, such as a row of a database. It stays what it is, and a negative one
///   stands for its two's complement;
/// - the 16 bytes of a UUID, which are its number, `u128::from_be_bytes`;
/// - a text of any length. It becomes the first 16 bytes of its BLAKE3 hash, so that two texts, or
///   a text and a number that somebody did not look for, do not meet.
///
/// [`Neighbour`](crate::Neighbour), [`StoredItem`](crate::StoredItem) and
/// [`ForgottenItem`](crate::ForgottenItem) name an item by this number; who named it by a text
/// finds it by `ItemId::from(text)`. The text itself is kept nowhere. Its hash is in the memory's
/// files, and needs no key: whoever reads those can find out whether a text that they guess is
/// among the names.
///
/// ```
/// use titans_runtime::ItemId;
///
/// assert_eq!(ItemId::from(7_u64), ItemId(7));
/// assert_eq!(ItemId::from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]), ItemId(7));
/// // As `printf 'note 7' | b3sum` begins.
/// assert_eq!(ItemId::from("note 7").to_string(), "dd49e7a8345516b86753df475a003607");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId(pub u128);

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ItemId({self})")
    }
}

impl From<&str> for ItemId {
    fn from(name: &str) -> Self {
        let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
            *blake3::hash(name.as_bytes()).as_bytes();
        first.into()
    }
}

impl From<&String> for ItemId {
    fn from(name: &String) -> Self {
        name.as_str().into()
    }
}

impl From<String> for ItemId {
    fn from(name: String) -> Self {
        name.as_str().into()
    }
}

from_numbers!(ItemId, ItemId);
