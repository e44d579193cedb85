//! Why nothing is done any more, whatever is asked for.

use std::sync::Arc;

use thiserror::Error;

/// Why a runtime or a memory does no more work, whichever call it is. Trying again does not help;
/// readers keep the last snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Stopped {
    /// The runtime is closed or closing. Open the folder again.
    #[error("the runtime is closed")]
    Closed,
    /// The user of this handle was forgotten. Nothing is learned for it any more.
    #[error("this user was forgotten")]
    Forgotten,
    /// A step failed for this user in a way that trying again does not mend. The memory is
    /// read-only until [`resume`](crate::UserMemory::resume) or
    /// [`roll_back`](crate::UserMemory::roll_back).
    #[error("this memory is read-only since it failed: {reason}")]
    Failed {
        /// What failed.
        reason: Arc<str>,
    },
    /// The handle came into this process by `fork`. Threads are not copied, so a child cannot
    /// use the runtime of its parent; nothing that both share was touched.
    #[error("opened by process {parent}, used in its child {child}: open a runtime of your own")]
    Forked {
        /// The process that opened the runtime.
        parent: u32,
        /// The one that asked.
        child: u32,
    },
}
