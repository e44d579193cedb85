//! Handing tokens over: in turn, and no more than there is room for.

use std::future::poll_fn;
use std::task::{self, Poll};

use super::Shard;
use super::changes::wake;
use super::chunker::TokenRows;
use super::state::ShardState;
use super::stream::{About, Position};
use crate::block_on::block_on;
use crate::config::WhenFull;
use crate::context::{Bounds, Context};
use crate::error::ObserveError;
use crate::locks::{Held, Rank};
use crate::rows::Rows;

/// Rows on their way into the queue.
struct Handover<'a> {
    keys: Rows<'a>,
    values: Rows<'a>,
    about: About,
    /// A copy for the ledger; empty where it need not know the rows.
    noted: TokenRows,
    /// Rows that were taken.
    taken: usize,
    /// How often the stream had gone back when the first of them was taken.
    epoch: u64,
}

impl<'a> Handover<'a> {
    /// Of rows that are checked.
    fn new((keys, values): (Rows<'a>, Rows<'a>), about: About) -> Self {
        Self {
            keys,
            values,
            about,
            // An entry of the ledger is made of numbers; making them needs no lock.
            noted: match about {
                About::Stored(..) => TokenRows::of(keys, values),
                About::Nothing | About::Erases(_) => TokenRows::default(),
            },
            taken: 0,
            epoch: 0,
        }
    }

    fn left(&self) -> usize {
        self.keys.len() - self.taken
    }

    /// How many tokens may wait in the queue when the next rows are taken.
    ///
    /// Rows are taken all at once where the queue holds a whole chunk while they wait for room:
    /// the learner has something to do, so there will be room. More rows than that are taken as
    /// there is room for any.
    fn at_most(&self, bounds: &Bounds) -> usize {
        let left = self.left();
        let fits_beside_a_chunk = left + bounds.chunk_tokens <= bounds.queue_tokens + 1;
        bounds.queue_tokens - if fits_beside_a_chunk { left } else { 1 }
    }
}

/// A place in the line of those who hand over, which is left when this is dropped.
struct Place<'a> {
    shard: &'a Shard,
    context: &'a Context,
    number: u64,
    /// Some rows were taken and others were not.
    is_cut_off: bool,
}

impl<'a> Place<'a> {
    /// The last in line.
    fn stand(shard: &'a Shard, context: &'a Context) -> Self {
        Self {
            shard,
            context,
            number: shard.state.lock().turns.stand(),
            is_cut_off: false,
        }
    }

    fn poll_turn(&self, task: &mut task::Context<'_>) -> Poll<()> {
        // Of the caller's executor, as every waker: copied and dropped without a lock.
        let waker = task.waker().clone();
        let mut state = self.shard.state.lock();
        if state.turns.is_first(self.number) {
            return Poll::Ready(());
        }
        let before = state.turns.wait(self.number, usize::MAX, waker);
        drop(state);
        drop(before);
        Poll::Pending
    }

    fn poll_take(
        &mut self,
        handover: &mut Handover<'_>,
        task: &mut task::Context<'_>,
        line_up: &impl Fn(),
    ) -> Poll<Result<Position, ObserveError>> {
        self.context.check_process()?;
        let bounds = &self.context.bounds;
        let waker = task.waker().clone();
        let mut state = self.shard.state.lock();
        // Who waits for the turn learns at once that nothing is taken any more.
        let taken = match state.turns.is_first(self.number) || !state.phase.takes() {
            true => self.shard.take(handover, &mut state, bounds),
            false => Ok(None),
        };
        self.is_cut_off = handover.taken > 0 && !matches!(taken, Ok(Some(_)));
        let unused = match taken {
            Ok(None) => {
                let at_most = handover.at_most(bounds);
                state.turns.wait(self.number, at_most, waker)
            }
            Ok(Some(_)) | Err(_) => Some(waker),
        };
        let is_claimed = state.may_learn(bounds) && state.desk.begin_learning();
        drop(state);
        drop(unused);
        if is_claimed {
            line_up();
        }
        match taken.transpose() {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.context.check_process().is_err() {
            // In a child of the process, the lock may be held for good.
            return;
        }
        let mut state = self.shard.state.lock();
        if self.is_cut_off {
            state.stream.drop_notes_of_the_rest();
        }
        let (own, next) = state.turns.leave(self.number);
        drop(state);
        drop(own);
        wake(next);
    }
}

/// The turn to hand tokens over, of a thread: nobody else does meanwhile.
pub(crate) struct Turn<'a> {
    /// Before the place, so that whoever is next is woken without it.
    _held: Held,
    place: Place<'a>,
}

