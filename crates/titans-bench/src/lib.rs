//! What the benchmark programs in `src/bin` share. None of them is published, and no crate
//! depends on this one.

#![forbid(unsafe_code)]

pub mod out;
