//! The place of GPU kernels for the operations of `titans-core`. **It holds none yet.**
//!
//! On every device the memory runs on [`titans_core::HostOps`], which computes in host
//! memory, or on [`titans_core::TensorOps`], the reference. A kernel here will be one more
//! implementation of [`titans_core::MemoryOps`], one source for CUDA and wgpu, held against
//! the reference by a test. Nothing depends on this crate unless asked to.
#![forbid(unsafe_code)]
