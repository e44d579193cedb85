//! The `titanmem` command: looks into memories on disk, checks, compares, backs up, restores
//! and forgets them.
#![deny(unsafe_code)]

mod backup;
mod config;
mod date;
mod diff;
mod folder;
mod forget;
mod inspect;
mod list;
mod outcome;
mod output;
mod rollback;
mod users;
mod verify;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use titans_store::{FolderMode, UserKey};

use crate::outcome::{Failure, Format, Outcome};

/// Looks into .titanmem memories, checks, compares, backs up, restores and forgets them.
///
/// Exit code: 0 when all is well, 1 when something is damaged or cannot be done, 2 for wrong
/// usage.
#[derive(Debug, Parser)]
#[command(name = "titanmem", version, arg_required_else_help = true, after_help = FIRST_STEPS)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What people come for.
const FIRST_STEPS: &str = "\
Is everything whole?         titanmem verify memories
Whose memories are there?    titanmem users memories
What is in this memory?      titanmem list memories/users/7f/3a/...
Put it in a safe place:      titanmem backup memories/users/7f/3a/... 7f3a.tar
Get it back:                 titanmem restore 7f3a.tar memories/users/7f/3a/...
Forget this user:            titanmem forget memories/users/7f/3a/... --yes";

#[derive(Debug, Subcommand)]
enum Command {
    /// Describes one file and checks all of it. Never prints a value.
    #[command(
        after_help = "Examples:\n  titanmem inspect memories/7f3a/g-00000000000000000042.titanmem\n  titanmem inspect --config memories > titanmem.toml"
    )]
    Inspect {
        /// The file; with --config also a folder with memories in it or below it.
        file: PathBuf,
        /// Print the configuration of the memory instead, as TOML that a runtime reads.
        #[arg(long)]
        config: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Checks every generation of a memory, or of all memories below a folder.
    #[command(after_help = "Example:\n  titanmem verify memories --json")]
    Verify {
        /// The folder of one memory, or a folder with memories below it.
        dir: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Lists the memories below a folder: whose, how large, and when they were saved last.
    #[command(after_help = "Example:\n  titanmem users memories --json")]
    Users {
        /// A folder with memories below it.
        dir: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Lists the generations of one memory, oldest first.
    #[command(after_help = "Example:\n  titanmem list memories/7f3a")]
    List {
        /// The folder of the memory.
        dir: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Says how far two generations are apart, tensor by tensor. Never prints a value.
    #[command(
        after_help = "Example:\n  titanmem diff memories/7f3a/g-00000000000000000041.titanmem memories/7f3a/g-00000000000000000042.titanmem"
    )]
    Diff {
        /// The earlier file.
        a: PathBuf,
        /// The later file.
        b: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Makes an older generation the newest again, as a new generation.
    #[command(after_help = "Example:\n  titanmem rollback memories/7f3a --to 41")]
    Rollback {
        /// The folder of the memory. No other program may have it open.
        dir: PathBuf,
        /// The generation to go back to; the pinned one if absent.
        #[arg(long)]
        to: Option<u64>,
        #[command(flatten)]
        sharing: Sharing,
        #[command(flatten)]
        common: Common,
    },
    /// Writes memory, frozen model and configuration to one verified tar file.
    #[command(
        after_help = "Example:\n  titanmem backup memories/7f3a 7f3a.tar --model model.safetensors --config host.json"
    )]
    Backup {
        /// The folder of the memory. A writer may have it open.
        dir: PathBuf,
        /// The tar file, which must not exist.
        target: PathBuf,
        /// The frozen model to put into the backup.
        #[arg(long, conflicts_with = "reference")]
        model: Option<PathBuf>,
        /// The frozen model to name in the backup, by digest and length only.
        #[arg(long)]
        reference: Option<PathBuf>,
        /// A configuration to put into the backup.
        #[arg(long)]
        config: Option<PathBuf>,
        /// The generation to back up; the newest if absent.
        #[arg(long)]
        generation: Option<u64>,
        #[command(flatten)]
        sharing: Sharing,
        #[command(flatten)]
        common: Common,
    },
    /// Verifies a backup and puts its memory into a folder that holds none.
    #[command(
        after_help = "Example:\n  titanmem restore 7f3a.tar memories/7f3a --model model.safetensors"
    )]
    Restore {
        /// The tar file.
        backup: PathBuf,
        /// The folder to restore into. Without it, the backup is only verified.
        dir: Option<PathBuf>,
        /// Where to write the model of the backup. Must not exist.
        #[arg(long)]
        model: Option<PathBuf>,
        /// Where to write the configuration of the backup. Must not exist.
        #[arg(long)]
        config: Option<PathBuf>,
        #[command(flatten)]
        sharing: Sharing,
        #[command(flatten)]
        common: Common,
    },
    /// Removes every trace of a memory and its known backups, and says what remains.
    #[command(after_help = "Example:\n  titanmem forget memories/7f3a --yes")]
    Forget {
        /// The folder of the memory. No other program may have it open.
        dir: PathBuf,
        /// Whose memory it is, as 32 hexadecimal digits; needed when no file tells.
        #[arg(long)]
        shard: Option<String>,
        /// There is no way back.
        #[arg(long, required = true)]
        yes: bool,
        #[command(flatten)]
        common: Common,
    },
}

