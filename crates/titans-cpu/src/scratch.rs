//! Working memory that each thread keeps.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

thread_local! {
    static KEPT: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Some numbers to overwrite; they go back to the thread that drops them.
///
/// A system's allocator hands large blocks back at once, and every first touch of a fresh
/// page costs more than the arithmetic on it.
pub(crate) struct Scratch(Vec<f32>);

impl Scratch {
    /// `length` numbers, of which nobody knows the values.
    pub(crate) fn new(length: usize) -> Self {
        // The smallest that is large enough, or else the largest, to grow.
        let mut numbers = KEPT.with_borrow_mut(|kept| {
            kept.sort_unstable_by_key(Vec::capacity);
            let fits = kept.partition_point(|numbers| numbers.capacity() < length);
            let index = fits.min(kept.len().saturating_sub(1));
            (index < kept.len()).then(|| kept.swap_remove(index))
        });
        let mut numbers = numbers.take().unwrap_or_default();
        numbers.resize(length, 0.0);
        Self(numbers)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let numbers = std::mem::take(&mut self.0);
        KEPT.with_borrow_mut(|kept| kept.push(numbers));
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}
