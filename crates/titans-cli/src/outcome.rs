//! What a command leaves, or why it could not be done.

use std::io;
use std::path::Path;

/// What a command leaves: text for standard output, and lines for standard error.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) text: String,
    /// One line each; none means that all is well.
    pub(crate) errors: Vec<String>,
}

impl Outcome {
    pub(crate) fn error(line: impl ToString) -> Self {
        Self {
            text: String::new(),
            errors: vec![line.to_string()],
        }
    }

    /// A value, as JSON or in words.
    pub(crate) fn of<T: serde::Serialize>(
        value: &T,
        format: Format,
        in_words: impl FnOnce(&T) -> String,
    ) -> Self {
        match format {
            Format::Text => Self {
                text: in_words(value),
                errors: Vec::new(),
            },
            Format::Json => match to_json(value) {
                Ok(text) => Self {
                    text,
                    errors: Vec::new(),
                },
                Err(error) => Self::error(error),
            },
        }
    }
}

/// Why a command could not be done, in one line.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<titans_store::StoreError> for Failure {
    fn from(error: titans_store::StoreError) -> Self {
        Self(error.to_string())
    }
}

impl Failure {
    pub(crate) fn io(action: &str, path: &Path, error: &io::Error) -> Self {
        Self(format!("cannot {action} {}: {error}", path.display()))
    }
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

/// `value` as indented JSON and a line end.
pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(value).map(|text| text + "\n")
}
