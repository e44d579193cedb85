//! What can be asked of the thread that owns a shard's files, and what is answered.

use std::any::Any;
use std::sync::mpsc::SyncSender;

use super::desk::Orders;
use super::erasure::Erasure;
use crate::error::CommandError;
use crate::ledger::ItemId;

/// What a rollback did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RolledBack {
    /// Number of the new generation, which holds what the pinned one holds.
    pub generation: u64,
    /// Tokens of the stream that the memory has now learned; the next one handed over
    /// continues there.
    pub tokens: u64,
    /// Tokens that were learned or waiting and are not any more.
    pub tokens_dropped: u64,
}

/// What resuming did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resumed {
    /// Tokens that the memory has learned; the next one handed over continues there.
    pub tokens: u64,
    /// Tokens that had been handed over behind them and are lost: their tickets report
    /// [`WaitError::RolledBack`](crate::WaitError::RolledBack).
    pub tokens_lost: u64,
}

/// What a rebuild did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rebuilt {
    /// Items of which the memory is now as if they had never been handed over.
    pub forgotten: Vec<ItemId>,
    /// Items that were handed over before the tokens that are kept: they stay forgotten
    /// approximately.
    pub approximate: Vec<ItemId>,
    /// Tokens that were learned again.
    pub tokens_replayed: u64,
    /// Tokens that the memory has not seen any more: those of the items, and those that had
    /// written over them.
    pub tokens_removed: u64,
}

/// Where the outcome of a command goes.
pub(crate) type Reply<T> = SyncSender<Result<T, CommandError>>;

/// Something to be done by the thread that owns the files.
#[derive(Debug)]
pub(crate) enum Command {
    /// Make the newest durable generation the one to roll back to.
    Pin(Reply<u64>),
    /// Go back to the pinned generation.
    RollBack(Reply<RolledBack>),
    /// Go on from the newest durable generation.
    Resume(Reply<Resumed>),
    /// Learn again without the items that were forgotten.
    Rebuild(Reply<Rebuilt>),
    /// Find out which tokens take away what some keys recall.
    PlanErasure(Vec<f32>, Reply<Erasure>),
    /// Close the files, and take what was learned out of every reader's reach.
    Empty(Reply<()>),
    /// Close the files for good.
    Close(Reply<()>),
}

impl Orders for Command {
    fn needs_quiet(&self) -> bool {
        match self {
            Self::Pin(_) | Self::PlanErasure(..) => false,
            Self::RollBack(_)
            | Self::Resume(_)
            | Self::Rebuild(_)
            | Self::Empty(_)
            | Self::Close(_) => true,
        }
    }
}

impl Command {
    /// Keeps the caller waiting for the outcome as long as it exists.
    pub(crate) fn caller(&self) -> Box<dyn Any> {
        match self {
            Self::Pin(reply) => Box::new(reply.clone()),
            Self::RollBack(reply) => Box::new(reply.clone()),
            Self::Resume(reply) => Box::new(reply.clone()),
            Self::Rebuild(reply) => Box::new(reply.clone()),
            Self::PlanErasure(_, reply) => Box::new(reply.clone()),
            Self::Empty(reply) | Self::Close(reply) => Box::new(reply.clone()),
        }
    }
}
