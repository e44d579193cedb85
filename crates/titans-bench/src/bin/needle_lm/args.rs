//! What the command line says.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use titans_needle::parse_tokens;

/// Hides facts in long texts, reads them with a trained model whose state has one size, and
/// asks: the answers are decoded freely, beside a model with a KV cache and a sliding window.
#[derive(Debug, Parser)]
#[command(
    name = "needle_lm",
    after_help = "Example:\n  cargo run --release -p titans-bench --bin needle_lm -- --tokens 64Ki,2Mi --haystack book.txt --out out"
)]
pub(crate) struct Args {
    /// Lengths of the texts in tokens, for example 64Ki,1Mi.
    #[arg(long, value_delimiter = ',', value_parser = parse_tokens, default_value = "64Ki")]
    pub(crate) tokens: Vec<usize>,
    /// All four lengths of the benchmark: 64Ki, 256Ki, 1Mi and 2Mi.
    #[arg(long, conflicts_with = "tokens")]
    pub(crate) full: bool,
    /// And 10Mi.
    #[arg(long)]
    pub(crate) stretch: bool,
    /// Tasks, comma-separated.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "single-1,single-2,single-3,multikey-1,multivalue,multiquery,needles-16,needles-64,needles-256,unseen"
    )]
    pub(crate) task: Vec<Task>,
    /// UTF-8 texts that no training has seen; generated text without them.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub(crate) haystack: Vec<PathBuf>,
    /// Texts for each task with one question; tasks with many questions take a fourth of it.
    #[arg(long, default_value_t = 8)]
    pub(crate) samples: usize,
    /// Most questions to one text.
    #[arg(long, default_value_t = 64)]
    pub(crate) questions: usize,
    /// Folder of the checkpoints.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../titans-lm/checkpoint"))]
    pub(crate) models: PathBuf,
    /// Which checkpoints, comma-separated: lmm, mac, mag, mal, soft-gate, full-attention,
    /// sliding-window. Those with a memory run everything, the first of them the controls.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "lmm,full-attention,sliding-window"
    )]
    pub(crate) wiring: Vec<String>,
    /// Longest text that full attention reads; longer ones are computed.
    #[arg(long, value_parser = parse_tokens, default_value = "8Ki")]
    pub(crate) attention_up_to: usize,
    /// Longest text on which the control that writes everything runs.
    #[arg(long, value_parser = parse_tokens, default_value = "16Ki")]
    pub(crate) write_all_up_to: usize,
    /// Where to compute: auto, cpu, cuda, cuda:N or wgpu.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: titans_core::ComputeDevice,
    /// Seed of facts, depths and questions.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Write run.json, answers.jsonl, summary.csv, false_writes.txt, heatmap.svg and costs.svg here.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// What is hidden and asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Task {
    /// RULER single_1: one number in repeated noise.
    #[value(name = "single-1")]
    Single1,
    /// RULER single_2: one number in text.
    #[value(name = "single-2")]
    Single2,
    /// RULER single_3: one uuid in text.
    #[value(name = "single-3")]
    Single3,
    /// RULER multikey_1: four numbers, one is asked for.
    #[value(name = "multikey-1")]
    Multikey1,
    /// RULER multivalue: four numbers for one key.
    Multivalue,
    /// RULER multiquery: four numbers, all are asked for, each by a question of its own.
    Multiquery,
    /// Sixteen numbers.
    #[value(name = "needles-16")]
    Needles16,
    /// Sixty-four numbers.
    #[value(name = "needles-64")]
    Needles64,
    /// Two hundred and fifty-six numbers.
    #[value(name = "needles-256")]
    Needles256,
    /// One fact of each template that training never showed.
    Unseen,
}

impl Args {
    /// The lengths to run, ascending.
    pub(crate) fn lengths(&self) -> Vec<usize> {
        let mut lengths = match self.full {
            true => vec![64 << 10, 256 << 10, 1 << 20, 2 << 20],
            false => self.tokens.clone(),
        };
        if self.stretch {
            lengths.push(10 << 20);
        }
        lengths.sort_unstable();
        lengths.dedup();
        lengths
    }
}

impl Task {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Single1 => "single_1",
            Self::Single2 => "single_2",
            Self::Single3 => "single_3",
            Self::Multikey1 => "multikey_1",
            Self::Multivalue => "multivalue",
            Self::Multiquery => "multiquery",
            Self::Needles16 => "needles_16",
            Self::Needles64 => "needles_64",
            Self::Needles256 => "needles_256",
            Self::Unseen => "unseen",
        }
    }

    /// How many texts of `samples` this task reads.
    pub(crate) fn texts(self, samples: usize) -> usize {
        match self {
            Self::Single1 | Self::Single2 | Self::Single3 | Self::Multikey1 => samples,
            _ => samples.div_ceil(4),
        }
    }
}
