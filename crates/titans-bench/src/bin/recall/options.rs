//! What the command line asks for.

use clap::Parser;

/// Options of the measurement.
#[derive(Parser)]
#[command(about = "Recall of every preset, beside theory and two yardsticks of equal bytes")]
pub(crate) struct Options {
    /// Longer streams and more pairs.
    #[arg(long)]
    pub(crate) full: bool,
    /// Seed of keys, values and streams.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where the memories compute: auto, cpu, cuda, cuda:N or wgpu.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: titans_core::ComputeDevice,
    /// Only the named preset or yardstick; may be repeated.
    #[arg(long)]
    pub(crate) only: Vec<String>,
}
