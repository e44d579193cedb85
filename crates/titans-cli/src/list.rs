//! `titanmem list`: the generations of one memory.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;
use titans_store::{FileVerdict, Limits, UserKey, inspect_with, verify_dir_with};

use crate::outcome::{Failure, Format, Outcome};

#[derive(Debug, Serialize)]
struct Listing {
    generations: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    generation: u64,
    /// `file`, `pinned` or `journal`.
    kept_in: &'static str,
    file: String,
    /// Bytes of the file; of a whole journal for its records.
    file_bytes: Option<u64>,
    last_chunk_id: Option<u64>,
    created_unix: Option<u64>,
    recall: Option<f64>,
    rolled_back_from: Option<u64>,
    /// How the last append of the journal was cut short.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<String>,
    problem: Option<String>,
}

pub(crate) fn run(dir: &Path, key: Option<&UserKey>, format: Format) -> Result<Outcome, Failure> {
    let verdicts = verify_dir_with(dir, &Limits::default(), key)?;
    if verdicts.is_empty() {
        return Err(Failure(format!("there is no memory in {}", dir.display())));
    }
    let rows = verdicts.into_iter().flat_map(|verdict| rows(&verdict, key));
    let mut listing = Listing {
        generations: rows.collect(),
    };
    listing.generations.sort_by_key(|row| row.generation);
    let errors = listing.generations.iter().filter_map(|row| {
        let problem = row.problem.as_ref()?;
        Some(format!("{}: {problem}", row.file))
    });
    let errors: Vec<_> = errors.collect();
    let mut outcome = Outcome::of(&listing, format, in_words);
    outcome.errors.extend(errors);
    Ok(outcome)
}

fn rows(verdict: &FileVerdict, key: Option<&UserKey>) -> Vec<Row> {
    let name = verdict
        .path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let row = |generation, kept_in| Row {
        generation,
        kept_in,
        file: name.clone().into_owned(),
        file_bytes: verdict.file_bytes,
        last_chunk_id: None,
        created_unix: None,
        recall: None,
        rolled_back_from: None,
        cut: None,
        problem: None,
    };
    let problem = verdict
        .problem
        .as_ref()
        .map(|error| error.cause().to_string());
    let mut rows: Vec<Row> = match &verdict.records {
        Some(records) => {
            let records = records.iter().map(|generation| generation.number());
            records
                .map(|generation| row(generation, "journal"))
                .collect()
        }
        None => {
            let kept_in = match name.starts_with("lkg-") {
                true => "pinned",
                false => "file",
            };
            let mut row = row(verdict.generation.number(), kept_in);
            let bytes = std::fs::read(&verdict.path).unwrap_or_default();
            if let Ok(summary) = inspect_with(&bytes, key) {
                row.last_chunk_id = Some(summary.last_chunk_id);
                row.created_unix = Some(summary.created_unix);
                row.recall = summary.recall.map(|recall| recall.score);
                row.rolled_back_from = summary.rolled_back_from;
            }
            vec![row]
        }
    };
    if let (Some(torn), Some(last)) = (&verdict.torn, rows.last_mut()) {
        last.cut = Some(torn.to_string());
    }
    if problem.is_some() {
        if rows.is_empty() {
            rows.push(row(verdict.generation.number(), "journal"));
        }
        if let Some(last) = rows.last_mut() {
            last.problem = problem;
        }
    }
    rows
}

fn in_words(listing: &Listing) -> String {
    let mut text = format!(
        "{:>10}  {:<8}{:>12}{:>10}  recall  file\n",
        "generation", "kept in", "bytes", "chunk"
    );
    for row in &listing.generations {
        let number = |number: Option<u64>| number.map_or("-".to_owned(), |n| n.to_string());
        let recall = row
            .recall
            .map_or("-".to_owned(), |score| format!("{score:.3}"));
        let _ = write!(
            text,
            "{:>10}  {:<8}{:>12}{:>10}  {recall:<6}  {}",
            row.generation,
            row.kept_in,
            number(row.file_bytes),
            number(row.last_chunk_id),
            row.file
        );
        if let Some(left) = row.rolled_back_from {
            let _ = write!(text, "  (rolled back from {left})");
        }
        if row.cut.is_some() {
            let _ = write!(text, "  (something behind it was cut short)");
        }
        if row.problem.is_some() {
            let _ = write!(text, "  DAMAGED");
        }
        text.push('\n');
    }
    text
}
