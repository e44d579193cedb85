//! GPU kernels for the operations of `titans-core`, one source for CUDA and wgpu.
//!
//! `CubeOps` implements [`titans_core::MemoryOps`]: of sparse memories the selection of the
//! active channels, the read and the ordered write of a chunk, each one or two launches for
//! many memories at once; of dense ones the update, as matrix products and few launches between
//! them ([`titans_core::DenseOps`]); the largest coordinates of a gradient; and what a write
//! has changed.
//! [`titans_core::TensorOps`] and the core's tensor operations are the reference; a test holds
//! every kernel against them.
//!
//! Without the feature `cuda` or `wgpu` the crate is empty.
#![forbid(unsafe_code)]

#[cfg(feature = "cube")]
mod activate;
#[cfg(feature = "cube")]
mod apply;
#[cfg(feature = "cube")]
mod backend;
#[cfg(feature = "cube")]
mod blocks;
#[cfg(feature = "cube")]
mod changes;
#[cfg(feature = "cube")]
mod dense;
#[cfg(feature = "cube")]
mod finite;
#[cfg(feature = "cube")]
mod host_words;
#[cfg(feature = "cube")]
mod largest;
#[cfg(feature = "cube")]
mod ops;
#[cfg(feature = "cube")]
mod product;
#[cfg(feature = "cube")]
mod read;
#[cfg(feature = "cube")]
mod reduce;
#[cfg(feature = "cube")]
mod report;
#[cfg(feature = "cube")]
mod scan;
#[cfg(feature = "cube")]
mod write;

#[cfg(feature = "cube")]
pub use ops::{CubeOps, runs_on};
