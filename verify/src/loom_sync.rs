//! Loom's primitives under the names of the runtime's `sync.rs`.

pub(crate) use std::sync::PoisonError;

pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
pub(crate) use loom::sync::{Arc, Mutex};

/// What arc-swap promises, by a lock: loom cannot look into arc-swap.
#[derive(Debug)]
pub(crate) struct Pointer<T>(Mutex<Arc<T>>);

impl<T> Pointer<T> {
    pub(crate) fn new(first: Arc<T>) -> Self {
        Self(Mutex::new(first))
    }

    pub(crate) fn load(&self) -> Arc<T> {
        let pointer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&pointer)
    }

    pub(crate) fn swap(&self, next: Arc<T>) -> Arc<T> {
        let mut pointer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut pointer, next)
    }
}
