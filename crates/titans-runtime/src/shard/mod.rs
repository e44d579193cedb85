//! One user's memory while it is open: what waits, what is visible, what is durable.
//!
//! What changes lies behind one lock, which is held for bookkeeping and copies, never while
//! something is learned or saved, and never while anything of the caller's runs. Readers do
//! not take it: they load the published snapshot and two counters.
//!
//! - `phase.rs`: what a shard does now, and every way from one phase to another
//! - `stream.rs`: what waits to be learned, and where a caller's rows stand
//! - `handover.rs`: how rows get there; `turns.rs`: the line of those who bring them
//! - `desk.rs`: who has the shard and who has its files
//! - `state.rs`: all of it together; `adopt.rs`: the one function that takes a new snapshot in
//! - `order.rs`: what can be asked of the thread that owns the files
//! - `saving.rs`, `command.rs`: what that thread does
//! - `wait.rs`: waiting, and how the memory is; `waiters.rs`: who waits without a thread
//! - `changes.rs`: the lock of all this, and how everybody who waits is told of a change

mod adopt;
mod changes;
mod chunker;
mod command;
mod desk;
mod erasure;
mod files;
mod handover;
mod lease;
mod live;
mod open;
mod order;
mod phase;
mod rebuild;
mod saving;
mod state;
mod stream;
mod turns;
mod wait;
mod waiters;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use titans_store::ShardId;

pub(crate) use self::adopt::Arrival;
use self::changes::SharedState;
use self::chunker::Chunker;
pub(crate) use self::chunker::TokenRows;
use self::desk::Desk;
pub(crate) use self::desk::Files;
pub(crate) use self::erasure::Erasure;
pub(crate) use self::files::{SaveJob, ShardFiles};
use self::lease::Leases;
pub(crate) use self::lease::{Leased, Slot};
use self::live::LiveSnapshots;
pub(crate) use self::open::open_files;
pub(crate) use self::order::{Command, Reply};
pub use self::order::{Rebuilt, Resumed, RolledBack};
pub(crate) use self::phase::Event;
use self::phase::Phase;
pub(crate) use self::saving::{Claim, SaveOutcome};
pub(crate) use self::state::Watermark;
use self::state::{Mark, Setbacks, ShardState};
pub(crate) use self::stream::{About, Position};
use self::stream::{Note, Stream};
use self::turns::Turns;
pub(crate) use self::wait::{Patience, Step, Wait};
use self::waiters::Waiters;
use crate::context::Bounds;
use crate::ledger::{Entry, ItemId, Ledger};
use crate::locks::{Mutex, Rank};
use crate::published::Published;
use crate::snapshot::Snapshot;
use crate::stats::Footprint;
use crate::watch::Watch;

/// A promise that a shard stays in memory while this exists.
pub(crate) type Lease = lease::Lease<Shard>;

/// How far a memory has come, in tokens since it first learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Tokens handed over, without those of chunks that could not be learned.
    pub accepted: u64,
    /// Tokens that readers see learned.
    pub visible: u64,
    /// Tokens that a crash cannot take.
    pub durable: u64,
}

/// One user's memory while it is open.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) id: ShardId,
    pub(crate) published: Published<Snapshot>,
    /// A copy of what the chunker has accepted for readers, who report their lag by it.
    /// Relaxed: it orders nothing.
    accepted: AtomicU64,
    /// What is known of recall; whoever has the shard looks. `None` where nobody watches.
    pub(crate) watch: Mutex<Option<Watch>>,
    /// Bytes that the watch keeps. Relaxed: it orders nothing.
    pub(crate) watch_bytes: AtomicUsize,
    /// Bytes of the published ledger. Relaxed: it orders nothing.
    ledger_bytes: AtomicUsize,
    skipped: Vec<String>,
    leases: Leases,
    state: SharedState,
}

/// What a learner finds when it has a shard.
#[derive(Debug)]
pub(crate) enum NextChunk {
    Rows(TokenRows),
    /// The shard stays with the learner.
    OfOtherLength,
    /// The shard is free. `true` when the thread that owns its files is to look at it.
    Nothing {
        has_orders: bool,
    },
}

impl Leased for Shard {
    fn leases(&self) -> &Leases {
        &self.leases
    }
}

impl Shard {
    /// A shard whose snapshot is what the disk holds.
    fn new(
        files: ShardFiles,
        snapshot: Snapshot,
        chunker: Chunker,
        skipped: Vec<String>,
        watch: Option<Watch>,
    ) -> Self {
        let mark = Mark::of(&snapshot);
        let published = Published::new(snapshot);
        let first = published.load();
        let mut live = LiveSnapshots::default();
        live.add(&first);
        Self {
            id: first.shard,
            published,
            accepted: AtomicU64::new(mark.tokens),
            ledger_bytes: AtomicUsize::new(first.ledger.footprint()),
            watch_bytes: AtomicUsize::new(watch.as_ref().map_or(0, Watch::bytes)),
            watch: Mutex::new(Rank::Watch, watch),
            skipped,
            leases: Leases::default(),
            state: SharedState::new(ShardState {
                phase: Phase::Open,
                reason: None,
                retry: None,
                failed_saves: 0,
                stream: Stream::new(chunker),
                turns: Turns::default(),
                until_visible: Waiters::default(),
                until_durable: Waiters::default(),
                setbacks: Setbacks::NONE,
                desk: Desk::new(Box::new(files)),
                saving_holds_to: u64::MAX,
                saving: false,
                replaced: None,
                live,
                unsaved: VecDeque::new(),
                unsaved_rows: Vec::new(),
                visible: mark,
                durable: mark,
                last_save: Instant::now(),
                save_to: 0,
                accounted: Some(Footprint::default()),
            }),
        }
    }

