//! Owns why a command ends early, and the exit codes. Knows nothing of the commands.

use std::io;
use std::path::PathBuf;

/// All is well.
pub const FINE: u8 = 0;
/// Damage was found, or nothing that was looked for, or something was refused.
pub const FOUND: u8 = 1;
/// The arguments are wrong.
pub const USAGE: u8 = 2;
/// The database or the file cannot be read, or not to its end.
pub const UNREADABLE: u8 = 3;

/// The same, for `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  all is well
  1  verify: damage was found; diff: they differ; log, show: there is nothing that fits;
     repair: nothing was written, because nobody has agreed; restore: done, but the history of
     the copy has a gap; import: lines were refused
  2  the arguments are wrong
  3  the database cannot be read, or the result cannot be written; import: it has ended early";

/// Why a command ended early.
#[derive(Debug)]
pub enum Failure {
    /// The database cannot be read.
    Database(prevalence::Error),
    /// Not all that was wanted could be read or sent. What could be is in the result.
    Incomplete(String),
    /// The result cannot be written.
    Output(io::Error),
    /// A file of the result cannot be written.
    File(Unwritten),
    /// The arguments do not go together.
    Usage(String),
}

/// A file that cannot be written.
#[derive(Debug)]
pub struct Unwritten {
    pub path: PathBuf,
    pub source: io::Error,
}

impl From<Unwritten> for Failure {
    fn from(unwritten: Unwritten) -> Self {
        Self::File(unwritten)
    }
}

impl From<prevalence::Error> for Failure {
    fn from(error: prevalence::Error) -> Self {
        Self::Database(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Output(error.into())
    }
}

impl Failure {
    /// Says what has happened, and what to do.
    pub fn told(&self) -> String {
        match self {
            Self::Output(error) => {
                format!("cannot write the result: {error}. Give the output another place")
            }
            Self::File(Unwritten { path, source }) => {
                let path = path.display();
                format!("cannot write {path}: {source}. Give the output another place")
            }
            Self::Database(error) => error.to_string(),
            Self::Incomplete(reason) | Self::Usage(reason) => reason.clone(),
        }
    }
}

/// Tells the user of a failure, and returns the exit code.
pub fn code(done: Result<u8, Failure>) -> u8 {
    match done {
        Ok(code) => code,
        // Whoever read the output has seen enough, for example `head`.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => FINE,
        Err(Failure::Database(prevalence::Error::Io { source, .. }))
            if source.kind() == io::ErrorKind::BrokenPipe =>
        {
            FINE
        }
        Err(failure) => {
            tell(&failure.told());
            if matches!(failure, Failure::Usage(_)) { USAGE } else { UNREADABLE }
        }
    }
}

/// Says something beside the result.
pub fn note(what: &str) {
    use io::Write;
    writeln!(io::stderr().lock(), "{what}").ok(); // as in `tell`
}

fn tell(what: &str) {
    use io::Write;
    // If the terminal is gone, nobody can be told; the exit code still says it.
    writeln!(io::stderr().lock(), "error: {what}").ok();
}
