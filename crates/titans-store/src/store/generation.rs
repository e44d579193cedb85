//! Numbers of generations, and the names their files have.

use std::fmt;

/// The number of a generation, rising with every save and never used twice in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u64);

impl Generation {
    /// The generation with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The name of its file: `g-<20 digits>.titanmem`, so that names sort as numbers do.
    pub fn file_name(self) -> String {
        Slot::Numbered(self).file_name()
    }

    /// The generation whose file has this name.
    pub fn from_file_name(name: &str) -> Option<Self> {
        match Slot::from_file_name(name) {
            Some(Slot::Numbered(generation)) => Some(generation),
            _ => None,
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The two names under which a folder may hold a whole generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Written by a save, pruned when old.
    Numbered(Generation),
    /// Pinned as last known good, never pruned.
    Pinned(Generation),
}

impl Slot {
    pub(crate) fn generation(self) -> Generation {
        match self {
            Self::Numbered(generation) | Self::Pinned(generation) => generation,
        }
    }

    pub(crate) fn file_name(self) -> String {
        match self {
            Self::Numbered(Generation(number)) => format!("g-{number:020}.titanmem"),
            Self::Pinned(Generation(number)) => format!("lkg-{number:020}.titanmem"),
        }
    }

    /// Reads a name back; only the exact form that is written counts.
    pub(crate) fn from_file_name(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".titanmem")?;
        let (prefix, digits) = stem.split_once('-')?;
        let number = twenty_digits(digits)?;
        match prefix {
            "g" => Some(Self::Numbered(Generation(number))),
            "lkg" => Some(Self::Pinned(Generation(number))),
            _ => None,
        }
    }
}

/// The name of a journal: `j-<generation it follows>-<epoch of its writer>.titanlog`.
///
/// The epoch is in the name so that two writers never share a journal, and so that a writer
/// that lost its lock sees its successor's without opening anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JournalName {
    pub(crate) base: Generation,
    pub(crate) epoch: u64,
}

impl JournalName {
    pub(crate) fn file_name(self) -> String {
        format!("j-{:020}-{:020}.titanlog", self.base.0, self.epoch)
    }

    /// Reads a name back; only the exact form that is written counts.
    pub(crate) fn from_file_name(name: &str) -> Option<Self> {
        let stem = name.strip_prefix("j-")?.strip_suffix(".titanlog")?;
        let (base, epoch) = stem.split_once('-')?;
        Some(Self {
            base: Generation(twenty_digits(base)?),
            epoch: twenty_digits(epoch)?,
        })
    }
}

/// A number as the names of files have it.
pub(super) fn twenty_digits(digits: &str) -> Option<u64> {
    let is_plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_nothing_else_does() {
        for slot in [
            Slot::Numbered(Generation(0)),
            Slot::Numbered(Generation(u64::MAX)),
            Slot::Pinned(Generation(17)),
        ] {
            assert_eq!(Slot::from_file_name(&slot.file_name()), Some(slot));
        }
        assert_eq!(Generation(7).file_name(), "g-00000000000000000007.titanmem");
        for name in [
            "g-7.titanmem",
            "g-+0000000000000000007.titanmem",
            "g-99999999999999999999.titanmem",
            "h-00000000000000000007.titanmem",
            "g-00000000000000000007.titanmem.bak",
            ".tmp-1-2",
        ] {
            assert_eq!(Slot::from_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn journal_names_read_back_and_nothing_else_does() {
        let journal = JournalName {
            base: Generation(7),
            epoch: u64::MAX,
        };
        assert_eq!(
            JournalName::from_file_name(&journal.file_name()),
            Some(journal)
        );
        for name in [
            "j-00000000000000000007.titanlog",
            "j-00000000000000000007-1.titanlog",
            "g-00000000000000000007-00000000000000000001.titanlog",
            "j-00000000000000000007-00000000000000000001.titanmem",
        ] {
            assert_eq!(JournalName::from_file_name(name), None, "{name}");
        }
    }
}
