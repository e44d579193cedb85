//! What can be wrong with settings that a person has written.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use titans_core::ConfigError;

/// A setting as a person names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SettingName {
    /// A key of a table in a file.
    Key {
        /// The table, for example `runtime`; empty at the top of the file.
        table: String,
        /// The key.
        key: String,
    },
    /// A variable of the environment.
    Variable(String),
}

impl fmt::Display for SettingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { table, key } if table.is_empty() => {
                write!(f, "`{key}` at the top of the file")
            }
            Self::Key { table, key } => write!(f, "`{key}` in [{table}]"),
            Self::Variable(name) => write!(f, "`{name}` in the environment"),
        }
    }
}

impl SettingName {
    fn kind(&self) -> &'static str {
        match self {
            Self::Key { .. } => "key",
            Self::Variable(_) => "variable",
        }
    }

    /// Whether the other stands in the same place.
    fn is_beside(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key { table, .. }, Self::Key { table: other, .. }) => table == other,
            (Self::Variable(_), Self::Variable(_)) => true,
            _ => false,
        }
    }

    /// The key or the variable alone.
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Key { key, .. } => key,
            Self::Variable(name) => name,
        }
    }
}

/// Why a file, a text or the environment is no configuration.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// There is no such setting.
    #[error("unknown {} {name}{}", .name.kind(), hint(.name, .nearest, .known))]
    Unknown {
        /// What was named.
        name: SettingName,
        /// The setting with the most similar name, if one is similar.
        nearest: Option<SettingName>,
        /// What could be named in that place.
        known: Vec<String>,
    },
    /// A setting has a value that it does not take.
    #[error("{name} is {found}, expected {expected}")]
    Value {
        /// Which setting.
        name: SettingName,
        /// What was given.
        found: String,
        /// What would be accepted, in words.
        expected: String,
    },
    /// Two names of one setting were given.
    #[error("{first} and {second} are two names of one setting; give one of them")]
    TwoNames {
        /// One of them.
        first: SettingName,
        /// The other.
        second: SettingName,
    },
    /// A setting has no meaning for the memory that is configured.
    #[error("{name} has no meaning here: {reason}")]
    Meaningless {
        /// Which setting.
        name: SettingName,
        /// What the memory is, and what it would have to be.
        reason: String,
    },
    /// Something that has no default is missing.
    #[error("{name} is missing: {reason}")]
    Missing {
        /// Which setting.
        name: SettingName,
        /// What it is needed for.
        reason: &'static str,
    },
    /// The memory that is described cannot be built.
    #[error("no such memory can be built: {0}")]
    Memory(#[from] ConfigError),
    /// The text is no TOML or JSON.
    #[error("{0}")]
    Syntax(String),
    /// A file could not be read.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// What is wrong with a file.
    #[error("{}: {error}", .path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: Box<SettingsError>,
    },
}

/// The end of the message about an unknown name.
fn hint(name: &SettingName, nearest: &Option<SettingName>, known: &[String]) -> String {
    match nearest {
        Some(nearest) if nearest.is_beside(name) => {
            format!(", did you mean `{}`?", nearest.key())
        }
        Some(nearest) => format!(", did you mean {nearest}?"),
        None if known.is_empty() => ", which takes no keys".to_owned(),
        None => format!("; known are {}", known.join(", ")),
    }
}
