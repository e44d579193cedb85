//! What is printed and what is written to files.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;
use titans_lm::Lexicon;
use titans_needle::{Cell, Hits, heatmap, markdown, tokens_text};

use crate::args::Args;
use crate::chart::costs;
use crate::row::Row;

/// One question, for whoever wants to count again.
#[derive(Debug, Serialize)]
struct AnswerRecord<'a> {
    model: &'a str,
    task: &'a str,
    haystack: &'a str,
    tokens: usize,
    text: usize,
    depth: f64,
    key: &'a str,
    question: &'a str,
    expected: String,
    given: String,
    is_right: bool,
    first_token_ms: f64,
}

#[derive(Debug, Serialize)]
struct RunRecord {
    version: &'static str,
    command_line: Vec<String>,
    models: Vec<String>,
    seed: u64,
    threads: usize,
    command: &'static str,
}

const HEADER: [&str; 13] = [
    "model",
    "task",
    "haystack",
    "tokens",
    "recall (n, 95 %)",
    "first token p50 / p99",
    "per token",
    "state",
    "RSS",
    "tokens/s",
    "values written",
    "write rate",
    "false writes per 1M",
];

/// The table, as Markdown that also reads well in a terminal.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut lines = vec![HEADER.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(cells_of));
    markdown(&lines)
}

fn cells_of(row: &Row) -> Vec<String> {
    let recall = row.recall();
    let (low, high) = recall.interval();
    let milliseconds = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.1}"));
    let tokens = row.sum(|text| text.tokens).max(1) as f64;
    let values = row.sum(|text| text.values);
    let written = row.sum(|text| text.values_written);
    let falsely = row.sum(|text| text.false_writes);
    let has_run = !row.texts.is_empty();
    let when_run = |text: String| if has_run { text } else { "-".to_owned() };
    vec![
        row.model.clone(),
        row.task.to_owned(),
        row.haystack.clone(),
        tokens_text(row.tokens),
        match (has_run, row.computed_bytes) {
            (false, Some(_)) => "not run (computed)".to_owned(),
            (false, None) => "not run".to_owned(),
            (true, _) => format!(
                "{:.1} % ({}, {:.1}-{:.1})",
                100.0 * recall.rate(),
                recall.n,
                100.0 * low,
                100.0 * high
            ),
        },
        when_run(format!(
            "{} / {} ms",
            milliseconds(row.first_token_ms(0.5)),
            milliseconds(row.first_token_ms(0.99))
        )),
        when_run(format!("{} ms", milliseconds(row.per_token_ms()))),
        row.state_bytes().to_string(),
        (row.texts
            .iter()
            .filter_map(|text| text.resident_bytes)
            .max())
        .map_or("-".to_owned(), |bytes| format!("{} MiB", bytes >> 20)),
        row.tokens_per_second()
            .map_or("-".to_owned(), |rate| format!("{rate:.0}")),
        when_run(format!("{written} of {values}")),
        when_run(format!(
            "{:.5} %",
            100.0 * (written + falsely) as f64 / tokens
        )),
        when_run(format!("{:.2}", 1e6 * falsely as f64 / tokens)),
    ]
}

/// Writes all files of a run.
pub(crate) fn write_files(
    dir: &Path,
    args: &Args,
    rows: &[Row],
    lexicon: &Lexicon,
) -> Result<(), String> {
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
    };
    let record = RunRecord {
        version: env!("CARGO_PKG_VERSION"),
        command_line: std::env::args().collect(),
        models: args.wiring.clone(),
        seed: args.seed,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        command: "needle_lm",
    };
    let record = serde_json::to_string_pretty(&record).map_err(|error| error.to_string())?;
    write("run.json", record + "\n")?;
    write("answers.jsonl", answers(rows, lexicon)?)?;
    write("summary.csv", summary(rows))?;
    write("false_writes.txt", false_writes(rows, lexicon))?;
    write(
        "heatmap.svg",
        heatmap("Recall by length and depth", &cells(rows)),
    )?;
    write("costs.svg", costs(rows))
}

fn answers(rows: &[Row], lexicon: &Lexicon) -> Result<String, String> {
    let mut lines = String::new();
    for row in rows {
        for (text, measured) in row.texts.iter().enumerate() {
            for answer in &measured.answers {
                let record = AnswerRecord {
                    model: &row.model,
                    task: row.task,
                    haystack: &row.haystack,
                    tokens: row.tokens,
                    text,
                    depth: answer.depth,
                    key: &answer.key,
                    question: &answer.question,
                    expected: lexicon.text(&answer.expected),
                    given: lexicon.text(&answer.given),
                    is_right: answer.is_right(),
                    first_token_ms: answer.first_token.as_secs_f64() * 1e3,
                };
                lines += &serde_json::to_string(&record).map_err(|error| error.to_string())?;
                lines.push('\n');
            }
        }
    }
    Ok(lines)
}

/// What was written and is no value, the last token of each line, with what stands before.
fn false_writes(rows: &[Row], lexicon: &Lexicon) -> String {
    let mut lines = String::new();
    for row in rows {
        for context in row.texts.iter().flat_map(|text| &text.falsely_written) {
            let words: Vec<String> = context.iter().map(|t| lexicon.text(&[*t])).collect();
            let text = words.join(" ").replace('\n', "|");
            let length = tokens_text(row.tokens);
            let _ = writeln!(lines, "{}\t{}\t{length}\t{text}", row.model, row.task);
        }
    }
    lines
}

fn summary(rows: &[Row]) -> String {
    let mut csv = "model,task,haystack,tokens,n,hits,recall,ci_low,ci_high,first_token_p50_ms,\
                   first_token_p99_ms,per_token_p50_ms,state_bytes,tokens_per_second,values,\
                   values_written,false_writes,tokens_read\n"
        .to_owned();
    for row in rows {
        let recall = row.recall();
        let (low, high) = recall.interval();
        let number = |value: Option<f64>| value.map_or(String::new(), |x| format!("{x:.3}"));
        let _ = writeln!(
            csv,
            "\"{}\",{},{},{},{},{},{:.5},{low:.5},{high:.5},{},{},{},{},{},{},{},{},{}",
            row.model,
            row.task,
            row.haystack.replace([',', '"', '\n'], "_"),
            row.tokens,
            recall.n,
            recall.hits,
            recall.rate(),
            number(row.first_token_ms(0.5)),
            number(row.first_token_ms(0.99)),
            number(row.per_token_ms()),
            row.state_bytes(),
            number(row.tokens_per_second()),
            row.sum(|text| text.values),
            row.sum(|text| text.values_written),
            row.sum(|text| text.false_writes),
            row.sum(|text| text.tokens),
        );
    }
    csv
}

/// Recall of the models without a control's name, by tenth of the depth.
fn cells(rows: &[Row]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for row in rows
        .iter()
        .filter(|row| !row.model.contains(' ') && !row.texts.is_empty())
    {
        let panel = format!("{} {}", row.model, row.task);
        for tenth in 0..=10 {
            let answers = row.texts.iter().flat_map(|text| &text.answers);
            let inside = answers.filter(|answer| (answer.depth * 10.0).round() as usize == tenth);
            let hits = Hits::of(inside.map(|answer| answer.is_right()));
            if hits.n > 0 {
                cells.push(Cell {
                    haystack: panel.clone(),
                    context_length: row.tokens,
                    depth_percent: tenth * 10,
                    counted: hits,
                });
            }
        }
    }
    cells
}
