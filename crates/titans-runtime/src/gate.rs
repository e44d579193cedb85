//! Which calls are still let in, and which are inside.
//!
//! Some calls touch the folder on the caller's own thread: a memory is opened, a user is
//! forgotten, a backup is taken. Closing lets nobody in any more and gives the folder back only
//! when the last of these calls has come out.

use crate::error::Stopped;
use crate::locks::{Condvar, Mutex, Rank};

/// The way into the folder of one runtime.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    inside: usize,
}

/// A call that was let in, until this is dropped.
#[derive(Debug)]
pub(crate) struct Inside<'a>(&'a Gate);

impl Default for Gate {
    fn default() -> Self {
        Self {
            state: Mutex::new(Rank::Line, State::default()),
            left: Condvar::default(),
        }
    }
}

impl Gate {
    /// Lets a call in, unless the runtime is closed or closing.
    pub(crate) fn enter(&self) -> Result<Inside<'_>, Stopped> {
        let mut state = self.state.lock();
        match state.closed {
            true => Err(Stopped::Closed),
            false => {
                state.inside += 1;
                Ok(Inside(self))
            }
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Lets nobody in from here on.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
    }

    /// Waits until nobody is inside. Only for a gate that is closed.
    pub(crate) fn wait_until_empty(&self) {
        let mut state = self.state.lock();
        while state.inside > 0 {
            state = self.left.wait(state);
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.state.lock().inside -= 1;
        self.0.left.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn whoever_closes_waits_for_those_inside_and_nobody_comes_after() {
        let (gate, is_out) = (Gate::default(), AtomicBool::new(false));
        let (first, second) = (gate.enter().unwrap(), gate.enter().unwrap());
        std::thread::scope(|scope| {
            let closing = scope.spawn(|| {
                gate.close();
                gate.wait_until_empty();
                is_out.load(Ordering::SeqCst)
            });
            while !gate.is_closed() {
                std::thread::yield_now();
            }
            assert!(matches!(gate.enter(), Err(Stopped::Closed)));
            drop(first);
            is_out.store(true, Ordering::SeqCst);
            drop(second);
            assert!(closing.join().unwrap(), "it did not wait for both");
        });
    }
}
