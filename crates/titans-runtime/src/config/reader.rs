//! Takes settings out of tables, writes them into tables, lists their names.

use super::error::{SettingName, SettingsError};
use super::fields::{self, Visit};
use super::setting::Setting;
use super::value::{Table, Value};

/// Where settings come from, which decides how messages name them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Source {
    File,
    Environment,
}

/// What every variable of the environment begins with.
pub(super) const PREFIX: &str = "TITANMEM_";

impl Source {
    /// A setting as a person would have written it.
    pub(super) fn name(self, table: &str, key: &str) -> SettingName {
        match self {
            Self::File => SettingName::Key {
                table: table.to_owned(),
                key: key.to_owned(),
            },
            Self::Environment => SettingName::Variable(variable(table, key)),
        }
    }

    /// The error for a value that a setting does not take.
    pub(super) fn wrong(
        self,
        (table, key): (&str, &str),
        found: &Value,
        expected: impl Into<String>,
    ) -> SettingsError {
        SettingsError::Value {
            name: self.name(table, key),
            found: found.to_string(),
            expected: expected.into(),
        }
    }
}

/// The variable of a setting. Those of the memory and of the runtime itself need no table in
/// their names: `TITANMEM_CHUNK_TOKENS`, `TITANMEM_LEDGER_MAX_BYTES`.
pub(super) fn variable(table: &str, key: &str) -> String {
    let words = table.split('.').chain([key]);
    let words = words.filter(|word| ![fields::RUNTIME, fields::MEMORY, ""].contains(word));
    let words: Vec<_> = words.map(str::to_ascii_uppercase).collect();
    format!("{PREFIX}{}", words.join("_"))
}

/// Takes settings out of one table. What is left at the end is an error.
pub(super) struct Reader {
    pub(super) source: Source,
    pub(super) path: String,
    table: Table,
    known: Vec<String>,
}

impl Reader {
    pub(super) fn new(source: Source, path: impl Into<String>, table: Table) -> Self {
        Self {
            source,
            path: path.into(),
            table,
            known: Vec::new(),
        }
    }

    /// The value of a key, if it is given.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.known.push(key.to_owned());
        self.table.take(key)
    }

    /// Whether a key is given.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.has(key)
    }

    /// What a setting says, if it is given.
    pub(super) fn read<T: Setting>(&mut self, key: &str) -> Result<Option<T>, SettingsError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let read = T::read(&value);
        let wrong = || self.source.wrong((&self.path, key), &value, T::expected());
        read.ok_or_else(wrong).map(Some)
    }

    /// The table under a key, if it is given.
    pub(super) fn table(&mut self, key: &str) -> Result<Option<Reader>, SettingsError> {
        let path = match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        };
        match self.take(key) {
            None => Ok(None),
            Some(Value::Table(table)) => Ok(Some(Self::new(self.source, path, table))),
            Some(value) => Err(self.source.wrong((&self.path, key), &value, "a table")),
        }
    }

    /// Takes everything that is left.
    pub(super) fn rest(&mut self) -> Table {
        std::mem::take(&mut self.table)
    }

    /// `Ok` when every setting was taken.
    pub(super) fn finish(self) -> Result<(), SettingsError> {
        match self.table.into_iter().next() {
            None => Ok(()),
            Some((key, _)) => Err(unknown(self.source, (&self.path, &key), self.known)),
        }
    }
}

impl Visit for Reader {
    fn field<T: Setting>(&mut self, key: &'static str, field: &mut T) -> Result<(), SettingsError> {
        if let Some(value) = self.read(key)? {
            *field = value;
        }
        Ok(())
    }
}

/// The error for a key that its table does not have.
pub(super) fn unknown(
    source: Source,
    (table, key): (&str, &str),
    known: Vec<String>,
) -> SettingsError {
    let nearest = nearest(key, known.iter().map(String::as_str));
    SettingsError::Unknown {
        name: source.name(table, key),
        nearest: nearest.map(|near| source.name(table, near)),
        known,
    }
}

/// The most similar name, if it can be meant: at most every third letter is wrong.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &str| strsim::damerau_levenshtein(name, other);
    let nearest = known.min_by_key(|other| distance(other))?;
    let letters = name.chars().count().max(nearest.chars().count());
    (distance(nearest) * 3 <= letters.max(3)).then_some(nearest)
}

/// Writes settings into one table.
pub(super) struct Writer {
    path: &'static str,
    pub(super) table: Table,
}

impl Writer {
    pub(super) fn new(path: &'static str) -> Self {
        Self {
            path,
            table: Table::default(),
        }
    }
}

impl Visit for Writer {
    fn field<T: Setting>(&mut self, key: &'static str, field: &mut T) -> Result<(), SettingsError> {
        let value = field.write().ok_or_else(|| SettingsError::Value {
            name: Source::File.name(self.path, key),
            found: "something that cannot be written".to_owned(),
            expected: T::expected(),
        })?;
        self.table.insert(key, value);
        Ok(())
    }
}
