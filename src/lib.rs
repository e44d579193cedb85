#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub use titans_core::{
    ComputeDevice as Device, ConfigError, MemoryConfig, MirasConfig, Preset, Products,
};
#[cfg(feature = "tokio")]
pub use titans_runtime::tokio;
pub use titans_runtime::{
    Alert, AlertKind, AlertSink, Alerts, BackupConfig, BackupDriver, BackupFailure, BackupSummary,
    CloseReport, Durability, ForgetReceipt, ForgottenItem, Health, ItemId, Latency, LedgerConfig,
    MemorySnapshot, Neighbour, OnDrop, ProbeScore, Progress, Rebuilt, RecallInfo, RecallWatch,
    Resumed, RolledBack, Rows, Runtime, RuntimeConfig, RuntimeError, ShardId, Stats, StoredItem,
    TickReport, Ticket, UserMemory, UserReport, WhenFull, describe_metrics,
};
pub use titans_store::{FolderMode, StoreConfig, StoreError};

pub use {titans_core, titans_runtime, titans_store};

#[cfg(test)]
mod tests {
    /// The program on the front page is the one that runs.
    #[test]
    fn the_readme_shows_the_example() {
        let example = include_str!("../examples/remember.rs");
        let (_, program) = example.split_once('\n').expect("a line of documentation");
        assert!(include_str!("../README.md").contains(program));
    }
}
