//! Optional parts of a file that this version does not know, kept for the next file.
//!
//! A later version may add a section or a feature bit that older programs may ignore. They
//! may not lose it either: what the newest generation carried, the next one carries too.

use super::section::Section;

/// The optional parts of one file that this version does not know.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Carried {
    /// Feature bits that anyone may ignore.
    pub(crate) compat: u32,
    pub(crate) sections: Vec<CarriedSection>,
}

/// One section that this version does not know.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CarriedSection {
    /// Its row; the place in the file is not that of the next file.
    pub(crate) row: Section,
    /// Its bytes, without the seal of an encrypted file.
    pub(crate) stored: Vec<u8>,
}
