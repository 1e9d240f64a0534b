//! Owns why a sink could not do its work, and what to do about it. Knows nothing of SQL.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Any error. What a closure of a sink gives back: `?` makes one of every error.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Why a sink could not read its position or store a batch.
///
/// After each of them nothing of the batch is stored, except where it says something else. The
/// message holds the messages of all causes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The path of the other database cannot be made absolute.
    #[error("the path {path:?} cannot be made absolute: {source}; give an absolute path")]
    Path {
        /// The path as it was given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The other database could not be reached, or refused something. It may pass by itself.
    #[error("{place}: could not {action}: {}; see that it can be reached and written",
        Causes(.source.as_ref()))]
    Database {
        /// Which database.
        place: String,
        /// What was tried.
        action: &'static str,
        /// What the driver of the database said: a `rusqlite::Error` or a `postgres::Error`.
        source: Failure,
    },
    /// The commit failed. The batch is stored as a whole, or nothing of it: `position` tells which.
    #[error("{place}: could not commit up to command {last}: {}; \
        the position tells whether it is stored", Causes(.source.as_ref()))]
    Commit {
        /// Which database.
        place: String,
        /// The last command of the batch; 0 if it was the first position that was to be stored.
        last: u64,
        /// What the driver of the database said: a `rusqlite::Error` or a `postgres::Error`.
        source: Failure,
    },
    /// The closure that writes a command failed.
    #[error("{place}: command {sequence} could not be written: {}; \
        nothing of its batch is stored, so mend the closure or the tables",
        Causes(.source.as_ref()))]
    Write {
        /// Which database.
        place: String,
        /// The command's sequence.
        sequence: u64,
        /// What the closure said.
        source: Failure,
    },
    /// The stored position is not the one right before the batch: somebody else has moved it.
    #[error(
        "{place}: the position of {name:?} is {stored}, but this batch begins with command \
        {first}: another program writes under the same name; stop one of them"
    )]
    Moved {
        /// Which database.
        place: String,
        /// The name under which the other database is fed.
        name: String,
        /// The position that is stored.
        stored: u64,
        /// The first command of the batch.
        first: u64,
    },
    /// The row with the position is no longer there: somebody else has removed it.
    #[error(
        "{place}: the position of {name:?} is gone from prevalence_positions: if its data is \
        gone too, start anew; otherwise put the row back"
    )]
    PositionGone {
        /// Which database.
        place: String,
        /// The name under which the other database is fed.
        name: String,
    },
    /// The closure, or the SQL that makes the tables, ended the transaction. In SQLite nothing of
    /// the batch is stored then. PostgreSQL cannot be kept from a `COMMIT`, so there what was
    /// written before it *is* stored, and will be stored again with the next try.
    #[error(
        "{place}: the transaction was ended, but not by the sink: remove COMMIT, ROLLBACK and \
        the like from the closure and from the SQL that makes the tables"
    )]
    TransactionEnded {
        /// Which database.
        place: String,
    },
    /// A batch came although the position was not asked for since the start or the last failure.
    #[error("a batch came before the position was asked for: call `position` first")]
    NoPosition,
    /// The commands of a batch do not follow one another.
    #[error("a batch has command {found} where {expected} belongs: give every command, in order")]
    Gap {
        /// The sequence that belongs there.
        expected: u64,
        /// The sequence that is there.
        found: u64,
    },
    /// A sequence that no column can hold, or a stored position that no sequence can be.
    #[error("{value} is no position: it must be from 0 to {}; see who wrote it", i64::MAX)]
    OutOfRange {
        /// The value.
        value: i128,
    },
}

impl SinkError {
    /// Returns an adapter for `map_err` around one call of a database driver.
    pub(crate) fn database<E: Into<Failure>>(
        place: &str,
        action: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Database { place: place.to_owned(), action, source: source.into() }
    }

    /// Returns an adapter for `map_err` around a commit.
    pub(crate) fn commit<E: Into<Failure>>(place: &str, last: u64) -> impl FnOnce(E) -> Self {
        move |source| Self::Commit { place: place.to_owned(), last, source: source.into() }
    }
}

/// An error and its causes. The drivers say little in the first one ("db error").
struct Causes<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn a_message_has_all_causes_and_each_once() {
        let disk = Layer("disk full", None);
        let again = Layer("could not write: disk full", Some(Box::new(disk)));
        let top = Layer("db error", Some(Box::new(again)));
        let error = SinkError::commit("there", 7)(top);
        assert_eq!(
            error.to_string(),
            "there: could not commit up to command 7: db error: could not write: disk full; \
             the position tells whether it is stored"
        );
    }
}
