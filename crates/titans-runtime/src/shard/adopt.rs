//! The one function that takes a new snapshot in, and what a shard counts for in the sums.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Shard;
use super::phase::Event;
use super::state::Mark;
use crate::context::Context;
use crate::replay::PlacedRows;
use crate::snapshot::Snapshot;
use crate::stats::Footprint;

/// How a snapshot comes to be the newest one.
pub(crate) enum Arrival {
    /// A chunk was learned; the ledger was told so many notes. It is to be saved.
    Learned {
        rows: Option<PlacedRows>,
        notes: usize,
    },
    /// The watch went back. What waits is dropped; it is to be saved.
    WentBack,
    /// It is durable already. What waits is dropped, and a memory that had failed goes on.
    Durable,
    /// Its user was forgotten.
    Emptied,
}

/// What taking a snapshot in has done.
pub(crate) struct Adopted {
    /// When it should be saved; `None` if nothing but a flush makes it durable.
    pub(crate) due: Option<Instant>,
    /// Tokens that were accepted and are not in it.
    pub(crate) tokens_dropped: u64,
}

impl Shard {
    /// Makes a snapshot the newest one. Nothing else publishes, moves a mark, or decides what
    /// is to be saved.
    ///
    /// The caller has the shard: it is the learner that learned the snapshot, or the thread
    /// that owns the files and has made it durable.
    pub(crate) fn adopt(
        &self,
        successor: Snapshot,
        arrival: Arrival,
        context: &Context,
    ) -> Adopted {
        let snapshot = Arc::new(successor);
        let mark = Mark::of(&snapshot);
        let ledger_bytes = snapshot.ledger.footprint();
        let durability = context.bounds.durability;
        // Before the marks: whoever is told that it is visible finds it.
        let started = Instant::now();
        let replaced = self.published.publish(Arc::clone(&snapshot));
        let published_in = started.elapsed();
        self.ledger_bytes.store(ledger_bytes, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.live.add(&snapshot);
        state.visible = mark;
        let mut tokens_dropped = 0;
        // Freed after the lock: it may be the last of large buffers.
        let mut older: Vec<Option<Arc<Snapshot>>> = Vec::new();
        let is_learned = matches!(arrival, Arrival::Learned { .. });
        match arrival {
            Arrival::Learned { rows, notes } => {
                // Not before the swap: whoever looks for an item looks at the notes and then at
                // the snapshot, and finds it in one of them.
                state.stream.told(notes);
                older.push(match context.bounds.keep_replaced {
                    true => state.replaced.replace(replaced),
                    false => Some(replaced),
                });
                if durability.coalesces() {
                    older.extend(state.unsaved.drain(..).map(Some));
                }
                state.unsaved.push_back(snapshot);
                state.unsaved_rows.extend(rows);
            }
            Arrival::WentBack => {
                tokens_dropped = state.restart_at(mark.tokens);
                // What a saver has in hand may be of the memory that is left behind.
                state.saving_holds_to = state.saving_holds_to.min(mark.tokens);
                state.durable.tokens = state.durable.tokens.min(mark.tokens);
                older.extend(state.unsaved.drain(..).map(Some));
                older.extend([state.replaced.take(), Some(replaced)]);
                state.unsaved.push_back(snapshot);
            }
            Arrival::Durable | Arrival::Emptied => {
                tokens_dropped = state.restart_at(mark.tokens);
                state.durable = mark;
                // It is durable, and so is what it was learned from.
                older.extend(state.unsaved.drain(..).map(Some));
                older.extend([state.replaced.take(), Some(replaced)]);
                state.unsaved_rows.clear();
                state.retry = None;
                state.reason = None;
                state.phase = state.phase.after(match arrival {
                    Arrival::Emptied => Event::Forget,
                    _ => Event::Recovered,
                });
            }
        }
        if !is_learned {
            self.show_accepted(&state);
        }
        let due = state.due(durability.pause(), Instant::now());
        self.state.announce(state, older);
        if is_learned {
            context.timers.publish.record(published_in);
        }
        Adopted {
            due,
            tokens_dropped,
        }
    }

    /// Brings the sums of the runtime up to date after something came, was learned or saved.
    pub(crate) fn account(&self, context: &Context) {
        let besides =
            self.watch_bytes.load(Ordering::Relaxed) + self.ledger_bytes.load(Ordering::Relaxed);
        let mut state = self.state.lock();
        state.live.count();
        let is_unusual = state.live.is_unusual();
        let now = state.footprint(context.state_bytes, besides);
        // A thread may still be at work for a shard that has left, and must not count it anew.
        let before = (state.accounted.as_mut()).map(|before| std::mem::replace(before, now));
        drop(state);
        if let Some(before) = before {
            context.meters.replace(before, now);
        }
        if let Some(snapshots) = is_unusual {
            tracing::warn!(shard = %self.id, snapshots, "readers or savers hold on to old snapshots");
        }
    }

    /// Takes the shard out of the sums for good.
    pub(crate) fn account_nothing(&self, context: &Context) {
        let before = self.state.lock().accounted.take();
        if let Some(before) = before {
            context.meters.replace(before, Footprint::default());
        }
    }
}
