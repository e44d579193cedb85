//! The threads that compute, in pools of the runtime's own.
//!
//! In the pool of the process, work of the runtime would wait for whatever the program does
//! there, and the program may be waiting there for the runtime.
//!
//! A learner is a member of its pool: it computes where it takes and publishes chunks, so that
//! its caches stay warm and no other thread is woken for a memory that one thread computes.
//! Commands have another pool. A thread that waits for a part of its own work takes other work
//! of the same pool meanwhile, and a learner must not come upon a rebuild there.

use std::io;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use crossbeam_utils::sync::WaitGroup;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::config::RuntimeConfig;
use crate::error::{IoError, OpenError};

/// The pools of a runtime; empty once it is closed.
#[derive(Debug)]
pub(crate) struct Compute {
    learning: ArcSwapOption<ThreadPool>,
    learners: usize,
    commands: ArcSwapOption<ThreadPool>,
}

/// Learners that were started.
#[derive(Debug)]
pub(crate) struct Learners(WaitGroup);

impl Compute {
    /// Starts the threads for the memories below `root`.
    pub(crate) fn start(config: &RuntimeConfig, root: &Path) -> Result<Self, OpenError> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = config.compute_threads.unwrap_or_else(cores);
        let learners = config.learners;
        let pool = |threads, name: fn(usize, usize) -> String| {
            ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(move |index| name(index, learners))
                .build()
                .map(|pool| ArcSwapOption::new(Some(Arc::new(pool))))
                .map_err(|error| {
                    // Only the operating system refuses a thread, and may grant it later.
                    let error = io::Error::new(io::ErrorKind::WouldBlock, error);
                    OpenError::Io(IoError::of("start the threads that compute for", root)(
                        error,
                    ))
                })
        };
        Ok(Self {
            learning: pool(threads.max(learners), |index, learners| {
                match index < learners {
                    true => format!("titanmem-learn-{index}"),
                    false => format!("titanmem-compute-{}", index - learners),
                }
            })?,
            learners,
            commands: pool(threads, |index, _| format!("titanmem-command-{index}"))?,
        })
    }

    /// Lets every learner run `serve`, each on a member of the pool that nobody else uses
    /// until it returns.
    pub(crate) fn start_learners(&self, serve: impl Fn() + Send + Sync + 'static) -> Learners {
        let all = WaitGroup::new();
        let running = all.clone();
        let learners = self.learners;
        if let Some(learning) = &*self.learning.load() {
            learning.spawn_broadcast(move |member| {
                // Held by this closure, which is dropped when every member has run it.
                let _running = &running;
                if member.index() < learners {
                    serve();
                }
            });
        }
        Learners(all)
    }

    /// Runs the computation of a command, which is no learner's.
    pub(crate) fn for_a_command<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match self.commands.load_full() {
            Some(commands) => commands.install(work),
            None => work(),
        }
    }

    /// Lets the threads end. Handles of a runtime may outlive its end, and its threads not.
    pub(crate) fn end(&self) {
        self.learning.store(None);
        self.commands.store(None);
    }
}

impl Learners {
    /// Waits until every learner has returned.
    pub(crate) fn join(self) {
        self.0.wait();
    }
}
