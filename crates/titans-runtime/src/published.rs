//! A value that readers see, how it is replaced, and how the one before is used again.
//!
//! Protocol: one writer builds the next value in private and publishes it by one pointer swap.
//! A reader loads the pointer once per request and keeps that value for the whole request. So
//! no reader waits for a writer or another reader, and no reader sees half a value. The writer
//! keeps what it replaced; when nobody else holds it any more, it is the writer's again, whole.
//! A slow reader only delays that.
//!
//! The swap orders everything: whatever happened before [`Published::publish`] is visible to
//! whoever loads the new value. The count of holders orders the rest: whatever a reader did
//! with a value happened before [`reclaim`] returns it.

use crate::sync::{Arc, AtomicU64, Ordering, Pointer};

/// A value that knows whose it is and when it came.
pub(crate) trait Versioned {
    /// Tells the values of one sequence from those of others.
    type Owner: Copy + PartialEq;

    /// Whose.
    fn owner(&self) -> Self::Owner;

    /// Rises by one with every publish.
    fn version(&self) -> u64;
}

/// A pointer to the newest value; loads never wait.
#[derive(Debug)]
pub(crate) struct Published<T>(Pointer<T>);

impl<T> Published<T> {
    pub(crate) fn new(first: T) -> Self {
        Self(Pointer::new(Arc::new(first)))
    }

    /// The newest value. Call once per request.
    pub(crate) fn load(&self) -> Arc<T> {
        self.0.load()
    }

    /// Replaces the newest value and returns the one before.
    pub(crate) fn publish(&self, next: Arc<T>) -> Arc<T> {
        self.0.swap(next)
    }
}

/// What was replaced, if it is the version right before `current` and nobody holds it.
///
/// Whoever calls this may change what it returns: no reader can reach it.
pub(crate) fn reclaim<T: Versioned>(replaced: Arc<T>, current: &T) -> Option<T> {
    let is_before =
        replaced.owner() == current.owner() && replaced.version() + 1 == current.version();
    is_before.then(|| Arc::try_unwrap(replaced).ok()).flatten()
}

/// One reader's view of a sequence: checks that values are its own and never go back.
#[derive(Debug)]
pub(crate) struct Reader<Owner> {
    owner: Owner,
    /// The highest version seen. Release and acquire: who finds a version here loads that one
    /// or a later one.
    newest_seen: AtomicU64,
}

/// A value that cannot be the reader's: of another owner, or older than one it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Foreign<Owner> {
    pub(crate) expected: Owner,
    pub(crate) found: Owner,
    pub(crate) version: u64,
}

impl<Owner: Copy + PartialEq> Reader<Owner> {
    pub(crate) fn new(owner: Owner) -> Self {
        Self {
            owner,
            newest_seen: AtomicU64::new(0),
        }
    }

    pub(crate) fn load<T: Versioned<Owner = Owner>>(
        &self,
        published: &Published<T>,
    ) -> Result<Arc<T>, Foreign<Owner>> {
        // Before the load: a concurrent reader of the same handle may have seen a later
        // version than the one loaded here, and that is no error.
        let seen_before = self.newest_seen.load(Ordering::Acquire);
        let value = published.load();
        if value.owner() != self.owner || value.version() < seen_before {
            return Err(Foreign {
                expected: self.owner,
                found: value.owner(),
                version: value.version(),
            });
        }
        self.newest_seen
            .fetch_max(value.version(), Ordering::Release);
        Ok(value)
    }
}
