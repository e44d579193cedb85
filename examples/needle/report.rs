//! What is printed and what is written to files.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;
use titanmem::RuntimeConfig;
use titans_needle::{Hits, heatmap, markdown, tokens_text};

use crate::Error;
use crate::args::Args;
use crate::needles::Needle;
use crate::run::Outcome;
use crate::text::Vocabulary;

/// Bytes per token of the KV cache to compare with: 8 layers, 4 KV heads of 64, bf16.
const KV_BYTES_PER_TOKEN: u64 = 8 * 4 * 64 * 2 * 2;

/// All that one text of one length gave.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) haystack: String,
    /// Whether the recall bar is on this haystack.
    pub(crate) is_generated: bool,
    pub(crate) tokens: usize,
    pub(crate) recall: Hits,
    /// Needles that were answered with nothing.
    pub(crate) nulls: usize,
    pub(crate) outcome: Outcome,
    pub(crate) cells: Vec<Cell>,
    /// What a person should know of this row, a line each.
    pub(crate) warnings: Vec<String>,
}

/// Recall at one length and depth. The first seven keys are those of the needle-in-a-haystack
/// notebooks, whose score runs from 1 to 10.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cell {
    model: String,
    pub(crate) context_length: usize,
    pub(crate) depth_percent: usize,
    version: u32,
    needle: String,
    model_response: String,
    score: f64,
    pub(crate) haystack: String,
    seed: u64,
    pub(crate) n: usize,
    pub(crate) hits: usize,
    pub(crate) recall: f64,
    ci_low: f64,
    ci_high: f64,
}

/// What of a cell depends on the machine.
#[derive(Debug, Serialize)]
struct TimingRecord<'a> {
    haystack: &'a str,
    context_length: usize,
    learn_seconds: f64,
    tokens_per_second: f64,
    chunks: u64,
    learn_p50_ms: f64,
    learn_p99_ms: f64,
    publish_p50_us: f64,
    publish_p99_us: f64,
    save_p50_ms: f64,
    save_p99_ms: f64,
    open_to_first_recall_ms: f64,
    recall_p50_us: f64,
    recall_p99_us: f64,
    resident_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct RunRecord {
    version: &'static str,
    git_revision: Option<String>,
    command_line: Vec<String>,
    preset: &'static str,
    config: String,
    config_blake3: String,
    parameters: usize,
    device: String,
    dtype: &'static str,
    seed: u64,
    needles: usize,
    cpu: Option<String>,
    threads: usize,
}

impl Row {
    pub(crate) fn new(
        (haystack, is_generated): (&str, bool),
        tokens: usize,
        (args, vocabulary, needles): (&Args, &Vocabulary, &[Needle]),
        outcome: Outcome,
    ) -> Self {
        let hit = |index: usize| outcome.answers[index] == Some(needles[index].answer);
        let cells = (0..=10)
            .filter_map(|tenth| {
                let inside: Vec<usize> = (0..needles.len())
                    .filter(|index| (needles[*index].depth * 10.0).round() as usize == tenth)
                    .collect();
                let first = *inside.first()?;
                let hits = Hits::of(inside.iter().map(|index| hit(*index)));
                let mut cell = Cell::new(haystack, tokens, tenth * 10, hits.hits, hits.n);
                let words: Vec<&str> = needles[first]
                    .sentence
                    .iter()
                    .map(|id| vocabulary.word(*id))
                    .collect();
                cell.model = format!("titanmem-{}", args.preset);
                cell.needle = words.join(" ");
                cell.model_response = outcome.answers[first]
                    .map_or(String::new(), |id| vocabulary.word(id).to_owned());
                cell.seed = args.seed;
                Some(cell)
            })
            .collect();
        Self {
            haystack: haystack.to_owned(),
            is_generated,
            tokens,
            recall: Hits::of((0..needles.len()).map(hit)),
            nulls: outcome
                .answers
                .iter()
                .filter(|answer| answer.is_none())
                .count(),
            outcome,
            cells,
            warnings: Vec::new(),
        }
    }

