//! `titanmem verify`: every generation of every memory below a folder.

use std::path::Path;

use serde::Serialize;
use titans_store::{FileVerdict, Limits, UserKey, verify_dir_with};

use crate::folder::memories_below;
use crate::outcome::{Format, Outcome, to_json};

#[derive(Debug, Default, Serialize)]
struct Report {
    folders: usize,
    files: usize,
    damaged: usize,
    /// Journals whose last append was cut short, by a crash or by damage to that record.
    cut: usize,
    verdicts: Vec<Verdict>,
}

#[derive(Debug, Serialize)]
struct Verdict {
    path: String,
    generation: u64,
    file_bytes: Option<u64>,
    /// Absent when the file is whole.
    problem: Option<String>,
    /// How the last append of a journal was cut short.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<String>,
}

pub(crate) fn run(dir: &Path, key: Option<&UserKey>, format: Format) -> Outcome {
    let mut errors = Vec::new();
    let folders = memories_below(dir, &mut errors);
    if folders.is_empty() && errors.is_empty() {
        return Outcome::error(format!("there is no memory in {}", dir.display()));
    }
    let mut report = Report::default();
    for folder in folders {
        match verify_dir_with(&folder, &Limits::default(), key) {
            Ok(verdicts) => report.add(verdicts, &mut errors),
            Err(error) => errors.push(error.to_string()),
        }
    }
    let text = match format {
        Format::Text => report.to_text(),
        Format::Json => to_json(&report).unwrap_or_else(|error| {
            errors.push(error.to_string());
            String::new()
        }),
    };
    Outcome { text, errors }
}

impl Report {
    fn add(&mut self, verdicts: Vec<FileVerdict>, errors: &mut Vec<String>) {
        self.folders += 1;
        self.files += verdicts.len();
        for verdict in verdicts {
            let path = verdict.path.display().to_string();
            let problem = verdict.problem.map(|error| error.cause().to_string());
            if let Some(problem) = &problem {
                self.damaged += 1;
                errors.push(format!("{path}: {problem}"));
            }
            let cut = verdict.torn.map(|error| error.to_string());
            self.cut += usize::from(cut.is_some());
            self.verdicts.push(Verdict {
                path,
                generation: verdict.generation.number(),
                file_bytes: verdict.file_bytes,
                problem,
                cut,
            });
        }
    }

    fn to_text(&self) -> String {
        let (folders, files, damaged) = (self.folders, self.files, self.damaged);
        let memories = if folders == 1 { "memory" } else { "memories" };
        let cut = match self.cut {
            0 => String::new(),
            cut => format!(", {cut} with a cut tail"),
        };
        format!("{folders} {memories}, {files} files, {damaged} damaged{cut}\n")
    }
}