    /// Tokens handed over, for a reader: takes no lock.
    pub(crate) fn accepted_tokens(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(crate) fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// How far it had come, for a child of this process: there a lock may be held by a thread
    /// that does not exist.
    pub(crate) fn progress_without_locks(&self) -> Progress {
        let visible = self.published.load().state.tokens_seen;
        Progress {
            accepted: self.accepted_tokens().max(visible),
            visible,
            durable: 0,
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        let state = self.state.lock();
        Progress {
            accepted: state.stream.chunker.accepted(),
            visible: state.visible.tokens,
            durable: state.durable.tokens,
        }
    }

    /// Claims the shard for a learner, if there is something to learn and no learner has it.
    pub(crate) fn claim_for_learning(&self, bounds: &Bounds) -> bool {
        let mut state = self.state.lock();
        state.may_learn(bounds) && state.desk.begin_learning()
    }

    /// The next chunk for the learner that has the shard, if it is `length` tokens long or if
    /// any length will do.
    pub(crate) fn next_chunk(&self, length: Option<usize>, bounds: &Bounds) -> NextChunk {
        let mut state = self.state.lock();
        let ready = match state.may_learn(bounds) {
            true => state.stream.chunker.ready(),
            false => 0,
        };
        if length.is_some_and(|length| ready > 0 && ready != length) {
            return NextChunk::OfOtherLength;
        }
        let rows = (ready > 0).then(|| state.stream.chunker.take()).flatten();
        let mut has_orders = false;
        let mut replaced = None;
        if rows.is_none() {
            has_orders = state.desk.end_learning();
            // A memory that has caught up needs no more than what its readers see.
            if state.stream.chunker.waiting() == 0 {
                replaced = state.replaced.take();
            }
        }
        // There is room in the queue now.
        self.state.announce(state, replaced);
        rows.map_or(NextChunk::Nothing { has_orders }, NextChunk::Rows)
    }

    /// A learner that has the shard gives it back without having learned its chunk. `true` when
    /// the thread that owns the files is to look at the shard.
    pub(crate) fn end_learning(&self) -> bool {
        let mut state = self.state.lock();
        let has_orders = state.desk.end_learning();
        self.state.announce(state, ());
        has_orders
    }

    /// The chunk of so many tokens that the learner has taken cannot be learned: the memory
    /// goes on as if they had never been handed over.
    pub(crate) fn drop_chunk(&self, tokens: usize) {
        let tokens = tokens as u64;
        let mut state = self.state.lock();
        state.stream.drop_taken(tokens);
        state.save_to = state.save_to.saturating_sub(tokens);
        self.show_accepted(&state);
        self.state.announce(state, ());
    }

    /// Lets readers know what the chunker has accepted.
    fn show_accepted(&self, state: &ShardState) {
        let accepted = state.stream.chunker.accepted();
        self.accepted.store(accepted, Ordering::Relaxed);
    }

    /// What the published snapshot replaced, if it was kept.
    pub(crate) fn take_replaced(&self) -> Option<Arc<Snapshot>> {
        self.state.lock().replaced.take()
    }

    /// The ledger of a memory that has learned `tokens` tokens, and how many notes it took to
    /// make it of the `current` one.
    pub(crate) fn ledger_at(
        &self,
        tokens: u64,
        current: &Arc<Ledger>,
        bounds: &Bounds,
    ) -> (Arc<Ledger>, usize) {
        let notes: Vec<Note> = self.state.lock().stream.notes_before(tokens);
        if notes.is_empty() {
            return (Arc::clone(current), 0);
        }
        let mut ledger = Ledger::clone(current);
        for note in &notes {
            note.tell(&mut ledger, bounds.ledger_bytes);
        }
        (Arc::new(ledger), notes.len())
    }

    /// The pieces of an item that are in the memory or on their way.
    pub(crate) fn pieces(&self, item: ItemId) -> Vec<Arc<Entry>> {
        // The notes first: one leaves the list after the snapshot that has it is published,
        // so a piece can be found twice and not be missed.
        let state = self.state.lock();
        let mut pieces = state.stream.noted_pieces(item);
        let is_being_erased = state.stream.being_erased().contains(&item);
        drop(state);
        if !is_being_erased {
            let published = self.published.load();
            pieces.extend(published.ledger.pieces(item).cloned());
        }
        pieces.sort_by_key(|piece| piece.tokens.start);
        pieces.dedup_by_key(|piece| piece.tokens.start);
        pieces
    }

    /// The items that tokens on their way write over.
    pub(crate) fn being_erased(&self) -> Vec<ItemId> {
        self.state.lock().stream.being_erased()
    }

    /// Lets the watch know, where there is one.
    fn tell_watch(&self, tell: impl FnOnce(&mut Watch)) {
        if let Some(watch) = self.watch.lock().as_mut() {
            tell(watch);
        }
    }
}
