//! Who works on a shard now: a learner, a thread that owns its files, or nobody.
//!
//! Protocol: all of this stands behind the shard's lock. A learner has the shard from
//! [`begin_learning`](Desk::begin_learning) to [`end_learning`](Desk::end_learning). Whoever
//! saves or carries out a command takes the files from the desk and puts them back; while they
//! are away, nobody else can. A command that [needs quiet](Orders::needs_quiet) keeps learners
//! away from the moment it stands in line until it is done, and is begun only when no learner
//! has the shard. So a thread that has the files waits for nobody, and no two threads wait for
//! each other: whoever ends its work is told that somebody waits for the shard, and puts it in
//! the line of the threads that own files.
//!
//! This file names nothing of the runtime, so that the package in `verify` can try it in every
//! order of events.

use std::collections::VecDeque;

/// What can stand in line.
pub(crate) trait Orders {
    /// Whether no learner may be at work meanwhile.
    fn needs_quiet(&self) -> bool;
}

/// The files of a shard, as a thread gets them.
#[derive(Debug)]
pub(crate) enum Files<F> {
    Open(F),
    /// Something went wrong with them: they have to be opened again.
    Lost,
    /// For good.
    Closed,
}

/// Who works on a shard, and what waits to be done with its files.
#[derive(Debug)]
pub(crate) struct Desk<F, C> {
    /// `None` while a thread has them.
    files: Option<Files<F>>,
    learning: bool,
    /// The thread that has the files carries out a command that needs quiet.
    quiet: bool,
    line: VecDeque<C>,
    /// No thread is left to carry anything out.
    unattended: bool,
}

impl<F, C: Orders> Desk<F, C> {
    pub(crate) fn new(files: F) -> Self {
        Self {
            files: Some(Files::Open(files)),
            learning: false,
            quiet: false,
            line: VecDeque::new(),
            unattended: false,
        }
    }

    /// Whether a thread has the files.
    pub(crate) fn files_are_away(&self) -> bool {
        self.files.is_none()
    }

    /// Whether the files have to be opened again.
    pub(crate) fn are_lost(&self) -> bool {
        matches!(self.files, Some(Files::Lost))
    }

    /// Whether anybody works here or wants to.
    pub(crate) fn is_busy(&self) -> bool {
        self.learning || self.files_are_away() || self.has_orders()
    }

    /// Whether no thread is left to do anything here.
    pub(crate) fn is_unattended(&self) -> bool {
        self.unattended
    }

    /// Whether a learner that has the shard may go on with it, or another may have it.
    pub(crate) fn lets_learn(&self) -> bool {
        !self.quiet && !self.line.iter().any(Orders::needs_quiet)
    }

    /// Gives the shard to a learner; `false` when another has it or it has to be quiet.
    pub(crate) fn begin_learning(&mut self) -> bool {
        let may = !self.learning && self.lets_learn();
        self.learning |= may;
        may
    }

    /// The learner is done. `true` when somebody waited for that: the shard belongs into the
    /// line of the threads that own files.
    pub(crate) fn end_learning(&mut self) -> bool {
        self.learning = false;
        self.has_orders()
    }

    /// Whether a command waits.
    pub(crate) fn has_orders(&self) -> bool {
        !self.line.is_empty()
    }

    /// Puts a command in line. The shard belongs into the line of the threads that own files.
    /// The command is given back when no such thread is left, or the files are closed for good.
    pub(crate) fn order(&mut self, command: C) -> Result<(), C> {
        if self.unattended || matches!(self.files, Some(Files::Closed)) {
            return Err(command);
        }
        self.line.push_back(command);
        Ok(())
    }

    /// The next command and the files, if it can be begun now.
    pub(crate) fn begin_order(&mut self) -> Option<(C, Files<F>)> {
        let needs_quiet = self.line.front()?.needs_quiet();
        if self.files.is_none() || (needs_quiet && self.learning) {
            return None;
        }
        let command = self.line.pop_front()?;
        self.quiet = needs_quiet;
        self.files.take().map(|files| (command, files))
    }

    /// The files, to save something; `None` when another thread has them, they are closed for
    /// good, or a command comes first.
    pub(crate) fn begin_saving(&mut self) -> Option<Files<F>> {
        if self.has_orders() || matches!(self.files, Some(Files::Closed)) {
            return None;
        }
        self.files.take()
    }

    /// Puts the files back. `true` when a command waits.
    ///
    /// Files that are closed for good let go of every command: the shard may be known to nobody
    /// any more who would [`dismiss`](Self::dismiss) them when the threads are gone.
    pub(crate) fn put_back(&mut self, files: Files<F>) -> bool {
        if matches!(files, Files::Closed) {
            self.line.clear();
        }
        self.files = Some(files);
        self.quiet = false;
        self.has_orders()
    }

    /// Lets go of every command: no thread is left to carry them out.
    pub(crate) fn dismiss(&mut self) -> Vec<C> {
        self.learning = false;
        self.unattended = true;
        self.refuse_orders()
    }

    /// Lets go of the commands that wait; threads may still be at work here.
    pub(crate) fn refuse_orders(&mut self) -> Vec<C> {
        self.line.drain(..).collect()
    }
}
