//! The main job: hide facts in a long text, learn it, save it, reopen it, recall them.

mod args;
mod features;
mod haystack;
mod needles;
mod report;
mod run;
mod text;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use titanmem::{ObserveError, OpenError, RecallError, RuntimeConfig, WaitError};
use titans_needle::tokens_text;

use crate::args::Args;
use crate::features::Features;
use crate::haystack::Haystack;
use crate::report::Row;
use crate::text::Vocabulary;

fn main() -> ExitCode {
    let arguments = std::env::args_os();
    ExitCode::from(command(arguments, &mut io::stdout(), &mut io::stderr()))
}

/// Runs the command and returns its exit code: 0, 1 for an error, 2 for wrong usage.
fn command(
    arguments: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(usage) => {
            if usage.use_stderr() {
                let _ = writeln!(err, "needle: {}", one_line(&usage));
            } else if let Err(error) = print(out, &usage.render().to_string()) {
                let _ = writeln!(err, "needle: {error}");
                return 1;
            }
            return u8::try_from(usage.exit_code()).unwrap_or(2);
        }
    };
    match benchmark(&args, out, err) {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(err, "needle: {error}");
            1
        }
    }
}

/// What is wrong with the command line, without the hints below it.
fn one_line(usage: &clap::Error) -> String {
    let text = usage.render().to_string();
    let first = text.lines().next().unwrap_or_default();
    first.trim_start_matches("error: ").to_owned()
}

fn benchmark(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Error> {
    if let Some(dir) = &args.out {
        report::check_writable(dir)?;
    }
    let mut config = RuntimeConfig::preset(args.preset);
    config.device = args.device;
    config.chunk_tokens = args.chunk;
    config.queue_tokens = config.queue_tokens.max(2 * args.chunk);

    let temporary = tempfile::tempdir().map_err(Error::io("create", "a temporary folder"))?;
    let memories = args.memories.as_deref().unwrap_or(temporary.path());
    let mut rows = Vec::new();
    for source in sources(args)? {
        for tokens in args.lengths() {
            let row = measure(args, &config, &source, tokens, memories)?;
            for line in &row.warnings {
                let _ = writeln!(err, "needle: {line}");
            }
            rows.push(row);
        }
    }
    let table = report::table(&rows);
    let printed = print(out, &format!("{table}{}\n", notes(args, &config, &rows)));
    // The files are worth having even where nothing can be printed.
    if let Some(dir) = &args.out {
        report::write_files(dir, args, &config, &rows)?;
    }
    printed?;
    check_bar(args, &rows)
}

/// Prints for a reader, who may have seen enough and left; that is no failure of ours.
fn print(out: &mut dyn Write, text: &str) -> Result<(), Error> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("write to", "standard output")(error))
        }
        _ => Ok(()),
    }
}

/// Where a text comes from.
enum Source {
    Noise,
    Zipf,
    Text { name: String, text: String },
}

impl Source {
    fn name(&self) -> &str {
        match self {
            Self::Noise => "noise",
            Self::Zipf => "zipf",
            Self::Text { name, .. } => name,
        }
    }
}

fn sources(args: &Args) -> Result<Vec<Source>, Error> {
    if args.haystack.is_empty() {
        return Ok(vec![Source::Noise, Source::Zipf]);
    }
    let mut text = String::new();
    for path in &args.haystack {
        text.push_str(&read_text(path)?);
        text.push('\n');
    }
    Ok(vec![Source::Text {
        name: text_name(&args.haystack),
        text,
    }])
}

/// The first file's name, and how many follow.
fn text_name(paths: &[PathBuf]) -> String {
    let stem = |path: &PathBuf| {
        path.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let first = paths.first().map(stem).unwrap_or_default();
    match paths.len() {
        0 | 1 => first,
        count => format!("{first}+{}", count - 1),
    }
}

fn read_text(path: &Path) -> Result<String, Error> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::from(format!("{} is not UTF-8 at byte {at}", path.display()))
    })
}