impl Shard {
    /// Takes all rows, which are checked, or, unless it may wait for room, none. Calls `line_up`
    /// whenever it has claimed the shard for a learner. Returns the position of the rows.
    pub(crate) fn push(
        &self,
        rows: (Rows<'_>, Rows<'_>),
        about: About,
        context: &Context,
        line_up: impl Fn(),
    ) -> Result<Position, ObserveError> {
        let held = Held::enter(Rank::Producer);
        let mut handover = Handover::new(rows, about);
        if let Some(outcome) = self.take_at_once(&mut handover, &context.bounds, &line_up) {
            return outcome;
        }
        let place = Place::stand(self, context);
        let mut turn = Turn { _held: held, place };
        block_on(poll_fn(|task| {
            turn.place.poll_take(&mut handover, task, &line_up)
        }))
    }

    /// [`push`](Self::push) that waits without a thread. A future that is dropped leaves the
    /// line.
    pub(crate) async fn push_async(
        &self,
        rows: (Rows<'_>, Rows<'_>),
        about: About,
        context: &Context,
        line_up: impl Fn(),
    ) -> Result<Position, ObserveError> {
        let mut handover = Handover::new(rows, about);
        if let Some(outcome) = self.take_at_once(&mut handover, &context.bounds, &line_up) {
            return outcome;
        }
        let mut place = Place::stand(self, context);
        poll_fn(|task| place.poll_take(&mut handover, task, &line_up)).await
    }

    /// Waits for the turn to hand tokens over.
    pub(crate) fn take_turn<'a>(&'a self, context: &'a Context) -> Turn<'a> {
        let turn = Turn {
            _held: Held::enter(Rank::Producer),
            place: Place::stand(self, context),
        };
        block_on(poll_fn(|task| turn.place.poll_turn(task)));
        turn
    }

    /// [`push`](Self::push) by whoever has the turn.
    pub(crate) fn push_in_turn(
        &self,
        turn: &mut Turn<'_>,
        rows: (Rows<'_>, Rows<'_>),
        about: About,
        line_up: impl Fn(),
    ) -> Result<Position, ObserveError> {
        let mut handover = Handover::new(rows, about);
        let take =
            |task: &mut task::Context<'_>| turn.place.poll_take(&mut handover, task, &line_up);
        block_on(poll_fn(take))
    }

    /// Takes all rows, or refuses them, if nobody is in line; `None` where they have to wait.
    fn take_at_once(
        &self,
        handover: &mut Handover<'_>,
        bounds: &Bounds,
        line_up: &impl Fn(),
    ) -> Option<Result<Position, ObserveError>> {
        let mut state = self.state.lock();
        if !state.turns.is_empty() {
            return None;
        }
        let has_room = state.stream.chunker.waiting() + handover.left() <= bounds.queue_tokens;
        if !has_room && bounds.when_full == WhenFull::Block && state.phase.takes() {
            return None;
        }
        let taken = self.take(handover, &mut state, bounds);
        let is_claimed = state.may_learn(bounds) && state.desk.begin_learning();
        drop(state);
        if is_claimed {
            line_up();
        }
        taken.transpose()
    }

    /// Takes the rows that there is room for; `None` while some are left. The caller has the
    /// turn.
    fn take(
        &self,
        handover: &mut Handover<'_>,
        state: &mut ShardState,
        bounds: &Bounds,
    ) -> Result<Option<Position>, ObserveError> {
        if !state.phase.takes() {
            return Err(state.phase.refusal(state.reason.as_ref()).into());
        }
        let tokens = handover.keys.len();
        if handover.taken == 0 {
            handover.epoch = state.stream.epoch();
        } else if handover.epoch != state.stream.epoch() {
            return Err(ObserveError::RolledBack);
        }
        let (queued, offered) = (state.stream.chunker.waiting(), handover.left());
        let room = bounds.queue_tokens.saturating_sub(queued);
        if offered > room && bounds.when_full == WhenFull::Busy {
            return Err(ObserveError::Busy {
                queued,
                offered,
                limit: bounds.queue_tokens,
            });
        }
        if queued > handover.at_most(bounds) {
            return Ok(None);
        }
        if handover.taken == 0 && tokens > 0 {
            (state.stream).note(handover.about, &handover.noted, tokens as u64);
        }
        let end = handover.taken + offered.min(room);
        let rows = (handover.keys, handover.values);
        let position = state.stream.push(rows, handover.taken..end);
        self.show_accepted(state);
        handover.taken = end;
        Ok((end == tokens).then_some(position))
    }
}