/// Who besides the owner may use a folder.
#[derive(Debug, Args)]
struct Sharing {
    /// Accept a folder that its group may write, and share new files with the group.
    #[arg(long)]
    group: bool,
}

impl Sharing {
    fn mode(&self) -> FolderMode {
        match self.group {
            true => FolderMode::Group,
            false => FolderMode::OwnerOnly,
        }
    }
}

/// What every command understands.
#[derive(Debug, Args)]
struct Common {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The key file of an encrypted memory. `forget` destroys it.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl Common {
    fn format(&self) -> Format {
        match self.json {
            true => Format::Json,
            false => Format::Text,
        }
    }

    fn key(&self) -> Result<Option<UserKey>, titans_store::StoreError> {
        self.key.as_deref().map(UserKey::read).transpose()
    }
}

/// What is wrong with the command line, or the help that was asked for.
fn usage(told: &clap::Error) -> ExitCode {
    if told.use_stderr() {
        let _ = told.print();
        return ExitCode::from(2);
    }
    finish(Outcome {
        text: told.render().to_string(),
        errors: Vec::new(),
    })
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => return usage(&told),
    };
    let outcome = run(&arguments.command).unwrap_or_else(Outcome::error);
    finish(outcome)
}

/// Prints what a command leaves; the exit code says whether all is well and was told.
fn finish(mut outcome: Outcome) -> ExitCode {
    if let Err(error) = output::print(&outcome.text) {
        let line = format!("cannot write to standard output: {error}");
        outcome.errors.push(line);
    }
    for line in &outcome.errors {
        // Where standard error is closed too, the exit code is all there is.
        let _ = writeln!(io::stderr(), "titanmem: {line}");
    }
    match outcome.errors.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn run(command: &Command) -> Result<Outcome, Failure> {
    match command {
        Command::Inspect {
            file,
            config,
            common,
        } => {
            let key = common.key()?;
            match config {
                true => config::run(file, key.as_ref(), common.format()),
                false => Ok(inspect::run(file, key.as_ref(), common.format())),
            }
        }
        Command::Verify { dir, common } => {
            Ok(verify::run(dir, common.key()?.as_ref(), common.format()))
        }
        Command::Users { dir, common } => users::run(dir, common.key()?.as_ref(), common.format()),
        Command::List { dir, common } => list::run(dir, common.key()?.as_ref(), common.format()),
        Command::Diff { a, b, common } => diff::run(a, b, common.key()?.as_ref(), common.format()),
        Command::Rollback {
            dir,
            to,
            sharing,
            common,
        } => rollback::run(dir, *to, sharing.mode(), common.key()?, common.format()),
        Command::Backup {
            dir,
            target,
            model,
            reference,
            config,
            generation,
            sharing,
            common,
        } => {
            let request = backup::Request {
                target,
                model: model.as_deref(),
                reference: reference.as_deref(),
                config: config.as_deref(),
                generation: *generation,
                folders: sharing.mode(),
            };
            backup::create(dir, &request, common.key()?.as_ref(), common.format())
        }
        Command::Restore {
            backup,
            dir,
            model,
            config,
            sharing,
            common,
        } => {
            let targets = backup::Targets {
                dir: dir.as_deref(),
                model: model.as_deref(),
                config: config.as_deref(),
                folders: sharing.mode(),
            };
            backup::restore(backup, &targets, common.key()?.as_ref(), common.format())
        }
        Command::Forget {
            dir,
            shard,
            yes: _,
            common,
        } => forget::run(
            dir,
            shard.as_deref(),
            common.key.as_deref(),
            common.format(),
        ),
    }
}
