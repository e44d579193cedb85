//! The `titanmem` command: looks into memories on disk and says whether they are whole.
#![forbid(unsafe_code)]

mod inspect;
mod verify;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Looks into .titanmem memories and says whether they are whole.
///
/// Exit code: 0 when all is well, 1 when something is damaged or cannot be read, 2 for wrong
/// usage.
#[derive(Debug, Parser)]
#[command(name = "titanmem", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Describes one file and checks all of it. Never prints a value.
    #[command(
        after_help = "Example:\n  titanmem inspect memories/7f3a/g-00000000000000000042.titanmem"
    )]
    Inspect {
        /// The file.
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Checks every generation of a memory, or of all memories below a folder.
    #[command(after_help = "Example:\n  titanmem verify memories --json")]
    Verify {
        /// The folder of one memory, or a folder with memories below it.
        dir: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What a command leaves: text for standard output, and lines for standard error.
#[derive(Debug, Default)]
struct Outcome {
    text: String,
    /// One line each; none means that all is well.
    errors: Vec<String>,
}

impl Outcome {
    fn error(line: impl ToString) -> Self {
        Self {
            text: String::new(),
            errors: vec![line.to_string()],
        }
    }
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Inspect { file, json } => inspect::run(&file, Format::from_flag(json)),
        Command::Verify { dir, json } => verify::run(&dir, Format::from_flag(json)),
    };
    // A reader that has seen enough closes the pipe; that is no failure of ours.
    let _ = io::stdout().write_all(outcome.text.as_bytes());
    for line in &outcome.errors {
        let _ = writeln!(io::stderr(), "titanmem: {line}");
    }
    match outcome.errors.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

impl Format {
    fn from_flag(json: bool) -> Self {
        match json {
            true => Self::Json,
            false => Self::Text,
        }
    }
}

/// `value` as indented JSON and a line end.
fn to_json(value: &impl serde::Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(value).map(|text| text + "\n")
}
