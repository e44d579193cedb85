//! A shard with its desk, between the threads that learn and save and those that order.
//!
//! The desk is the runtime's own. What drives it here does what `learner.rs`, `saver.rs` and
//! `engine.rs` of the runtime do, with chunks that are only counted. The models are in
//! `sharing_models.rs`.
//!
//! The pointers to all this are std's: they are no part of the protocol, and loom's would have it
//! try many orders more.

use std::sync::Arc;

use crate::desk::{Desk, Files, Orders};
use crate::explore::{Condvar, JoinHandle, MutexGuard, spawn};
use crate::sync::{AtomicUsize, Mutex, Ordering};
use crate::waiting::{Command, End, Kind, Line, Outcome, locked, waited};

/// The files while they are open. Whoever opens a second time is noticed.
pub(crate) struct Folder {
    opened: Arc<AtomicUsize>,
}

impl Folder {
    fn open(opened: &Arc<AtomicUsize>) -> Self {
        let before = opened.fetch_add(1, Ordering::Relaxed);
        assert_eq!(before, 0, "the files are in two hands");
        Self {
            opened: Arc::clone(opened),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.opened.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What stands behind the shard's lock.
struct State {
    desk: Desk<Folder, Command>,
    /// Chunks that wait to be learned.
    ready: usize,
    /// Chunks that were learned and wait to be saved.
    unsaved: usize,
    /// Saves that will fail.
    failing: usize,
    seen: Seen,
}

/// What the models know without asking the desk.
#[derive(Default)]
struct Seen {
    /// Whether each command in line needs quiet.
    line: Vec<bool>,
    learns: bool,
    is_quiet: bool,
    /// How often somebody got the memory to change it, and the files.
    memory: usize,
    files: usize,
}

impl Seen {
    fn learning(&mut self) {
        assert!(!self.is_quiet, "learns beside a command that needs quiet");
        assert!(
            !self.line.contains(&true),
            "does not let a command come first"
        );
        self.learns = true;
        self.memory += 1;
    }
}

/// What a saver gets to do.
enum Claim {
    Nothing,
    Save(Files<Folder>),
    /// A save that will fail.
    SaveInVain(Files<Folder>),
    Order(Files<Folder>, Command),
}

/// What somebody forgets to do, to see that the models notice.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Careless {
    #[default]
    Nobody,
    /// A saver does not put the shard back in line for a command that waited for the files.
    Saver,
    /// A learner does not put the shard in line for a command that waited for quiet.
    Learner,
    /// A caller puts the shard in line before the command stands there.
    Caller,
    /// Nobody calls a learner once it is not quiet any more.
    AfterQuiet,
}

/// What a model begins with.
#[derive(Clone, Copy, Default)]
pub(crate) struct Start {
    /// Chunks to be learned.
    pub(crate) ready: usize,
    /// Chunks to be saved.
    pub(crate) unsaved: usize,
    /// Saves that fail, which loses the files.
    pub(crate) failing: usize,
    pub(crate) careless: Careless,
}

pub(crate) struct Shard {
    state: Mutex<State>,
    changed: Condvar,
    learners: Line,
    savers: Line,
    careless: Careless,
    opened: Arc<AtomicUsize>,
    /// How often the memory and the files were changed: read and written in two steps and
    /// relaxed, so that only the protocol can keep and order the changes.
    memory: AtomicUsize,
    files: AtomicUsize,
}

impl Shard {
    pub(crate) fn new(start: Start) -> Arc<Self> {
        let opened = Arc::new(AtomicUsize::new(0));
        let shard = Arc::new(Self {
            state: Mutex::new(State {
                desk: Desk::new(Folder::open(&opened)),
                ready: start.ready,
                unsaved: start.unsaved,
                failing: start.failing,
                seen: Seen::default(),
            }),
            changed: Condvar::new(),
            learners: Line::new(),
            savers: Line::new(),
            careless: start.careless,
            opened,
            memory: AtomicUsize::new(0),
            files: AtomicUsize::new(0),
        });
        shard.wake_learner();
        if start.unsaved > 0 {
            shard.savers.push();
        }
        shard
    }

    pub(crate) fn spawn_learner(self: &Arc<Self>) -> JoinHandle<()> {
        let shard = Arc::clone(self);
        spawn(move || {
            while shard.learners.pop() {
                shard.serve_learner();
            }
        })
    }

    pub(crate) fn spawn_saver(self: &Arc<Self>) -> JoinHandle<()> {
        let shard = Arc::clone(self);
        spawn(move || {
            while shard.savers.pop() {
                shard.serve_saver();
            }
        })
    }

    /// Orders a command; the caller waits for its outcome when it likes.
    pub(crate) fn order(&self, kind: Kind) -> Arc<Outcome> {
        let outcome = Outcome::new();
        let command = Command::new(kind, &outcome);
        if self.careless == Careless::Caller {
            self.savers.push();
        }
        let mut state = self.lock();
        let needs_quiet = command.needs_quiet();
        let refused = state.desk.order(command);
        if refused.is_ok() {
            state.seen.line.push(needs_quiet);
        }
        drop(state);
        drop(refused);
        if self.careless != Careless::Caller {
            self.savers.push();
        }
        outcome
    }

    pub(crate) fn spawn_caller(self: &Arc<Self>, kind: Kind) -> JoinHandle<End> {
        let shard = Arc::clone(self);
        spawn(move || shard.order(kind).wait())
    }

    /// Hands a chunk over, whoever is at work.
    pub(crate) fn hand_over(&self) {
        self.lock().ready += 1;
        self.wake_learner();
    }

    /// Has what waits saved now.
    pub(crate) fn hurry(&self) {
        self.savers.push();
    }

    /// Waits until everything is learned and saved and nobody is at work.
    pub(crate) fn wait_until_idle(&self) {
        let mut state = self.lock();
        while state.ready > 0 || state.unsaved > 0 || state.desk.is_busy() {
            state = waited(self.changed.wait(state));
        }
        drop(state);
    }

    /// Sends the threads home. They finish what they have in hand.
    pub(crate) fn close_lines(&self) {
        self.learners.close();
        self.savers.close();
    }

    /// Lets go of what waits, once the threads are gone.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        let commands = state.desk.dismiss();
        state.seen.line.clear();
        drop(state);
        drop(commands);
    }

    /// Every change of the memory and of the files is there, in turn.
    pub(crate) fn check_changes(&self) {
        let state = self.lock();
        let (memory, files) = (&self.memory, &self.files);
        assert_eq!(memory.load(Ordering::Relaxed), state.seen.memory);
        assert_eq!(files.load(Ordering::Relaxed), state.seen.files);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    fn wake_learner(&self) {
        let mut state = self.lock();
        let may = state.ready > 0 && state.desk.begin_learning();
        if may {
            assert!(!state.seen.learns, "two learners have it");
            state.seen.learning();
            // Counted when a chunk is taken.
            state.seen.memory -= 1;
        }
        drop(state);
        if may {
            self.learners.push();
        }
    }

    fn serve_learner(&self) {
        let mut state = self.lock();
        if state.ready == 0 || !state.desk.lets_learn() {
            let has_orders = state.desk.end_learning();
            state.seen.learns = false;
            drop(state);
            self.changed.notify_all();
            if has_orders && self.careless != Careless::Learner {
                self.savers.push();
            }
            return;
        }
        state.ready -= 1;
        state.seen.learning();
        drop(state);
        change(&self.memory);
        self.lock().unsaved += 1;
        self.changed.notify_all();
        self.savers.push();
        self.learners.push();
    }

    fn claim_files(&self) -> Claim {
        let mut state = self.lock();
        if let Some((command, files)) = state.desk.begin_order() {
            let seen = &mut state.seen;
            assert_eq!(seen.line.remove(0), command.needs_quiet());
            assert!(!command.needs_quiet() || !seen.learns, "it is not quiet");
            seen.is_quiet = command.needs_quiet();
            seen.memory += usize::from(command.needs_quiet());
            seen.files += 1;
            return Claim::Order(files, command);
        }
        if state.unsaved == 0 {
            return Claim::Nothing;
        }
        let Some(files) = state.desk.begin_saving() else {
            return Claim::Nothing;
        };
        assert!(state.seen.line.is_empty(), "a save before a command");
        state.seen.files += 1;
        if state.failing > 0 {
            state.failing -= 1;
            return Claim::SaveInVain(files);
        }
        state.unsaved -= 1;
        Claim::Save(files)
    }

    fn serve_saver(&self) {
        match self.claim_files() {
            Claim::Nothing => {}
            Claim::Save(files) => {
                let files = self.open(files);
                self.end_saving(files);
            }
            Claim::SaveInVain(files) => {
                drop(self.open(files));
                self.end_saving(Files::Lost);
            }
            Claim::Order(files, command) => {
                let mut files = self.open(files);
                if command.needs_quiet() {
                    change(&self.memory);
                }
                if command.kind() == Kind::Closing {
                    files = Files::Closed;
                }
                if self.put_back(files) {
                    self.savers.push();
                }
                if self.careless != Careless::AfterQuiet {
                    self.wake_learner();
                }
                command.deliver();
            }
        }
    }

    /// Changes the files, opened again where they were lost.
    fn open(&self, files: Files<Folder>) -> Files<Folder> {
        change(&self.files);
        match files {
            Files::Lost => Files::Open(Folder::open(&self.opened)),
            Files::Open(_) | Files::Closed => files,
        }
    }

    fn end_saving(&self, files: Files<Folder>) {
        let is_wanted = self.put_back(files);
        if is_wanted && self.careless != Careless::Saver {
            self.savers.push();
        }
        self.wake_learner();
    }

    /// `true` when something waits for the files.
    fn put_back(&self, files: Files<Folder>) -> bool {
        let mut state = self.lock();
        if matches!(files, Files::Closed) {
            state.seen.line.clear();
        }
        let is_lost = matches!(files, Files::Lost);
        let is_wanted = state.desk.put_back(files) || state.unsaved > 0;
        state.seen.is_quiet = false;
        assert_eq!(state.desk.are_lost(), is_lost);
        drop(state);
        self.changed.notify_all();
        is_wanted
    }
}

/// Adds one in two steps: of two who do it at once, one is lost.
fn change(number: &AtomicUsize) {
    let before = number.load(Ordering::Relaxed);
    number.store(before + 1, Ordering::Relaxed);
}