    fn write_rate(&self) -> f64 {
        self.outcome.tokens_written as f64 / self.tokens as f64
    }

    fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.outcome.timings.learning.as_secs_f64()
    }

    fn timing(&self) -> TimingRecord<'_> {
        let timings = &self.outcome.timings;
        let stats = &timings.stats;
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
        TimingRecord {
            haystack: &self.haystack,
            context_length: self.tokens,
            learn_seconds: timings.learning.as_secs_f64(),
            tokens_per_second: self.tokens_per_second(),
            chunks: stats.publish.count,
            learn_p50_ms: millis(stats.learn.p50),
            learn_p99_ms: millis(stats.learn.p99),
            publish_p50_us: micros(stats.publish.p50),
            publish_p99_us: micros(stats.publish.p99),
            save_p50_ms: millis(stats.save.p50),
            save_p99_ms: millis(stats.save.p99),
            open_to_first_recall_ms: millis(timings.open_to_recall),
            recall_p50_us: micros(timings.recall_p50),
            recall_p99_us: micros(timings.recall_p99),
            resident_bytes: timings.resident_bytes,
        }
    }
}

impl Cell {
    pub(crate) fn new(
        haystack: &str,
        context_length: usize,
        depth_percent: usize,
        hits: usize,
        n: usize,
    ) -> Self {
        let counted = Hits { n, hits };
        let (ci_low, ci_high) = counted.interval();
        Self {
            model: String::new(),
            context_length,
            depth_percent,
            version: 1,
            needle: String::new(),
            model_response: String::new(),
            score: 1.0 + 9.0 * counted.rate(),
            haystack: haystack.to_owned(),
            seed: 0,
            n,
            hits,
            recall: counted.rate(),
            ci_low,
            ci_high,
        }
    }

    /// What of a cell the heat map shows.
    fn drawn(&self) -> titans_needle::Cell {
        titans_needle::Cell {
            haystack: self.haystack.clone(),
            context_length: self.context_length,
            depth_percent: self.depth_percent,
            counted: Hits {
                n: self.n,
                hits: self.hits,
            },
        }
    }
}

/// The table, as Markdown that also reads well in a terminal.
pub(crate) fn table(rows: &[Row]) -> String {
    let header = [
        "haystack",
        "tokens",
        "recall (n, 95 %)",
        "no write",
        "shuffled keys",
        "written",
        "state",
        "file",
        "RSS",
        "tokens/s",
        "recall p50 / p99",
        "publish p99",
        "open to recall",
        "KV cache",
    ];
    let mut lines = vec![header.map(str::to_owned).to_vec()];
    for row in rows {
        let timings = &row.outcome.timings;
        let (low, high) = row.recall.interval();
        lines.push(vec![
            row.haystack.clone(),
            tokens_text(row.tokens),
            format!(
                "{:.1} % ({}, {:.1}-{:.1})",
                100.0 * row.recall.rate(),
                row.recall.n,
                100.0 * low,
                100.0 * high
            ),
            percent(row.outcome.no_write),
            percent(row.outcome.shuffled_keys),
            format!("{:.2} %", 100.0 * row.write_rate()),
            bytes(row.outcome.state_bytes as u64),
            bytes(row.outcome.file_bytes),
            timings.resident_bytes.map_or("?".to_owned(), bytes),
            format!("{:.0}", row.tokens_per_second()),
            format!(
                "{} / {}",
                duration(timings.recall_p50),
                duration(timings.recall_p99)
            ),
            duration(timings.stats.publish.p99),
            duration(timings.open_to_recall),
            bytes(KV_BYTES_PER_TOKEN * row.tokens as u64),
        ]);
    }
    markdown(&lines)
}

