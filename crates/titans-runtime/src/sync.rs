//! The primitives under the protocols of `published.rs` and `shard/lease.rs`.
//!
//! Those two files name nothing else, so that the package in `verify` can run them with loom's
//! primitives, which try every order of events.

pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

/// A shared pointer that is read and replaced atomically; loads never wait.
///
/// The only place that knows arc-swap. Below 1.9.5 its `load` could return a value stored in
/// another instance.
#[derive(Debug)]
pub(crate) struct Pointer<T>(ArcSwap<T>);

impl<T> Pointer<T> {
    pub(crate) fn new(first: Arc<T>) -> Self {
        Self(ArcSwap::new(first))
    }

    pub(crate) fn load(&self) -> Arc<T> {
        self.0.load_full()
    }

    pub(crate) fn swap(&self, next: Arc<T>) -> Arc<T> {
        self.0.swap(next)
    }
}
