//! `titanmem inspect`: what one file says of itself, and whether all of it is whole.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use titans_store::{
    ChoiceRecord, FileSummary, Limits, Precision, SectionSummary, UserKey, decode_with,
    inspect_with,
};

use crate::date;
use crate::outcome::{Format, Outcome, to_json};

pub(crate) fn run(path: &Path, key: Option<&UserKey>, format: Format) -> Outcome {
    let limits = Limits::default();
    let bytes = match read(path, &limits) {
        Ok(bytes) => bytes,
        Err(error) => return Outcome::error(format!("cannot read {}: {error}", path.display())),
    };
    let in_file = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let summary = match inspect_with(&bytes, key) {
        Ok(summary) => summary,
        Err(error) => return Outcome::error(in_file(&error)),
    };
    let text = match format {
        Format::Text => describe(&summary),
        Format::Json => match to_json(&summary) {
            Ok(text) => text,
            Err(error) => return Outcome::error(in_file(&error)),
        },
    };
    // The summary unpacks nothing; what lies inside the sections is checked here.
    let damage = decode_with(&bytes, &limits, key).err();
    Outcome {
        text,
        errors: damage.iter().map(|error| in_file(error)).collect(),
    }
}

/// One byte past the limit is enough for the reader to refuse the file.
pub(crate) fn read(path: &Path, limits: &Limits) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = limits.max_file_bytes.saturating_add(1);
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn describe(summary: &FileSummary) -> String {
    let (major, minor) = summary.version;
    let parent = summary
        .parent_sequence
        .map_or("none".to_owned(), |parent| parent.to_string());
    let model = &summary.model;
    let choices = [
        &model.architecture,
        &model.attentional_bias,
        &model.retention_gate,
        &model.learning_algorithm,
    ];
    let choices = choices.map(choice).join(", ");
    let mut lines = vec![
        (
            "format",
            format!("{major}.{minor}, written by {}", summary.writer),
        ),
        ("shard", summary.shard.clone()),
        (
            "generation",
            format!(
                "{}, parent {parent}, writer epoch {}",
                summary.sequence, summary.writer_epoch
            ),
        ),
        ("model", format!("{}: {choices}", model.preset)),
        ("weights", summary.param_count.to_string()),
        (
            "tokens",
            format!(
                "{} seen, {} written, last chunk {}",
                summary.tokens_seen, summary.tokens_written, summary.last_chunk_id
            ),
        ),
        ("created", date::describe(summary.created_unix)),
        ("file", file(summary)),
        ("digest", summary.digest.clone()),
    ];
    if let Some(recall) = &summary.recall {
        let text = format!("{} of {} ({})", recall.score, recall.n, recall.probe_id);
        lines.push(("recall", text));
    }
    if let Some(left) = summary.rolled_back_from {
        lines.push(("rollback", format!("from generation {left}")));
    }
    let mut text = String::new();
    for (name, value) in lines {
        let _ = writeln!(text, "{name:<11}{value}");
    }
    let _ = writeln!(
        text,
        "{:<11}{:<8}{:<8}{:>12}{:>12}  tensor",
        "section", "codec", "values", "stored", "raw"
    );
    for section in &summary.sections {
        let _ = writeln!(text, "{}", row(section));
    }
    text
}

fn file(summary: &FileSummary) -> String {
    let precision = match summary.precision {
        Precision::Exact => "exact",
        Precision::ExactWeights => "exact but for momenta",
        Precision::Compact => "compact",
        _ => "of another precision",
    };
    let encrypted = match summary.encrypted {
        true => ", encrypted",
        false => "",
    };
    format!("{} bytes, {precision}{encrypted}", summary.file_bytes)
}

fn choice(choice: &ChoiceRecord) -> String {
    let params = choice
        .params
        .iter()
        .map(|(name, &value)| format!("{name}={}", number(value)));
    let params = params.collect::<Vec<_>>().join(" ");
    match params.is_empty() {
        true => choice.name.clone(),
        false => format!("{} ({params})", choice.name),
    }
}

/// Most numbers were 32 bits wide once. Those are printed as such: 0.8, not the number of 64
/// bits that is closest to it.
pub(crate) fn number(value: f64) -> String {
    let narrow = value as f32;
    match f64::from(narrow) == value {
        true => narrow.to_string(),
        false => value.to_string(),
    }
}

fn row(section: &SectionSummary) -> String {
    let tensor = section.tensor.as_ref().map(|tensor| {
        let (role, name, shape) = (tensor.role, &tensor.name, &tensor.shape);
        format!("  {role} {name:?} {shape:?}")
    });
    format!(
        "{:<11}{:<8}{:<8}{:>12}{:>12}{}",
        section.kind,
        section.codec,
        section.element,
        section.stored_bytes,
        section.raw_bytes,
        tensor.unwrap_or_default()
    )
}
