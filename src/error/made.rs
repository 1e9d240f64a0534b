//! Owns how an error is made of those of lower folders, and what the engine asks of it. Knows
//! nothing of messages.

use std::io;
use std::path::Path;

use super::Error;
use crate::files::{ChangeFailure, StoreError};
use crate::storage::{PlaceLost, is_disk_full};

impl Error {
    /// Returns an adapter for `map_err` around one file operation.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| StoreError::io(action, path)(source).into()
    }

    /// Returns whether the directory is no longer where it was when it was opened.
    pub(crate) fn is_place_lost(&self) -> bool {
        matches!(self, Self::Io { source, .. } if PlaceLost::is_reason_of(source))
    }

    pub(crate) fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_disk_full(source))
    }

    pub(crate) fn corrupt(
        path: &Path,
        position: u64,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        StoreError::corrupt(path, position, expected, found).into()
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Io { action, path, source } => Self::Io { action, path, source },
            StoreError::NotADirectory { path } => Self::NotADirectory { path },
            StoreError::Corrupt { path, position, expected, found } => {
                Self::Corrupt { path, position, expected, found }
            }
            StoreError::Missing { path, reason } => Self::Missing { path, reason },
            StoreError::ForeignFile { path, expected, found } => {
                Self::ForeignFile { path, expected, found }
            }
            StoreError::UnsupportedFormat { path, found, supported } => {
                Self::UnsupportedFormat { path, found, supported }
            }
            StoreError::UnsupportedCodec { path, found, supported } => {
                Self::UnsupportedCodec { path, found, supported }
            }
            StoreError::Undecodable { path, reason } => Self::Undecodable { path, reason },
            StoreError::InvalidOption { option, value, constraint } => {
                Self::InvalidOption { option, value, constraint }
            }
            StoreError::Encode { what, reason } => Self::Encode { what, reason },
            StoreError::NotEmpty { path } => Self::NotEmpty { path },
        }
    }
}

impl From<ChangeFailure> for Error {
    fn from(failure: ChangeFailure) -> Self {
        StoreError::from(failure).into()
    }
}
