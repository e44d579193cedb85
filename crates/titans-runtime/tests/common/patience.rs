//! Tests that wait end with a message, and never hang.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes; a test that hangs ends with a message instead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// Runs a test on a thread of its own and fails if it does not end.
pub(crate) fn ends(what: &str, test: impl FnOnce() + Send + 'static) {
    let (done, wait) = channel();
    let thread = thread::spawn(move || {
        test();
        done.send(()).unwrap();
    });
    match wait.recv_timeout(PATIENCE) {
        Ok(()) => thread.join().unwrap(),
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("{what} does not end"),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("it has said that it is done"),
        },
    }
}

pub(crate) fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < patience, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
