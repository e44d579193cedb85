//! A configuration from TOML, JSON and tables, and back.

use std::path::Path;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};

use super::RuntimeConfig;
use super::article::two_names;
use super::error::SettingsError;
use super::fields;
use super::memory;
use super::names;
use super::reader::{Reader, Source, Writer};
use super::value::{Table, Value};
use crate::backup::BackupConfig;

impl RuntimeConfig {
    /// Reads a configuration from a text in TOML. What the text does not name keeps its
    /// default.
    ///
    /// ```
    /// use std::time::Duration;
    /// use titans_runtime::{Durability, RuntimeConfig};
    ///
    /// let config = RuntimeConfig::from_toml(
    ///     r#"
    ///     [memory]
    ///     preset = "sparse"
    ///     surprise_threshold = 0.5
    ///
    ///     [runtime]
    ///     chunk_tokens = 512
    ///     durability = "interval:5s"
    ///     resident_bytes = "8GiB"
    ///     "#,
    /// )?;
    /// assert_eq!(config.memory.update.surprise_threshold, 0.5);
    /// assert_eq!(config.durability, Durability::Interval(Duration::from_secs(5)));
    /// assert_eq!(RuntimeConfig::from_toml(&config.to_toml()?)?.to_toml()?, config.to_toml()?);
    ///
    /// let error = RuntimeConfig::from_toml("[runtime]\nchunk_token = 512").unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "unknown key `chunk_token` in [runtime], did you mean `chunk_tokens`?"
    /// );
    /// # Ok::<(), titans_runtime::SettingsError>(())
    /// ```
    ///
    /// # Errors
    /// A text that is no TOML, a key that is not known, a value that its key does not take.
    pub fn from_toml(text: &str) -> Result<Self, SettingsError> {
        let table: Table =
            toml::from_str(text).map_err(|error| SettingsError::Syntax(error.to_string()))?;
        apply(table, Source::File, Self::default())
    }

    /// Writes this configuration as TOML that [`from_toml`](Self::from_toml) reads again. What
    /// is code and no number is left out: alerts, and the attachment of backups.
    ///
    /// # Errors
    /// [`SettingsError::Value`]: a number that is not finite, a path that is no UTF-8.
    pub fn to_toml(&self) -> Result<String, SettingsError> {
        toml::to_string(&table_of(self)?).map_err(|error| SettingsError::Syntax(error.to_string()))
    }

    /// Reads a configuration from a file, in JSON if its name ends so and in TOML otherwise.
    ///
    /// # Errors
    /// As [`from_toml`](Self::from_toml), with the name of the file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, SettingsError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Io {
            path: path.to_owned(),
            source: Arc::new(source),
        })?;
        let is_json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        let read = match is_json {
            true => serde_json::from_str(&text)
                .map_err(|error| SettingsError::Syntax(error.to_string()))
                .and_then(|table| apply(table, Source::File, Self::default())),
            false => Self::from_toml(&text),
        };
        read.map_err(|error| SettingsError::InFile {
            path: path.to_owned(),
            error: Box::new(error),
        })
    }
}

/// The tables of [`from_toml`](RuntimeConfig::from_toml).
impl Serialize for RuntimeConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let table = table_of(self).map_err(S::Error::custom)?;
        table.serialize(serializer)
    }
}

/// The tables of [`from_toml`](RuntimeConfig::from_toml).
impl<'de> Deserialize<'de> for RuntimeConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = Table::deserialize(deserializer)?;
        apply(table, Source::File, Self::default()).map_err(D::Error::custom)
    }
}

/// A configuration with the settings of a table in the place of its own.
pub(super) fn apply(
    table: Table,
    source: Source,
    config: RuntimeConfig,
) -> Result<RuntimeConfig, SettingsError> {
    read(table, source, config).map_err(found_elsewhere)
}

/// Where no key of its table is meant, the same key of another table may be.
fn found_elsewhere(error: SettingsError) -> SettingsError {
    match error {
        SettingsError::Unknown {
            name,
            nearest: None,
            known,
        } => {
            let mut all = names::all().into_iter();
            let same = all.find(|(_, key)| key == name.key());
            SettingsError::Unknown {
                nearest: same.map(|(table, key)| Source::File.name(&table, &key)),
                name,
                known,
            }
        }
        other => other,
    }
}

