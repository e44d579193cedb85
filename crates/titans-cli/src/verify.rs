//! `titanmem verify`: every generation of every memory below a folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use titans_store::{FileVerdict, Generation, Limits, UserKey, verify_dir_with};

use crate::outcome::{Format, Outcome, to_json};

/// Folders below the one given. Memories lie two or three deep; deeper is a mistake.
const MAX_DEPTH: usize = 8;
/// The sub-folder in which a memory keeps files that are known to be damaged, and the one in
/// which a repair of the file system leaves things, which only the administrator may read.
const SKIPPED: [&str; 2] = ["quarantine", "lost+found"];

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

/// The folders of memories in and below a folder, in the order of their names.
pub(crate) fn memories_below(dir: &Path, errors: &mut Vec<String>) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    find_memories(dir, MAX_DEPTH, &mut folders, errors);
    folders
}

/// Collects the folders that hold a lock or a generation, in the order of their names. What
/// cannot be listed is told, and the rest is looked at.
fn find_memories(dir: &Path, depth: usize, found: &mut Vec<PathBuf>, errors: &mut Vec<String>) {
    let mut is_memory = false;
    let mut below = Vec::new();
    let mut look = || {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let file_type = entry.file_type()?;
            if file_type.is_dir() {
                below.extend((!SKIPPED.contains(&&*name)).then(|| entry.path()));
            } else if file_type.is_file() {
                is_memory |= name == "LOCK" || Generation::from_file_name(&name).is_some();
            }
        }
        Ok(())
    };
    let looked: io::Result<()> = look();
    if let Err(error) = looked {
        errors.push(format!("cannot list {}: {error}", dir.display()));
    }
    if is_memory {
        found.push(dir.to_owned());
    }
    if depth > 0 {
        below.sort();
        for dir in below {
            find_memories(&dir, depth - 1, found, errors);
        }
    }
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
