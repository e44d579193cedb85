//! Whether this process is a fork of the one that asked before.
//!
//! A child that is made by `fork` has a copy of the memory and none of the threads. Whatever
//! waits for one of those threads would wait without end, and a lock that another thread held
//! stays locked. So a library with threads asks at its door, on every call; asking the
//! operating system for the number of the process would cost more than some of those calls.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

/// Relaxed: it is only changed in a child, before any other thread of it exists.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// How often this process and those that it comes from were forked since the first call. Two
/// calls that find different numbers were made in different processes.
///
/// It counts `fork` of the C library. A process that is made by the bare system call is not
/// seen.
pub fn forks() -> u64 {
    static WATCH: Once = Once::new();
    WATCH.call_once(watch);
    FORKS.load(Ordering::Relaxed)
}

#[cfg(unix)]
fn watch() {
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler does nothing but an atomic addition, which is allowed in a child of a
    // process with many threads, and it is never taken away.
    #[allow(unsafe_code)]
    // Out of memory is the only error; then no fork is seen.
    let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}

#[cfg(not(unix))]
fn watch() {}

/// The example of the crate's page is compiled, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_child_finds_another_number_and_the_parent_the_same() {
        let before = forks();
        // SAFETY: the child calls an atomic load and ends.
        #[allow(unsafe_code)]
        let child = unsafe { libc::fork() };
        if child == 0 {
            let is_other = forks() == before + 1;
            // SAFETY: ends the child without anything of the test's.
            #[allow(unsafe_code)]
            unsafe {
                libc::_exit(i32::from(!is_other))
            }
        }
        assert!(child > 0, "cannot fork");
        let mut status = -1;
        // SAFETY: waits for the child that was just made.
        #[allow(unsafe_code)]
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!((waited, status), (child, 0));
        assert_eq!(forks(), before);
    }
}