fn measure(
    args: &Args,
    config: &RuntimeConfig,
    source: &Source,
    tokens: usize,
    memories: &Path,
) -> Result<Row, Error> {
    let mut vocabulary = Vocabulary::default();
    let needles = needles::make(&mut vocabulary, args.needles, args.seed);
    let mut haystack = match source {
        Source::Noise => Haystack::noise(&mut vocabulary),
        Source::Zipf => Haystack::zipf(&mut vocabulary, args.seed),
        Source::Text { name, text } => Haystack::text(&mut vocabulary, text)
            .ok_or_else(|| Error::from(format!("{name} has no words")))?,
    };
    let is_generated = !matches!(source, Source::Text { .. });
    let mut warnings = Vec::new();
    if !is_generated && tokens > haystack.tokens() {
        warnings.push(format!(
            "{} has {} tokens, so it is repeated to {}",
            source.name(),
            haystack.tokens(),
            tokens_text(tokens)
        ));
    }
    let mut features = Features::new(config.memory.key_dim, config.memory.value_dim, args.seed);
    features.learn_words(&vocabulary);

    let dir = memories.join(format!("{}-{tokens}", source.name()));
    if fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::from(format!(
            "{} is not empty; a benchmark starts from nothing",
            dir.display()
        )));
    }
    // Hidden by itself where standard error is not a terminal.
    let progress = ProgressBar::new(tokens as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {percent} % {eta}") {
        progress.set_style(style);
    }
    progress.set_message(format!("{} {}", source.name(), tokens_text(tokens)));
    let outcome = run::run(
        &dir,
        config,
        &features,
        (&mut haystack, &needles),
        (tokens, args.damage_newest),
        &progress,
    )?;
    progress.finish_and_clear();
    warnings.extend(
        outcome
            .skipped
            .iter()
            .map(|line| format!("reopening passed over a damaged file: {line}")),
    );
    let described = (args, &vocabulary, needles.as_slice());
    Ok(Row {
        warnings,
        ..Row::new((source.name(), is_generated), tokens, described, outcome)
    })
}

fn notes(args: &Args, config: &RuntimeConfig, rows: &[Row]) -> String {
    let mut notes = format!(
        "preset {}, {} parameters, seed {}, {}; {} facts, each stated once, asked in their own words; \
         the answer is the nearest of all words of the text. Intervals are Wilson's. \
         KV cache: what 8 layers of 4 KV heads of 64 in bf16 would need, computed.",
        args.preset,
        config.memory.parameters(),
        args.seed,
        args.device,
        args.needles,
    );
    if rows.iter().any(|row| !row.is_generated) {
        notes.push_str(
            "\nOn real text nearly every context is new, so nearly every token surprises and is \
             written. With fixed features nothing has learned what is worth keeping, so old \
             facts are written over: the recall above is low, and a trained write gate is what \
             is missing.",
        );
    }
    notes
}

fn check_bar(args: &Args, rows: &[Row]) -> Result<(), Error> {
    let Some(bar) = args.min_recall else {
        return Ok(());
    };
    let missed: Vec<String> = rows
        .iter()
        .filter(|row| row.is_generated && 100.0 * row.recall.rate() < bar)
        .map(|row| {
            format!(
                "{} {}: {:.1} %",
                row.haystack,
                tokens_text(row.tokens),
                100.0 * row.recall.rate()
            )
        })
        .collect();
    match missed.is_empty() {
        true => Ok(()),
        false => Err(Error::from(format!(
            "recall is under {bar} %: {}",
            missed.join(", ")
        ))),
    }
}

/// What goes wrong, as one line.
#[derive(Debug)]
struct Error(String);

impl Error {
    /// Wraps an error of the operating system about `path`.
    fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |error| Self(format!("cannot {action} {}: {error}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Error {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// What the runtime refuses, whichever call it was.
macro_rules! from_the_runtime {
    ($($error:ty),+) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self(error.to_string())
            }
        }
    )+};
}

from_the_runtime!(OpenError, ObserveError, RecallError, WaitError);
