//! How a runtime ends, once, however many ask for it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use titans_store::ShardId;

use crate::compute::Learners;
use crate::engine::{Engine, guarded};
use crate::locks::{Condvar, Mutex, Rank};
use crate::shard::{Patience, Progress, Shard, Watermark};

/// What a runtime left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// The users that were open.
    pub users: Vec<UserReport>,
    /// Why nothing was closed, in a child of the process that opened the runtime.
    pub refused: Option<String>,
}

impl CloseReport {
    /// Whether everything that was handed over is durable.
    pub fn is_durable(&self) -> bool {
        self.refused.is_none() && self.users.iter().all(UserReport::is_durable)
    }

    fn of(shards: &[Arc<Shard>]) -> Self {
        let users = shards.iter().map(|shard| UserReport::of(shard)).collect();
        Self {
            users,
            refused: None,
        }
    }
}

/// What became of one user's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserReport {
    /// Its name on disk.
    pub shard: ShardId,
    /// How far it came.
    pub progress: Progress,
    /// What failed, if something did.
    pub failure: Option<String>,
}

impl UserReport {
    /// Whether everything that was handed over is durable.
    pub fn is_durable(&self) -> bool {
        self.progress.durable >= self.progress.accepted
    }

    fn of(shard: &Shard) -> Self {
        Self {
            shard: shard.id,
            progress: shard.progress(),
            failure: shard.failure().map(|reason| reason.to_string()),
        }
    }
}

/// The threads of a runtime.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    pub(crate) learners: Option<Learners>,
    /// Those that save and back up.
    pub(crate) working: Vec<JoinHandle<()>>,
    /// The one that delivers alerts.
    pub(crate) alerting: Option<JoinHandle<()>>,
}

/// Whether a runtime is open, and what it left behind.
#[derive(Debug)]
pub(crate) struct Ending {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
enum State {
    Open(Threads),
    Closing,
    Closed(CloseReport),
}

impl Ending {
    pub(crate) fn of(threads: Threads) -> Self {
        Self {
            state: Mutex::new(Rank::Line, State::Open(threads)),
            changed: Condvar::default(),
        }
    }

    /// Closes a runtime. Whoever comes while another does waits for that one, at most until its
    /// own deadline; whoever comes later gets the same report.
    pub(crate) fn close(&self, engine: &Engine, deadline: Duration) -> CloseReport {
        if let Err(error) = engine.context.check_process() {
            return CloseReport {
                users: Vec::new(),
                refused: Some(error.to_string()),
            };
        }
        let until = Instant::now().checked_add(deadline);
        let mut state = self.state.lock();
        let mut threads = match &mut *state {
            State::Open(threads) => std::mem::take(threads),
            State::Closing => {
                drop(state);
                return self.wait_for_the_other(engine, until);
            }
            State::Closed(report) => return report.clone(),
        };
        *state = State::Closing;
        drop(state);
        let report = shut_down(engine, &mut threads, until);
        *self.state.lock() = State::Closed(report.clone());
        self.changed.notify_all();
        // Behind the report: what a sink does now may be to close the runtime, too.
        if let Some(alerting) = threads.alerting {
            end_alerts(engine, alerting, until);
        }
        report
    }

    fn wait_for_the_other(&self, engine: &Engine, until: Option<Instant>) -> CloseReport {
        let mut state = self.state.lock();
        loop {
            if let State::Closed(report) = &*state {
                return report.clone();
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            state = match left {
                None => self.changed.wait(state),
                Some(Duration::ZERO) => break,
                Some(left) => self.changed.wait_timeout(state, left),
            };
        }
        drop(state);
        CloseReport::of(&engine.shards.all())
    }

    /// Leaves a runtime alone of which this process is a child: the threads are those of the
    /// parent, and so is everything that they hold.
    pub(crate) fn abandon(&mut self) {
        if let State::Open(threads) = self.state.get_mut() {
            std::mem::forget(std::mem::take(threads));
        }
    }

    /// Whether nobody has closed it.
    pub(crate) fn is_open(&mut self) -> bool {
        matches!(self.state.get_mut(), State::Open(_))
    }
}

/// Takes nothing more, learns and saves what was taken until the deadline, ends the threads and
/// gives the folder back.
fn shut_down(engine: &Engine, threads: &mut Threads, until: Option<Instant>) -> CloseReport {
    // A memory that a call inside opens from here on is closed by that call.
    engine.gate.close();
    let shards = engine.shards.all();
    for shard in &shards {
        shard.close();
        engine.hurry(shard, shard.accepted(), Watermark::Durable);
    }
    for shard in &shards {
        // A failure or the deadline shows in the report.
        let patience = Patience::UntilDeadline;
        let _ = shard.wait(shard.accepted(), Watermark::Durable, patience, until);
    }
    engine.learners.close();
    // A call inside may wait for a command of a memory that is not among those above.
    for unserved in engine.savers.close() {
        unserved.refuse_orders();
    }
    engine.backups.close();
    if let Some(learners) = threads.learners.take() {
        learners.join();
    }
    for thread in threads.working.drain(..) {
        // The steps of a shard are guarded, so a thread has nothing to report.
        let _ = thread.join();
    }
    // What failed is asked before: it does not show any more where nothing is done.
    let report = CloseReport::of(&shards);
    shards.iter().for_each(|shard| end(engine, shard));
    // Calls that have begun wait for nothing now.
    engine.gate.wait_until_empty();
    for late in engine.shards.all() {
        if !shards.iter().any(|shard| Arc::ptr_eq(shard, &late)) {
            end(engine, &late);
        }
    }
    engine.context.meters.resident_users.set(0);
    engine.context.compute.end();
    engine.release_root();
    report
}

/// Lets nobody wait for a memory any more and gives its files back.
fn end(engine: &Engine, shard: &Shard) {
    shard.end();
    if let Err(reason) = guarded(|| shard.close_unattended()) {
        tracing::error!(shard = %shard.id, "cannot close its files: {reason}");
    }
    shard.account_nothing(&engine.context);
}

/// Delivers the alerts that wait. A sink may have closed the runtime, and may also never return.
fn end_alerts(engine: &Engine, alerting: JoinHandle<()>, until: Option<Instant>) {
    let is_own = alerting.thread().id() == std::thread::current().id();
    let until = match is_own {
        true => Some(Instant::now()),
        false => until,
    };
    if engine.context.alerts.close(until) && !is_own {
        let _ = alerting.join();
    }
}
