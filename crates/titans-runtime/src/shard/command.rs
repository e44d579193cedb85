//! What is done to a memory while nothing else changes its files: pin, roll back, resume,
//! rebuild, empty, close.
//!
//! Each is a command in the line of the thread that owns the shard's files. What a command
//! needs is read and checked first. Then one step changes what is durable. After that step the
//! memory follows, whatever fails: what is left undone is finished when the files are opened
//! again, and where nobody can tell whether the step came through, the memory fails.

use std::sync::Arc;

use titans_store::Generation;

use super::adopt::Arrival;
use super::desk::Files;
use super::erasure::plan_erasure;
use super::order::{Command, Reply, Resumed, RolledBack};
use super::phase::Event;
use super::rebuild::rebuild;
use super::{Shard, ShardFiles, open};
use crate::checkpoint::MemoryIdentity;
use crate::context::Context;
use crate::error::{CommandError, Stopped};
use crate::health::Health;
use crate::ledger::Ledger;
use crate::snapshot::Change;

/// The outcome of a command, to be delivered once the files are put back.
pub(crate) type Delivery = Box<dyn FnOnce() + Send>;

impl Command {
    /// Carries it out.
    pub(crate) fn carry_out(
        self,
        shard: &Shard,
        files: &mut Files<Box<ShardFiles>>,
        context: &Context,
    ) -> Delivery {
        match self {
            Self::Pin(reply) => deliver(reply, pin(shard, files, context)),
            Self::RollBack(reply) => deliver(reply, roll_back(shard, files, context)),
            Self::Resume(reply) => deliver(reply, resume(shard, files, context)),
            Self::Rebuild(reply) => deliver(reply, rebuild(shard, files, context)),
            Self::PlanErasure(keys, reply) => {
                let snapshot = shard.published.load();
                let plan = || plan_erasure(context, &snapshot, &keys);
                let planned = context.compute.for_a_command(plan);
                deliver(reply, planned)
            }
            Self::Empty(reply) => {
                *files = Files::Closed;
                shard.empty(context);
                deliver(reply, Ok(()))
            }
            Self::Close(reply) => {
                shard.close_files(files);
                deliver(reply, Ok(()))
            }
        }
    }
}

fn deliver<T: Send + 'static>(reply: Reply<T>, outcome: Result<T, CommandError>) -> Delivery {
    Box::new(move || {
        // Nobody waits any more where the caller has gone.
        let _ = reply.send(outcome);
    })
}

fn pin(
    shard: &Shard,
    files: &mut Files<Box<ShardFiles>>,
    context: &Context,
) -> Result<u64, CommandError> {
    let store = &mut open::open_files(shard, files, context)?.store;
    let newest = store.generations()?.into_iter().max();
    let generation = newest.unwrap_or(Generation::new(0));
    store.pin_last_known_good(generation)?;
    Ok(generation.number())
}

fn roll_back(
    shard: &Shard,
    files: &mut Files<Box<ShardFiles>>,
    context: &Context,
) -> Result<RolledBack, CommandError> {
    let current = shard.published.load();
    let open = open::open_files(shard, files, context)?;
    let pinned = open.store.last_known_good()?;
    let Some(pinned) = pinned else {
        let path = open.store.path().to_owned();
        return Err(titans_store::StoreError::NothingPinned { path }.into());
    };
    let image = open.store.load(pinned)?;
    // Its positions would be those of another stream.
    if MemoryIdentity::history(&image) != current.history {
        return Err(CommandError::RebuiltSince);
    }
    let newest = open.store.generations()?.into_iter().max();
    let mut ledger = Ledger::clone(&current.ledger);
    ledger.truncate(image.tokens_seen);
    // What waits is dropped, and with it what was to write over these.
    let being_erased = shard.being_erased().into_iter();
    being_erased.for_each(|item| ledger.owe(item, image.tokens_seen));
    let successor = current.successor(Change::Reloaded {
        last_chunk_id: image.last_chunk_id,
        history: current.history,
        state: context
            .identity
            .state(context.memories.of(shard.id), image)?,
        ledger: Arc::new(ledger),
    });
    if !successor.ledger.owed().is_empty() {
        // The memory that is gone back to knows them. Before the disk may hold it, the log says
        // that they are to be forgotten once more.
        let mut before = Ledger::clone(&current.ledger);
        let owed = successor.ledger.all_owed().iter();
        owed.for_each(|(item, place)| before.owe(*item, *place));
        if let Err(error) = open.rewrite_ledger(&[(current.history, &before)]) {
            *files = Files::Lost;
            return Err(error.into());
        }
    }
    // From here on the disk may hold the memory that is gone back to.
    let generation = match open.store.roll_back_to(pinned) {
        Ok(saved) => saved.generation,
        Err(error) => {
            *files = Files::Lost;
            let came_through = |generation: Option<Generation>| generation > newest;
            match open::generation_after(shard, files, context, error, came_through)? {
                Some(generation) => generation,
                None => newest.unwrap_or(pinned),
            }
        }
    };
    if let Files::Open(open) = files
        && open.go_back(&successor).is_err()
    {
        // The log of the ledger is written anew when the files are opened again.
        *files = Files::Lost;
    }
    let tokens = successor.state.tokens_seen;
    shard.tell_watch(|watch| watch.forget_behind(tokens));
    let adopted = shard.adopt(successor, Arrival::Durable, context);
    let rolled_back = RolledBack {
        generation: generation.number(),
        tokens,
        tokens_dropped: adopted.tokens_dropped,
    };
    Ok(rolled_back)
}

