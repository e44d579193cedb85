//! A thread that waits for a future of the runtime's own.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::locks::{Condvar, Mutex, Rank};

/// Where the thread sleeps. Not `std::thread::park`: that one may be woken by, and take the
/// wake-up from, whatever else the caller's thread parks for.
struct Sleeper {
    is_woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        *self.is_woken.lock() = true;
        self.changed.notify_one();
    }
}

/// Waits until `future` is ready.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let sleeper = Arc::new(Sleeper {
        is_woken: Mutex::new(Rank::Line, false),
        changed: Condvar::default(),
    });
    let waker = Waker::from(Arc::clone(&sleeper));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let mut is_woken = sleeper.is_woken.lock();
        while !*is_woken {
            is_woken = sleeper.changed.wait(is_woken);
        }
        *is_woken = false;
    }
}
