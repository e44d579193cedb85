//! GPU kernels for the operations of `titans-core`, one source for CUDA and wgpu.
//!
//! `CubeOps` implements [`titans_core::MemoryOps`]: selection of the active channels, read
//! and the ordered write of a chunk, each one or two launches for many memories at once.
//! [`titans_core::TensorOps`] is the reference; a test holds every kernel against it.
//!
//! Without the feature `cuda` or `wgpu` the crate is empty.
#![forbid(unsafe_code)]

#[cfg(feature = "cube")]
mod activate;
#[cfg(feature = "cube")]
mod backend;
#[cfg(feature = "cube")]
mod ops;
#[cfg(feature = "cube")]
mod read;
#[cfg(feature = "cube")]
mod reduce;
#[cfg(feature = "cube")]
mod report;
#[cfg(feature = "cube")]
mod write;

#[cfg(feature = "cube")]
pub use ops::{CubeOps, runs_on};
