//! Long-term memory of constant size that learns while it is used.
//!
//! This crate is the door to the family: it re-exports what an engine or an agent needs.
//!
//! | crate | is |
//! | --- | --- |
//! | [`titans_runtime`] | learning while serving: queues, snapshots, one shard per user |
//! | [`titans_core`] | the mathematics: memories, gates, presets |
//! | [`titans_store`] | the `.titanmem` format and its crash-safe folder |
//!
//! ```
#![doc = include_str!("../examples/remember.rs")]
//! ```
#![forbid(unsafe_code)]

pub use titans_core::{ComputeDevice as Device, ConfigError, MemoryConfig, MirasConfig, Preset};
pub use titans_runtime::{
    CloseReport, Durability, Latency, Progress, RecallInfo, Rows, Runtime, RuntimeConfig,
    RuntimeError, ShardId, Stats, Ticket, UserMemory, UserReport, WhenFull,
};
pub use titans_store::{StoreConfig, StoreError};

pub use {titans_core, titans_runtime, titans_store};