fn read(
    table: Table,
    source: Source,
    mut config: RuntimeConfig,
) -> Result<RuntimeConfig, SettingsError> {
    let mut top = Reader::new(source, "", table);
    let memory = top.table(fields::MEMORY)?;
    let memory = memory.map(|table| memory::read(table, &config.memory));
    let memory = memory.transpose()?;
    let chunk_tokens = config.chunk_tokens;
    if let Some(mut table) = top.table(fields::RUNTIME)? {
        let chunk_size = memory.as_ref().and_then(|memory| memory.chunk_size);
        if chunk_size.is_some() && table.has("chunk_tokens") {
            let own = source.name(fields::RUNTIME, "chunk_tokens");
            return Err(two_names(source, "chunk_size", own));
        }
        fields::runtime(&mut config, &mut table)?;
        table.finish()?;
    }
    if let Some(memory) = memory {
        set_memory(&mut config, &memory, chunk_tokens)?;
    }
    if let Some(mut table) = top.table(fields::LEDGER)? {
        fields::ledger(&mut config.ledger, &mut table)?;
        table.finish()?;
    }
    if let Some(mut table) = top.table(fields::RECALL_WATCH)? {
        // Who says how recall is watched wants it to be watched.
        config.recall_watch.get_or_insert_default();
        fields::recall_watch(&mut config.recall_watch, &mut table)?;
        table.finish()?;
    }
    if let Some(mut table) = top.table(fields::STORE)? {
        fields::store(&mut config.store, &mut table)?;
        table.finish()?;
    }
    if let Some(mut table) = top.table(fields::BACKUPS)? {
        let mut backups = match config.backups.take() {
            Some(backups) => backups,
            None => BackupConfig::new(""),
        };
        fields::backups(&mut backups, &mut table)?;
        table.finish()?;
        if backups.dir.as_os_str().is_empty() {
            return Err(SettingsError::Missing {
                name: source.name(fields::BACKUPS, "dir"),
                reason: "backups go into a folder",
            });
        }
        config.backups = Some(backups);
    }
    top.finish()?;
    Ok(config)
}

/// Takes over a memory. The article's `chunk_size` is the chunk of the runtime, and the update
/// with it where the memory made one update of a chunk, unless its size is given.
fn set_memory(
    config: &mut RuntimeConfig,
    read: &memory::Read,
    chunk_tokens: usize,
) -> Result<(), SettingsError> {
    config.memory = read.memory;
    let Some(chunk_size) = read.chunk_size else {
        return Ok(());
    };
    config.chunk_tokens = chunk_size;
    if !read.has_update_size && read.memory.update.update_size == chunk_tokens {
        config.memory.update.update_size = chunk_size;
        config.memory.validate()?;
    }
    Ok(())
}

fn table_of(config: &RuntimeConfig) -> Result<Table, SettingsError> {
    let mut config = config.clone();
    let mut top = Table::default();
    top.insert(fields::MEMORY, Value::Table(memory::write(&config.memory)?));
    let mut write = |name, visit: &mut dyn FnMut(&mut Writer) -> Result<(), SettingsError>| {
        let mut writer = Writer::new(name);
        visit(&mut writer)?;
        top.insert(name, Value::Table(writer.table));
        Ok::<(), SettingsError>(())
    };
    write(fields::RUNTIME, &mut |writer| {
        fields::runtime(&mut config, writer)
    })?;
    write(fields::LEDGER, &mut |writer| {
        fields::ledger(&mut config.ledger, writer)
    })?;
    write(fields::RECALL_WATCH, &mut |writer| {
        fields::recall_watch(&mut config.recall_watch, writer)
    })?;
    write(fields::STORE, &mut |writer| {
        fields::store(&mut config.store, writer)
    })?;
    if let Some(backups) = &mut config.backups {
        write(fields::BACKUPS, &mut |writer| {
            fields::backups(backups, writer)
        })?;
    }
    Ok(top)
}
