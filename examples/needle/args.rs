//! What the command line says.

use std::path::PathBuf;

use clap::Parser;
use titanmem::{Device, Preset};
use titans_needle::parse_tokens;

use crate::needles::MAX_NEEDLES;

/// Hides facts in a long text, learns the text, closes, reopens from disk, asks for the facts.
///
/// Every fact is stated once. The text is streamed through the runtime in chunks, a
/// checksummed file is saved after every chunk, and what is asked is asked of the memory
/// that was reopened from those files. Keys and values are fixed features of the text (a
/// hash of the last three words, and a random vector per word): no model is trained.
#[derive(Debug, Parser)]
#[command(
    name = "needle",
    after_help = "Example:\n  cargo run --release --example needle -- --tokens 64Ki,256Ki --out out"
)]
pub(crate) struct Args {
    /// Lengths of the text in tokens, for example 64Ki,1Mi.
    #[arg(long, value_delimiter = ',', value_parser = parse_tokens, default_value = "64Ki")]
    pub(crate) tokens: Vec<usize>,
    /// All four lengths of the benchmark: 64Ki, 256Ki, 1Mi and 2Mi.
    #[arg(long, conflicts_with = "tokens")]
    pub(crate) full: bool,
    /// UTF-8 texts to hide the facts in, one after the other, instead of the two generated
    /// haystacks.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub(crate) haystack: Vec<PathBuf>,
    /// Facts to hide.
    #[arg(long, default_value_t = 64, value_parser = parse_needles)]
    pub(crate) needles: usize,
    /// Seed of texts, facts and features.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Which memory; the error for an unknown one lists those there are.
    #[arg(long, default_value = "sparse")]
    pub(crate) preset: Preset,
    /// Where to compute: auto, cpu, cuda, cuda:N or wgpu.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: Device,
    /// Tokens between two published snapshots.
    #[arg(long, default_value_t = 4096)]
    pub(crate) chunk: usize,
    /// Write run.json, cells.jsonl, summary.csv, timings.jsonl and heatmap.svg here.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Keep the memories here; by default they live in a temporary folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) memories: Option<PathBuf>,
    /// Fail when recall on a generated haystack is below this many percent.
    #[arg(long, value_name = "PERCENT")]
    pub(crate) min_recall: Option<f64>,
    /// Damage the newest file before reopening, to see the generation before take its place.
    #[arg(long)]
    pub(crate) damage_newest: bool,
}

impl Args {
    /// The lengths to run, in the order given.
    pub(crate) fn lengths(&self) -> Vec<usize> {
        if self.full {
            return [64 << 10, 256 << 10, 1 << 20, 2 << 20].into();
        }
        self.tokens.clone()
    }
}

fn parse_needles(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(needles) if (1..=MAX_NEEDLES).contains(&needles) => Ok(needles),
        _ => Err(format!("expected 1 to {MAX_NEEDLES} facts")),
    }
}
