//! What a memory of constant size can recall, measured beside what theory allows.
//!
//! ```text
//! cargo run --release -p titans-bench --bin recall             minutes
//! cargo run --release -p titans-bench --bin recall -- --full   longer streams, larger counts
//! ```
//!
//! Three tables, for every preset and for two yardsticks of equal bytes, a flat index of
//! vectors and a plain sum of outer products:
//!
//! 1. *one-shot*: pairs of random keys and values, each written once and asked for once;
//!    right is the answer nearest to its own value among all stored ones (MQAR).
//! 2. *streaming, everything is news*: an endless stream of such pairs, values from 1024
//!    candidates; how many pairs of the stream are recalled at its end.
//! 3. *streaming, needles*: 64 pairs hidden once each in a stream that repeats 1000
//!    associations with Zipf's frequencies, written with and without the surprise gate.

mod options;
mod stores;
mod tables;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use self::options::Options;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("recall: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    tables::one_shot(options)?;
    tables::everything_is_news(options)?;
    tables::needles(options)?;
    Ok(())
}