/// Writes all files of a run.
pub(crate) fn write_files(
    dir: &Path,
    args: &Args,
    config: &RuntimeConfig,
    rows: &[Row],
) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).map_err(Error::io("write", &path))
    };
    let cells: Vec<Cell> = rows.iter().flat_map(|row| row.cells.clone()).collect();
    write("run.json", pretty(&run_record(args, config))?)?;
    write("cells.jsonl", json_lines(&cells)?)?;
    let timings: Vec<_> = rows.iter().map(Row::timing).collect();
    write("timings.jsonl", json_lines(&timings)?)?;
    write("summary.csv", summary(rows))?;
    let drawn: Vec<titans_needle::Cell> = cells.iter().map(Cell::drawn).collect();
    let title = format!(
        "Recall of facts stated once, preset {}, seed {}",
        args.preset, args.seed
    );
    write("heatmap.svg", heatmap(&title, &drawn))
}

/// Fails early when the folder cannot be written: the run may take minutes.
pub(crate) fn check_writable(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let probe = dir.join("run.json");
    fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&probe)
        .map_err(Error::io("write", &probe))?;
    Ok(())
}

fn summary(rows: &[Row]) -> String {
    let mut csv = "haystack,tokens,n,hits,recall,ci_low,ci_high,nulls,no_write_hits,shuffled_keys_hits,tokens_written,state_bytes,file_bytes\n".to_owned();
    for row in rows {
        let (low, high) = row.recall.interval();
        let _ = writeln!(
            csv,
            "{},{},{},{},{},{low},{high},{},{},{},{},{},{}",
            row.haystack.replace([',', '"', '\n'], "_"),
            row.tokens,
            row.recall.n,
            row.recall.hits,
            row.recall.rate(),
            row.nulls,
            row.outcome.no_write.hits,
            row.outcome.shuffled_keys.hits,
            row.outcome.tokens_written,
            row.outcome.state_bytes,
            row.outcome.file_bytes,
        );
    }
    csv
}

fn run_record(args: &Args, config: &RuntimeConfig) -> RunRecord {
    let described = format!("{config:?}");
    RunRecord {
        version: env!("CARGO_PKG_VERSION"),
        git_revision: git_revision(),
        command_line: std::env::args().collect(),
        preset: args.preset.name(),
        config_blake3: blake3::hash(described.as_bytes()).to_hex().to_string(),
        config: described,
        parameters: config.memory.parameters(),
        device: args.device.to_string(),
        dtype: "f32",
        seed: args.seed,
        needles: args.needles,
        cpu: cpu_model(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

fn git_revision() -> Option<String> {
    let output = Command::new("git")
        .args(["rev-parse", "HEAD"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn cpu_model() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split(':').nth(1)?.trim().to_owned())
}

fn json_lines<T: Serialize>(records: &[T]) -> Result<String, Error> {
    let mut text = String::new();
    for record in records {
        text.push_str(&serde_json::to_string(record).map_err(|error| error.to_string())?);
        text.push('\n');
    }
    Ok(text)
}

fn pretty(record: &impl Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(record).map_err(|error| error.to_string())?;
    Ok(text + "\n")
}

fn percent(hits: Hits) -> String {
    match hits.n {
        0 => "-".to_owned(),
        _ => format!("{:.1} %", 100.0 * hits.rate()),
    }
}

fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return match unit {
                "B" => format!("{count} B"),
                _ => format!("{value:.1} {unit}"),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

fn duration(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    if micros < 1e3 {
        format!("{micros:.1} us")
    } else if micros < 1e6 {
        format!("{:.1} ms", micros / 1e3)
    } else {
        format!("{:.1} s", micros / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(bytes(17), "17 B");
        assert_eq!(bytes(2 << 20), "2.0 MiB");
        assert_eq!(bytes(16 << 30), "16.0 GiB");
        assert_eq!(duration(Duration::from_nanos(1500)), "1.5 us");
        assert_eq!(duration(Duration::from_millis(20)), "20.0 ms");
        assert_eq!(percent(Hits::default()), "-");
    }
}
