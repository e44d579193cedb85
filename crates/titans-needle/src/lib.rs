//! What the needle benchmarks share, the one with fixed features (`examples/needle`) and the
//! one with a trained model (`titans-bench`): the words that facts and texts are made of, and
//! what counts, prints and draws the answers.
//!
//! It depends on nothing, so that the example that a newcomer runs first is built soon. It does
//! not know what a memory is.

#![forbid(unsafe_code)]

mod heatmap;
mod lengths;
mod process;
mod score;
mod table;
pub mod words;

pub use heatmap::{Cell, heatmap};
pub use lengths::{parse_tokens, tokens_text};
pub use process::status_bytes;
pub use score::Hits;
pub use table::markdown;
