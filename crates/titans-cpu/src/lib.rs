//! Dense memories on the CPU: one update of a multi-layer perceptron, and its read, on slices.
//!
//! The equations are those of `titans-core`, whose tensor path is the twin of this crate:
//! every token of an update is written with its gradient at the same weights, under momentum
//! and decay (Titans, arXiv:2501.00663, eq. 13-14 and section 3.2). Here they are matrix
//! products of the `gemm` crate into buffers that are kept, with one pass over the numbers
//! between two products. On request the operands of the products are [rounded](Products) to
//! bf16, by instructions where the processor has them, or else by loops with the same bits.
//!
//! This crate knows numbers and threads. It does not know what a tensor is, where weights come
//! from, or which memory they belong to.
//!
//! # Bits
//! A row of a prediction is one chain of multiply-adds for every number, whatever rows stand
//! beside it and however many threads share the work; so are the sums of an update. Memories
//! can therefore be cut, batched and shared between threads without changing a bit.
//!
//! The loops of this crate make the same bits with [vectors](Level) of every width, and products in
//! bf16 do. Products in f32 are those of `gemm`, which rounds otherwise where the processor has no
//! fused multiply-add.
#![deny(unsafe_code)]

mod activation;
mod bf16;
mod coefficients;
mod gradients;
mod learned;
mod level;
mod matrix;
mod mlp;
#[cfg(not(target_arch = "x86_64"))]
mod no_screen;
mod product;
mod scratch;
mod simd;
mod update;

pub use activation::Activation;
#[cfg(target_arch = "x86_64")]
pub use bf16::{Found, Screen};
pub use coefficients::AtEnd;
pub use gradients::Tokens;
pub use learned::{Buffer, Learned};
pub use level::{Level, LevelError, SIMD_VARIABLE, simd_level};
pub use mlp::Mlp;
#[cfg(not(target_arch = "x86_64"))]
pub use no_screen::{Found, Screen};
pub use product::Products;
pub use simd::{all_finite, vectorised};

/// The example of the crate's page is compiled, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
