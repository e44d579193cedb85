//! The name that a caller gives to what it stores.

use std::fmt;

/// The caller's name of something stored: a message, a document, a fact. Any number will do,
/// a UUID or a row of a database; pieces that are handed over under one name are one item.
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

impl From<u128> for ItemId {
    fn from(id: u128) -> Self {
        Self(id)
    }
}

impl From<u64> for ItemId {
    fn from(id: u64) -> Self {
        Self(id.into())
    }
}
