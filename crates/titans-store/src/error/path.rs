//! The file that an error is about.

use std::path::Path;

use super::StoreError;

impl StoreError {
    /// The same error with the path of the file it is about.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        match self {
            Self::InFile { .. } | Self::Io { .. } => self,
            other => Self::InFile {
                path: path.to_owned(),
                source: Box::new(other),
            },
        }
    }

    /// The error without the path that [`StoreError::InFile`] adds.
    pub fn cause(&self) -> &Self {
        match self {
            Self::InFile { source, .. } => source.cause(),
            other => other,
        }
    }
}
