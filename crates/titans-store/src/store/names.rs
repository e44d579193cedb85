//! Names of what lies beside the generations in the folder of a memory.

/// Name of the lock file. It is never removed: a removed and recreated one has two owners.
pub(super) const LOCK: &str = "LOCK";
/// The file that says that the memory was forgotten.
pub(super) const TOMBSTONE: &str = "FORGOTTEN";
/// A file of the memory that says so until there is room for the tombstone.
pub(super) const FORGETTING: &str = "FORGETTING";
/// Sub-folder of damaged files.
pub(super) const QUARANTINE: &str = "quarantine";
/// Prefix of files that a save has not finished.
pub(super) const TEMPORARY: &str = ".tmp-";
