//! What has happened to a folder, in order.

use std::collections::BTreeMap;

/// The files of a folder by name.
pub(super) type Names = BTreeMap<String, usize>;
/// A name and the file it has now, if any.
pub(super) type Change = (String, Option<usize>);

/// One thing that happened.
#[derive(Clone, Debug)]
pub(super) enum Done {
    Wrote {
        file: usize,
        at: usize,
        bytes: Vec<u8>,
    },
    Flushed {
        file: usize,
    },
    FailedToFlush {
        file: usize,
    },
    Named(Vec<Change>),
    FlushedNames,
    Acknowledged(u64),
}
