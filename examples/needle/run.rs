//! One text: learn it, close, reopen, ask.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use titanmem::{Rows, Runtime, RuntimeConfig, Stats, UserMemory};
use titans_needle::{Hits, status_bytes};

use crate::Error;
use crate::features::Features;
use crate::haystack::Haystack;
use crate::needles::{HiddenNeedles, Needle};
use crate::text::WordId;

/// Tokens handed over per call. The runtime cuts its own chunks.
const PIECE: usize = 1024;
/// How long closing may take. The bar is on recall, not on patience.
const CLOSE_DEADLINE: Duration = Duration::from_secs(600);

/// What one text gave.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// What each needle was answered with; `None` for no answer.
    pub(crate) answers: Vec<Option<WordId>>,
    /// Answers of a memory that nothing was written to.
    pub(crate) no_write: Hits,
    /// Answers to the question of another needle.
    pub(crate) shuffled_keys: Hits,
    pub(crate) tokens_written: u64,
    pub(crate) state_bytes: usize,
    pub(crate) file_bytes: u64,
    /// Damaged files that were passed over when reopening, a line each.
    pub(crate) skipped: Vec<String>,
    pub(crate) timings: Timings,
}

/// What depends on the machine and on what else it does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timings {
    /// From the first token handed over until the last is durable.
    pub(crate) learning: Duration,
    pub(crate) stats: Stats,
    /// From opening the folder to the first answer.
    pub(crate) open_to_recall: Duration,
    pub(crate) recall_p50: Duration,
    pub(crate) recall_p99: Duration,
    /// Resident memory of the whole process after learning, where the system tells.
    pub(crate) resident_bytes: Option<u64>,
}

/// Learns `tokens` tokens of the haystack with the needles in it, then asks for them all.
pub(crate) fn run(
    dir: &Path,
    config: &RuntimeConfig,
    features: &Features,
    (haystack, needles): (&mut Haystack, &[Needle]),
    (tokens, damage_newest): (usize, bool),
    progress: &ProgressBar,
) -> Result<Outcome, Error> {
    let text = HiddenNeedles::new(haystack, needles, tokens)?;
    let runtime = Runtime::open(dir, config.clone())?;
    let memory = runtime.user(USER)?;
    let started = Instant::now();
    stream(text, features, config, &memory, progress)?;
    memory.flush()?;
    let learning = started.elapsed();
    let stats = runtime.stats();
    let resident_bytes = status_bytes("VmRSS");
    drop(memory);
    if !runtime.close(CLOSE_DEADLINE).is_durable() {
        return Err(Error::from(
            "closing took too long; not all is saved".to_owned(),
        ));
    }

    let newest = newest_file(dir)?;
    let file_bytes = fs::metadata(&newest)
        .map_err(Error::io("read", &newest))?
        .len();
    if damage_newest {
        damage(&newest)?;
    }

    let reopened = Instant::now();
    let runtime = Runtime::open(dir, config.clone())?;
    let memory = runtime.user(USER)?;
    let skipped = memory.skipped().to_vec();
    let asked: Vec<&[WordId]> = needles.iter().map(|n| n.question.as_slice()).collect();
    let first = asked.first().copied().unwrap_or_default();
    ask(&memory, features, config, first)?;
    let open_to_recall = reopened.elapsed();

    let mut durations = Vec::with_capacity(needles.len());
    let mut answers = Vec::with_capacity(needles.len());
    for question in &asked {
        let started = Instant::now();
        let recalled = ask(&memory, features, config, question)?;
        durations.push(started.elapsed());
        answers.push(features.nearest_word(&recalled));
    }
    durations.sort_unstable();
    let at = |share: f64| durations[((durations.len() - 1) as f64 * share).round() as usize];

    let nobody = runtime.user("nobody")?;
    let answered = |memory: &UserMemory, shift: usize| -> Result<Hits, Error> {
        let mut outcomes = Vec::with_capacity(needles.len());
        for (index, needle) in needles.iter().enumerate() {
            let question = asked[(index + shift) % asked.len()];
            let recalled = ask(memory, features, config, question)?;
            outcomes.push(features.nearest_word(&recalled) == Some(needle.answer));
        }
        Ok(Hits::of(outcomes))
    };
    let no_write = answered(&nobody, 0)?;
    // With a single needle there is no other question to ask.
    let shuffled_keys = match needles.len() {
        1 => Hits::default(),
        _ => answered(&memory, 1)?,
    };
    Ok(Outcome {
        answers,
        no_write,
        shuffled_keys,
        tokens_written: memory.tokens_written(),
        state_bytes: config.memory.state_bytes(),
        file_bytes,
        skipped,
        timings: Timings {
            learning,
            stats,
            open_to_recall,
            recall_p50: at(0.5),
            recall_p99: at(0.99),
            resident_bytes,
        },
    })
}

const USER: &str = "reader";

/// Hands the text over: the key of every token, and the token as the value.
fn stream(
    mut text: HiddenNeedles<'_>,
    features: &Features,
    config: &RuntimeConfig,
    memory: &UserMemory,
    progress: &ProgressBar,
) -> Result<(), Error> {
    let (key_dim, value_dim) = (config.memory.key_dim, config.memory.value_dim);
    let mut keys = Vec::with_capacity((PIECE + 64) * key_dim);
    let mut values = Vec::with_capacity((PIECE + 64) * value_dim);
    let hand_over = |keys: &mut Vec<f32>, values: &mut Vec<f32>| -> Result<(), Error> {
        let tokens = keys.len() / key_dim;
        let rows = |data, dim| Rows::matrix(data, dim);
        // The flush at the end waits for all of them.
        memory.observe(rows(keys, key_dim), rows(values, value_dim))?;
        progress.inc(tokens as u64);
        keys.clear();
        values.clear();
        Ok(())
    };
    while let Some(sentence) = text.next_sentence() {
        for (place, word) in sentence.iter().enumerate() {
            features.append_key(&sentence[..place], &mut keys);
            values.extend_from_slice(features.value(*word));
        }
        if keys.len() >= PIECE * key_dim {
            hand_over(&mut keys, &mut values)?;
        }
    }
    hand_over(&mut keys, &mut values)
}

fn ask(
    memory: &UserMemory,
    features: &Features,
    config: &RuntimeConfig,
    question: &[WordId],
) -> Result<Vec<f32>, Error> {
    let mut key = Vec::with_capacity(config.memory.key_dim);
    features.append_key(question, &mut key);
    Ok(memory.recall(Rows::row(&key))?.into())
}

/// The newest generation below a folder of memories in which one user has learned.
fn newest_file(dir: &Path) -> Result<PathBuf, Error> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            let path = entry.map_err(Error::io("list", &folder))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "titanmem")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    files
        .pop()
        .ok_or_else(|| Error::from(format!("there is no memory below {}", dir.display())))
}

fn damage(file: &Path) -> Result<(), Error> {
    let mut bytes = fs::read(file).map_err(Error::io("read", file))?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).map_err(Error::io("write", file))
}
