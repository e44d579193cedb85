//! Every setting by name, once: read, written and listed by whoever visits them.

use titans_store::StoreConfig;

use super::RuntimeConfig;
use super::error::SettingsError;
use super::setting::{Bytes, Setting};
use crate::backup::BackupConfig;
use crate::ledger::LedgerConfig;
use crate::watch::RecallWatch;

/// Names of the tables.
pub(super) const MEMORY: &str = "memory";
pub(super) const RUNTIME: &str = "runtime";
pub(super) const LEDGER: &str = "ledger";
pub(super) const RECALL_WATCH: &str = "recall_watch";
pub(super) const STORE: &str = "store";
pub(super) const BACKUPS: &str = "backups";

/// Whoever reads, writes or lists settings.
pub(super) trait Visit {
    /// One setting.
    fn field<T: Setting>(&mut self, key: &'static str, field: &mut T) -> Result<(), SettingsError>;

    /// A number of bytes.
    fn bytes(&mut self, key: &'static str, field: &mut u64) -> Result<(), SettingsError> {
        let mut bytes = Bytes(*field);
        self.field(key, &mut bytes)?;
        *field = bytes.0;
        Ok(())
    }

    /// A number of bytes in memory.
    fn size(&mut self, key: &'static str, field: &mut usize) -> Result<(), SettingsError> {
        let mut bytes = *field as u64;
        self.bytes(key, &mut bytes)?;
        // The crate is for machines of 64 bits alone.
        *field = bytes as usize;
        Ok(())
    }
}

pub(super) fn runtime(
    config: &mut RuntimeConfig,
    visit: &mut impl Visit,
) -> Result<(), SettingsError> {
    visit.field("device", &mut config.device)?;
    visit.field("more_devices", &mut config.more_devices)?;
    visit.field("products", &mut config.products)?;
    visit.field("chunk_tokens", &mut config.chunk_tokens)?;
    visit.field("queue_tokens", &mut config.queue_tokens)?;
    visit.field("when_full", &mut config.when_full)?;
    visit.field("durability", &mut config.durability)?;
    visit.size("resident_bytes", &mut config.resident_bytes)?;
    visit.field("learners", &mut config.learners)?;
    visit.field("learn_batch", &mut config.learn_batch)?;
    visit.field("compute_threads", &mut config.compute_threads)?;
    visit.field("savers", &mut config.savers)
}

pub(super) fn ledger(
    config: &mut LedgerConfig,
    visit: &mut impl Visit,
) -> Result<(), SettingsError> {
    visit.size("max_bytes", &mut config.max_bytes)?;
    visit.field("neighbours", &mut config.neighbours)?;
    visit.bytes("replay_bytes", &mut config.replay_bytes)
}

pub(super) fn recall_watch(
    config: &mut Option<RecallWatch>,
    visit: &mut impl Visit,
) -> Result<(), SettingsError> {
    let mut enabled = config.is_some();
    let mut watch = config.unwrap_or_default();
    visit.field("enabled", &mut enabled)?;
    visit.field("probes", &mut watch.probes)?;
    visit.field("look_every", &mut watch.look_every)?;
    visit.field("max_drop", &mut watch.max_drop)?;
    visit.field("on_drop", &mut watch.on_drop)?;
    *config = enabled.then_some(watch);
    Ok(())
}

pub(super) fn store(config: &mut StoreConfig, visit: &mut impl Visit) -> Result<(), SettingsError> {
    visit.field("keep_old", &mut config.keep_old)?;
    visit.bytes("max_file_bytes", &mut config.limits.max_file_bytes)?;
    visit.field("max_params", &mut config.limits.max_params)?;
    visit.field("mode", &mut config.mode)?;
    visit.field("precision", &mut config.precision)?;
    visit.field("delta_check", &mut config.delta_check)?;
    visit.field("network", &mut config.network)?;
    visit.field("folders", &mut config.folders)
}

pub(super) fn backups(
    config: &mut BackupConfig,
    visit: &mut impl Visit,
) -> Result<(), SettingsError> {
    visit.field("dir", &mut config.dir)?;
    visit.field("every", &mut config.every)?;
    visit.field("keep", &mut config.keep)?;
    visit.field("pause", &mut config.pause)?;
    visit.field("per_tick", &mut config.per_tick)?;
    visit.field("driver", &mut config.driver)
}
