//! Models of the protocols by which a snapshot is published, read and used again, and by which
//! a memory stays loaded while somebody needs it.
#![cfg(test)]
#![forbid(unsafe_code)]

#[cfg_attr(not(miri), path = "explore_with_loom.rs")]
#[cfg_attr(miri, path = "explore_with_miri.rs")]
mod explore;
#[cfg_attr(not(miri), path = "loom_sync.rs")]
#[cfg_attr(miri, path = "../../crates/titans-runtime/src/sync.rs")]
mod sync;

#[path = "../../crates/titans-runtime/src/shard/lease.rs"]
mod lease;
#[path = "../../crates/titans-runtime/src/published.rs"]
mod published;

mod leasing;
mod publishing;
