//! Owns why a file is wrong or could not be changed, and the text for it. Knows nothing of models
//! and of the engine: a user gets each of these as the variant of [`Error`](crate::Error) with the
//! same name, and the documentation there explains it.

use std::io;
use std::path::{Path, PathBuf};

use super::DatabaseId;
use crate::storage::{PlaceLost, is_disk_full};

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(fmt = told::io)]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error(fmt = told::not_a_directory)]
    NotADirectory { path: PathBuf },
    #[error(fmt = told::corrupt)]
    Corrupt { path: PathBuf, position: u64, expected: String, found: String },
    #[error(fmt = told::missing)]
    Missing { path: PathBuf, reason: String },
    #[error(fmt = told::foreign_file)]
    ForeignFile { path: PathBuf, expected: DatabaseId, found: DatabaseId },
    #[error(fmt = told::unsupported_format)]
    UnsupportedFormat { path: PathBuf, found: u32, supported: u32 },
    #[error(fmt = told::unsupported_codec)]
    UnsupportedCodec { path: PathBuf, found: u32, supported: u32 },
    #[error(fmt = told::undecodable)]
    Undecodable { path: PathBuf, reason: String },
    #[error(fmt = told::invalid_option)]
    InvalidOption { option: &'static str, value: String, constraint: String },
    #[error(fmt = told::encode)]
    Encode { what: String, reason: String },
    #[error(fmt = told::not_empty)]
    NotEmpty { path: PathBuf },
}

impl StoreError {
    /// Returns an adapter for `map_err` around one file operation.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }

    /// Returns whether the operation failed because the directory is no longer where it was opened.
    pub(crate) fn is_place_lost(&self) -> bool {
        matches!(self, Self::Io { source, .. } if PlaceLost::is_reason_of(source))
    }

    /// Returns whether a file cannot be made because of what stands there, or whose it is.
    pub(crate) fn is_in_the_way(&self) -> bool {
        use io::ErrorKind::{
            AlreadyExists, IsADirectory, NotADirectory, PermissionDenied, ReadOnlyFilesystem,
        };
        match self {
            Self::NotADirectory { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                AlreadyExists
                    | IsADirectory
                    | NotADirectory
                    | PermissionDenied
                    | ReadOnlyFilesystem
            ),
            _ => false,
        }
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
        Self::Corrupt {
            path: path.to_path_buf(),
            position,
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// The messages. [`Error`](crate::Error) uses the same ones.
pub(crate) mod told {
    use std::fmt;
    use std::io;
    use std::path::Path;

    use crate::files::DatabaseId;

    pub(crate) fn io(
        action: &&'static str,
        path: &Path,
        source: &io::Error,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        write!(f, "cannot {action} {}: {source}", path.display())
    }

    pub(crate) fn not_a_directory(path: &Path, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is not a directory, but a database is a directory. Choose another path, or move \
             away what is there",
            path.display()
        )
    }

    pub(crate) fn corrupt(
        path: &Path,
        position: &u64,
        expected: &str,
        found: &str,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        write!(
            f,
            "{} is damaged at byte {position}: expected {expected}, found {found}. Nothing was \
             changed. Restore the file from a backup, or copy the directory before you try \
             anything else",
            path.display()
        )
    }

    pub(crate) fn missing(path: &Path, reason: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is missing: {reason}. Nothing was changed. Restore the file from a backup",
            path.display()
        )
    }

    pub(crate) fn foreign_file(
        path: &Path,
        expected: &DatabaseId,
        found: &DatabaseId,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        write!(
            f,
            "{} belongs to database {found}, but this directory is database {expected}. The files \
             of two databases are mixed. Put each file back where it came from",
            path.display()
        )
    }

    pub(crate) fn unsupported_format(
        path: &Path,
        found: &u32,
        supported: &u32,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        write!(
            f,
            "{} has format version {found}, but this build reads version {supported}. Use a build \
             of prevalence that reads version {found}",
            path.display()
        )
    }

    pub(crate) fn unsupported_codec(
        path: &Path,
        found: &u32,
        supported: &u32,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        write!(
            f,
            "{} uses codec {found}, but this build reads codec {supported}. Use a build of \
             prevalence that reads codec {found}",
            path.display()
        )
    }

    pub(crate) fn undecodable(
        path: &Path,
        reason: &str,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        write!(
            f,
            "{} is an undamaged snapshot, but this program cannot decode its model from it: \
             {reason}. Nothing was changed. If the model's type was changed without raising \
             Model::VERSION, run the program version that wrote the snapshot, or raise \
             Model::VERSION and write Model::migrate. If the type cannot be decoded from its own \
             encoding, make its Serialize and Deserialize mirror each other, so that Deserialize \
             accepts these bytes",
            path.display()
        )
    }

    pub(crate) fn invalid_option(
        option: &&'static str,
        value: &str,
        constraint: &str,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        write!(f, "option {option} is {value}, but {constraint}")
    }

    pub(crate) fn not_empty(path: &Path, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} exists and is not an empty directory. A copy never replaces anything; choose a \
             path where nothing exists",
            path.display()
        )
    }

    pub(crate) fn encode(what: &str, reason: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot encode {what}: {reason}. Its Serialize implementation must accept every value"
        )
    }
}
