//! `titanmem inspect --config`: the configuration of a memory, as a runtime reads it.
//!
//! A header holds names and numbers, and this writes them down without knowing what they mean: a
//! parameter that says a word, `activation-gelu`, is the key `activation` with the value `"gelu"`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use titans_store::{ChoiceRecord, FileSummary, Limits, UserKey, inspect_newest, inspect_with};

use crate::folder::memories_below;
use crate::inspect::{number, read};
use crate::outcome::{Failure, Format, Outcome};

/// The configuration of a file, or of the memories in a folder and below it.
pub(crate) fn run(path: &Path, key: Option<&UserKey>, format: Format) -> Result<Outcome, Failure> {
    let mut files = match path.is_dir() {
        false => vec![(path.to_owned(), of_file(path, key)?)],
        true => of_folder(path, key)?,
    };
    let Some((first, file)) = files.pop() else {
        return Err(Failure(format!("there is no memory in {}", path.display())));
    };
    let config = configuration(&file, &first)?;
    for (other, file) in &files {
        if configuration(file, other)? != config {
            return Err(Failure(format!(
                "{} and {} hold memories of different configurations; ask for one of them",
                first.display(),
                other.display()
            )));
        }
    }
    Ok(Outcome::of(&config, format, |config| {
        in_toml(config, &file).unwrap_or_else(|error| error.to_string())
    }))
}

fn of_file(path: &Path, key: Option<&UserKey>) -> Result<FileSummary, Failure> {
    let bytes =
        read(path, &Limits::default()).map_err(|error| Failure::io("read", path, &error))?;
    inspect_with(&bytes, key).map_err(|error| Failure(format!("{}: {error}", path.display())))
}

/// The newest file of each memory in and below a folder.
fn of_folder(dir: &Path, key: Option<&UserKey>) -> Result<Vec<(PathBuf, FileSummary)>, Failure> {
    let mut errors = Vec::new();
    let folders = memories_below(dir, &mut errors);
    if let Some(error) = errors.into_iter().next() {
        return Err(Failure(error));
    }
    let mut files = Vec::new();
    for folder in folders {
        let newest = inspect_newest(&folder, &Limits::default(), key)?;
        files.extend(newest.map(|file| (folder, file)));
    }
    Ok(files)
}

/// The table `memory` of a configuration.
fn configuration(file: &FileSummary, path: &Path) -> Result<Value, Failure> {
    let unsaid = |what: &str| Failure(format!("{} does not say {what}", path.display()));
    let mut memory = Map::new();
    for size in ["key_dim", "value_dim", "seed"] {
        let text = file.extra.get(size).ok_or_else(|| unsaid(size))?;
        let number: u64 = text.parse().map_err(|_| unsaid(size))?;
        // TOML has 64 bits with a sign; a larger number is a text, which is read as well.
        let value = i64::try_from(number).map_or_else(|_| Value::from(text.as_str()), Value::from);
        memory.insert(size.to_owned(), value);
    }
    let model = &file.model;
    for (key, choice) in [
        ("architecture", &model.architecture),
        ("attentional_bias", &model.attentional_bias),
        ("retention_gate", &model.retention_gate),
        ("learning_algorithm", &model.learning_algorithm),
    ] {
        memory.insert(key.to_owned(), choice_table(choice));
    }
    let update = file.extra.get("update").ok_or_else(|| unsaid("update"))?;
    let mut table = Map::new();
    for word in update.split_whitespace() {
        let param = word.split_once('=');
        let param = param.and_then(|(name, value)| Some((name, value.parse().ok()?)));
        let (name, value) = param.ok_or_else(|| unsaid("update"))?;
        insert(&mut table, name, value);
    }
    memory.insert("update".to_owned(), Value::Object(table));
    let memory = [("memory".to_owned(), Value::Object(memory))];
    Ok(Value::Object(memory.into_iter().collect()))
}

fn choice_table(choice: &ChoiceRecord) -> Value {
    let mut table = Map::new();
    table.insert("name".to_owned(), Value::from(choice.name.as_str()));
    for (name, &value) in &choice.params {
        insert(&mut table, name, value);
    }
    Value::Object(table)
}

fn insert(table: &mut Map<String, Value>, name: &str, value: f64) {
    let (key, value) = match name.split_once('-') {
        Some((kind, word)) => (kind, Value::from(word)),
        None if value.fract() == 0.0 && value.abs() < 1e15 => (name, Value::from(value as i64)),
        // As short as `inspect` prints it.
        None => (name, Value::from(number(value).parse().unwrap_or(value))),
    };
    table.insert(key.to_owned(), value);
}

/// TOML with where it comes from in front.
fn in_toml(config: &Value, file: &FileSummary) -> Result<String, toml::ser::Error> {
    let (preset, generation, shard) = (&file.model.preset, file.sequence, &file.shard);
    let text = toml::to_string(config)?;
    Ok(format!(
        "# The memory of shard {shard}, generation {generation} (preset: {}).\n\
         # What a runtime is told beside it is in no file of a memory.\n\n{text}",
        preset.escape_debug()
    ))
}