fn resume(
    shard: &Shard,
    files: &mut Files<Box<ShardFiles>>,
    context: &Context,
) -> Result<Resumed, CommandError> {
    match shard.health() {
        Health::Forgotten => return Err(Stopped::Forgotten.into()),
        Health::Closed => return Err(Stopped::Closed.into()),
        Health::Failed { .. } => {}
        // What it went back to is whole; it goes on with that.
        Health::Frozen { .. } => {
            shard.thaw();
            return Ok(Resumed {
                tokens: shard.progress().accepted,
                tokens_lost: 0,
            });
        }
        _ => {
            return Ok(Resumed {
                tokens: shard.progress().accepted,
                tokens_lost: 0,
            });
        }
    }
    *files = Files::Lost;
    let opened = open::folder(shard.id, context)?;
    let current = shard.published.load();
    let snapshot = opened.snapshot;
    let successor = current.successor(Change::Reloaded {
        last_chunk_id: snapshot.last_chunk_id,
        history: snapshot.history,
        ledger: Arc::clone(&snapshot.ledger),
        state: snapshot.state,
    });
    *files = Files::Open(Box::new(opened.files.telling_of(&successor)));
    let tokens = successor.state.tokens_seen;
    match successor.history == current.history {
        true => shard.tell_watch(|watch| watch.forget_behind(tokens)),
        false => shard.tell_watch(crate::watch::Watch::start_over),
    }
    let adopted = shard.adopt(successor, Arrival::Durable, context);
    Ok(Resumed {
        tokens,
        tokens_lost: adopted.tokens_dropped,
    })
}

impl Shard {
    /// Closes the files for good; nobody else can open them before. Readers are not affected.
    pub(crate) fn close_files(&self, files: &mut Files<Box<ShardFiles>>) {
        if let Files::Open(open) = files {
            let watch = self.watch.lock();
            if let Some(watch) = watch.as_ref().filter(|watch| watch.has_looked()) {
                let records = watch.records();
                // Without them the watch begins anew; nothing else depends on them.
                if let Err(error) = open.save_probes(&records) {
                    tracing::warn!(shard = %self.id, "cannot keep the probes: {error}");
                }
            }
        }
        *files = Files::Closed;
    }

    /// Closes the files when no thread is left that could have them.
    pub(crate) fn close_unattended(&self) {
        let files = self.state.lock().desk.begin_saving();
        if let Some(mut files) = files {
            self.close_files(&mut files);
            self.put_back(files);
        }
    }

    /// Takes what was learned out of every reader's reach.
    fn empty(&self, context: &Context) {
        let state = context.memories.of(self.id).initial_state();
        let successor = self.published.load().successor(Change::Emptied { state });
        self.tell_watch(crate::watch::Watch::start_over);
        self.adopt(successor, Arrival::Emptied, context);
    }

    /// Lets a frozen memory go on as it is.
    fn thaw(&self) {
        let mut state = self.state.lock();
        state.phase = state.phase.after(Event::Recovered);
        state.reason = None;
        self.state.announce(state, ());
    }
}
