//! A shard from its files, and files that are opened again after something went wrong with
//! them.

use std::sync::Arc;

use titans_store::{Generation, MemoryStore, ShardId, StoreError};

use super::chunker::Chunker;
use super::desk::Files;
use super::phase::Event;
use super::{Shard, ShardFiles};
use crate::alert::AlertKind;
use crate::checkpoint::MemoryIdentity;
use crate::context::Context;
use crate::error::{CommandError, OpenError, Stopped};
use crate::snapshot::Snapshot;
use crate::user::shard_dir;
use crate::watch::Watch;

/// The largest counter of a file that is gone on from: enough is left above it that no sum
/// overflows.
const LARGEST_COUNTER: u64 = 1 << 62;

/// What a folder holds.
pub(super) struct Opened {
    pub(super) files: ShardFiles,
    /// Of the newest generation that verifies.
    pub(super) snapshot: Snapshot,
    pub(super) generation: Option<Generation>,
    skipped: Vec<String>,
    probes: Vec<Vec<u8>>,
}

/// A shard, and what a person should know of how it was opened.
pub(crate) struct OpenedShard {
    pub(crate) shard: Shard,
    /// The damaged files that were passed over.
    pub(crate) alerts: Vec<(AlertKind, String)>,
}

/// Opens the files of a shard and recovers the newest generation that verifies.
pub(super) fn folder(id: ShardId, context: &Context) -> Result<Opened, OpenError> {
    let config = &context.config;
    let dir = shard_dir(&context.root, id);
    let (store, recovery) = match &config.storage {
        None => MemoryStore::open(&dir, id, config.store)?,
        Some(storage) => MemoryStore::open_on(storage.open(&dir)?, id, config.store)?,
    };
    // A torn tail of a journal is the mark of a crash and holds nothing acknowledged.
    for torn in &recovery.torn {
        tracing::info!(shard = %id, "{} ends early: {}", torn.path.display(), torn.reason);
    }
    let mut snapshot = Snapshot::first(id, context.memories.of(id).initial_state());
    if let Some(image) = recovery.image {
        let version = recovery.generation.map_or(0, Generation::number);
        let history = MemoryIdentity::history(&image);
        let counters = [
            ("tokens", image.tokens_seen),
            ("saves", version),
            ("chunks", image.last_chunk_id),
            ("rebuilds", history),
        ];
        for (what, found) in counters {
            if found > LARGEST_COUNTER {
                return Err(OpenError::Counter {
                    what,
                    found,
                    limit: LARGEST_COUNTER,
                });
            }
        }
        snapshot.version = version;
        snapshot.history = history;
        snapshot.last_chunk_id = image.last_chunk_id;
        snapshot.state = context.identity.state(context.memories.of(id), image)?;
    }
    let tokens = snapshot.state.tokens_seen;
    let (files, ledger, probes) = ShardFiles::open(
        store,
        &config.ledger,
        context.widths(),
        tokens,
        snapshot.history,
    )?;
    snapshot.ledger = Arc::new(ledger);
    Ok(Opened {
        files,
        snapshot,
        generation: recovery.generation,
        skipped: recovery.skipped.iter().map(ToString::to_string).collect(),
        probes,
    })
}

/// The open files; those that were lost are opened again.
pub(crate) fn open_files<'a>(
    shard: &Shard,
    files: &'a mut Files<Box<ShardFiles>>,
    context: &Context,
) -> Result<&'a mut ShardFiles, OpenError> {
    if matches!(files, Files::Lost) {
        let opened = folder(shard.id, context)?;
        // What lies beside the generations is written anew for the memory that is in use.
        *files = Files::Open(Box::new(opened.files.into_stale()));
    }
    match files {
        Files::Open(open) => Ok(open),
        Files::Lost | Files::Closed => Err(Stopped::Closed.into()),
    }
}

/// Finds out whether a step came through that ended in an error: opens the files again and
/// looks at the newest generation. `None` when that is not told by its number but by what is
/// in it. An error when it did not come through; the memory fails where nobody can tell.
pub(super) fn generation_after(
    shard: &Shard,
    files: &mut Files<Box<ShardFiles>>,
    context: &Context,
    error: StoreError,
    came_through: impl FnOnce(Option<Generation>) -> bool,
) -> Result<Option<Generation>, CommandError> {
    match folder(shard.id, context) {
        Ok(opened) => {
            *files = Files::Open(Box::new(opened.files.into_stale()));
            match came_through(opened.generation) {
                true => Ok(opened.generation),
                false => Err(error.into()),
            }
        }
        Err(second) => {
            let reason = format!("{error}; and then the files could not be opened: {second}");
            Err(fail(shard, reason, context).into())
        }
    }
}

/// The memory fails: nobody can tell whether the disk holds it or what was to replace it.
pub(super) fn fail(shard: &Shard, reason: String, context: &Context) -> Stopped {
    shard.stop(Event::Broke, reason.as_str().into());
    shard.account(context);
    let alerts = &context.alerts;
    alerts.raise(shard.id, AlertKind::Failed, reason.clone());
    Stopped::Failed {
        reason: reason.into(),
    }
}

impl Shard {
    /// Opens a shard.
    pub(crate) fn open(id: ShardId, context: &Context) -> Result<OpenedShard, OpenError> {
        let opened = folder(id, context)?;
        let config = &context.config;
        let alerts = (opened.skipped.iter())
            .map(|line| (AlertKind::DamagedFile, line.clone()))
            .collect();
        let tokens = opened.snapshot.state.tokens_seen;
        let watch = config.recall_watch.map(|watch| {
            let seed = id.0.first_chunk().map_or(1, |id| u64::from_le_bytes(*id));
            let mut watch = Watch::new(watch, context.widths(), seed);
            watch.restore(&opened.probes, tokens);
            watch
        });
        let chunker = Chunker::new(config.chunk_tokens, context.widths(), tokens);
        let Opened {
            files,
            snapshot,
            skipped,
            ..
        } = opened;
        Ok(OpenedShard {
            shard: Self::new(files, snapshot, chunker, skipped, watch),
            alerts,
        })
    }
}
