//! A shard from its files.

use std::path::Path;
use std::sync::PoisonError;

use titans_store::{MemoryStore, ShardId};

use super::{Chunker, Shard};
use crate::alert::AlertKind;
use crate::checkpoint::empty_snapshot;
use crate::engine::Engine;
use crate::error::RuntimeError;
use crate::snapshot::Snapshot;
use crate::user::shard_dir;

impl Shard {
    /// Opens the files of a shard and recovers the newest generation that verifies.
    pub(crate) fn open(root: &Path, id: ShardId, engine: &Engine) -> Result<Self, RuntimeError> {
        let config = &engine.config;
        let dir = shard_dir(root, id);
        let (store, recovery) = MemoryStore::open(&dir, id, config.store)?;
        // A torn tail of a journal is the mark of a crash and holds nothing acknowledged.
        for torn in &recovery.torn {
            tracing::info!(shard = %id, "{} ends early: {}", torn.path.display(), torn.reason);
        }
        let skipped: Vec<String> = recovery.skipped.iter().map(ToString::to_string).collect();
        for line in &skipped {
            engine.meters.damaged_files.add(1);
            let message = line.clone();
            config.alerts.raise(id, AlertKind::DamagedFile, message);
        }
        let snapshot = match recovery.image {
            None => empty_snapshot(&engine.memory, id),
            Some(image) => Snapshot {
                shard: id,
                version: recovery
                    .generation
                    .map_or(0, |generation| generation.number()),
                last_chunk_id: image.last_chunk_id,
                state: engine.identity.state(&engine.memory, image)?,
                changed: None,
            },
        };
        let tokens = snapshot.state.tokens_seen;
        let chunker = Chunker::new(config.chunk_tokens, engine.widths(), tokens);
        Ok(Self::new(store, snapshot, chunker, skipped))
    }

    /// Closes the files, so that another process may open them. Readers are not affected.
    pub(crate) fn close_files(&self) {
        self.store
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}
