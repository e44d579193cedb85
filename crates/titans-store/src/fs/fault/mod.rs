//! A folder in memory that fails on demand and forgets what was not flushed.
//!
//! It keeps the list of everything that was done to it. A power loss may strike between any
//! two steps, and what survives is chosen by the weakest promises that a file system makes:
//!
//! - of the bytes written since the last flush of a file, any set of sectors, or a cut at any
//!   byte; what lies between survivors and was lost reads as zeros;
//! - of the names changed since the last flush of the folder, any set of the changes, each
//!   of them whole;
//! - after a flush that failed, some bytes are on the disk, the others never will be, though
//!   they can still be read: the next flush reports success and does nothing for them.
//!
//! It locks nothing, as a broken network file system would.

mod crash_point;
mod happened;
mod storage;

pub use self::crash_point::CrashPoint;
pub use self::storage::{Fault, FaultyStorage};
