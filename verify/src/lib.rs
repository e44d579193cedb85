//! Models of the protocols by which a snapshot is published, read and used again, by which a
//! memory stays loaded while somebody needs it, by which learners, savers and commands share
//! it, and by which futures wait for it.
#![cfg(test)]
#![forbid(unsafe_code)]

#[cfg_attr(not(miri), path = "explore_with_loom.rs")]
#[cfg_attr(miri, path = "explore_with_miri.rs")]
mod explore;
#[cfg_attr(not(miri), path = "loom_sync.rs")]
#[cfg_attr(miri, path = "../../crates/titans-runtime/src/sync.rs")]
mod sync;

#[path = "../../crates/titans-runtime/src/shard/desk.rs"]
mod desk;
#[path = "../../crates/titans-runtime/src/shard/lease.rs"]
mod lease;
#[path = "../../crates/titans-runtime/src/published.rs"]
mod published;
#[path = "../../crates/titans-runtime/src/shard/turns.rs"]
mod turns;
#[path = "../../crates/titans-runtime/src/shard/waiters.rs"]
mod waiters;

mod adopting;
mod awaiting;
mod leasing;
mod publishing;
mod sharing;
mod sharing_models;
mod taking_turns;
mod waiting;
