//! Executors of one thread, of std alone, that a test can look into.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// Counts how often it was woken, and wakes the thread that made it.
pub(crate) struct Counter {
    woken: AtomicUsize,
    thread: Thread,
}

impl Counter {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            woken: AtomicUsize::new(0),
            thread: thread::current(),
        })
    }

    pub(crate) fn woken(&self) -> usize {
        self.woken.load(Ordering::SeqCst)
    }

    /// Wakers that somebody keeps.
    pub(crate) fn kept(self: &Arc<Self>) -> usize {
        Arc::strong_count(self) - 1
    }

    /// Polls once.
    pub(crate) fn poll<F: Future>(self: &Arc<Self>, future: Pin<&mut F>) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(self));
        future.poll(&mut Context::from_waker(&waker))
    }
}

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Runs one future; the thread sleeps until it is woken.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let counter = Counter::new();
    let mut seen = 0;
    loop {
        if let Poll::Ready(output) = counter.poll(future.as_mut()) {
            return output;
        }
        while counter.woken() == seen {
            thread::park();
        }
        seen = counter.woken();
    }
}

/// A task of [`run_all`], by its number.
struct Task {
    number: usize,
    ready: Arc<Mutex<VecDeque<usize>>>,
    thread: Thread,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.ready.lock().unwrap().push_back(self.number);
        self.thread.unpark();
    }
}

/// Runs futures beside each other on this thread, and polls only those that were woken. Calls
/// `looked` with the number of those that wait when each was polled once.
pub(crate) fn run_all<F: Future>(
    futures: impl IntoIterator<Item = F>,
    looked: impl FnOnce(usize),
) -> Vec<F::Output> {
    let mut tasks: Vec<_> = (futures.into_iter())
        .map(|future| Some(Box::pin(future)))
        .collect();
    let mut outputs: Vec<_> = tasks.iter().map(|_| None).collect();
    let ready = Arc::new(Mutex::new((0..tasks.len()).collect::<VecDeque<_>>()));
    let wakers: Vec<Waker> = (0..tasks.len())
        .map(|number| {
            Waker::from(Arc::new(Task {
                number,
                ready: Arc::clone(&ready),
                thread: thread::current(),
            }))
        })
        .collect();
    let (mut waiting, mut polls) = (tasks.len(), 0);
    let mut looked = Some(looked);
    while waiting > 0 {
        let next = ready.lock().unwrap().pop_front();
        let Some(number) = next else {
            thread::park();
            continue;
        };
        // Woken twice, or by what it has already seen.
        let Some(task) = &mut tasks[number] else {
            continue;
        };
        let polled = task
            .as_mut()
            .poll(&mut Context::from_waker(&wakers[number]));
        if let Poll::Ready(output) = polled {
            outputs[number] = Some(output);
            tasks[number] = None;
            waiting -= 1;
        }
        polls += 1;
        if polls == tasks.len()
            && let Some(looked) = looked.take()
        {
            looked(waiting);
        }
    }
    outputs.into_iter().flatten().collect()
}
