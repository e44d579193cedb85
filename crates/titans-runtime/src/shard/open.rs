//! A shard from its files.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use titans_store::{MemoryStore, ShardId};

use super::files::ShardFiles;
use super::{Chunker, Shard};
use crate::alert::AlertKind;
use crate::checkpoint::{MemoryIdentity, empty_snapshot};
use crate::engine::Engine;
use crate::error::RuntimeError;
use crate::snapshot::Snapshot;
use crate::user::shard_dir;
use crate::watch::Watch;

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
        let mut snapshot = match recovery.image {
            None => empty_snapshot(engine.memories.of(id), id),
            Some(image) => Snapshot {
                shard: id,
                version: recovery
                    .generation
                    .map_or(0, |generation| generation.number()),
                last_chunk_id: image.last_chunk_id,
                history: MemoryIdentity::history(&image),
                lineage: 0,
                state: engine.identity.state(engine.memories.of(id), image)?,
                ledger: Arc::default(),
                watched: None,
                changed: None,
            },
        };
        let tokens = snapshot.state.tokens_seen;
        let widths = engine.widths();
        let (files, ledger, probes) =
            ShardFiles::open(store, &config.ledger, widths, tokens, snapshot.history)?;
        let watch = config.recall_watch.map(|watch| {
            let seed = id.0.first_chunk().map_or(1, |id| u64::from_le_bytes(*id));
            let mut watch = Watch::new(watch, widths, seed);
            watch.restore(&probes, tokens);
            watch
        });
        snapshot.ledger = Arc::new(ledger);
        let chunker = Chunker::new(config.chunk_tokens, widths, tokens);
        let live = Arc::clone(&engine.live_snapshots);
        Ok(Self::new(files, snapshot, chunker, skipped, watch, live))
    }

    /// Closes the files, so that another process may open them. Readers are not affected.
    pub(crate) fn close_files(&self) {
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut files) = files.take() else {
            return;
        };
        if let Some(watch) = watch.as_ref().filter(|watch| watch.has_looked()) {
            // Without them the watch begins anew; nothing else depends on them.
            if let Err(error) = files.save_probes(&watch.records()) {
                tracing::warn!(shard = %self.id, "cannot keep the probes: {error}");
            }
        }
    }
}
