//! Owns what the error of a command says. Knows nothing of how it came to that.

use std::error::Error;
use std::fmt::{self, Display};

use super::{ExecuteError, FORKED, rejections};

impl<R: fmt::Debug + 'static> fmt::Display for ExecuteError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell(f, |rejection, f| {
            f.write_str("the command was rejected: ")?;
            rejections::show(rejection, f)
        })
    }
}

/// Says why a command was refused; a rejection in its own words alone.
pub(crate) struct Reason<'a, R>(pub(crate) &'a ExecuteError<R>);

impl<R: 'static> fmt::Display for Reason<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.tell(f, rejections::show_any)
    }
}

impl<R> ExecuteError<R> {
    fn tell(
        &self,
        f: &mut fmt::Formatter<'_>,
        rejected: impl FnOnce(&R, &mut fmt::Formatter<'_>) -> fmt::Result,
    ) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => rejected(rejection, f),
            Self::Panicked { message } => {
                write!(f, "the command panicked and was rolled back: {message}")
            }
            Self::TooLarge { bytes, limit } => write!(
                f,
                "the command takes {bytes} bytes or more, but the limit is {limit} bytes. Split \
                 it, or raise max_command_bytes, to at most 64 MiB"
            ),
            Self::Metadata { reason } => {
                write!(f, "the command's metadata cannot be journaled: {reason}")
            }
            Self::Encode { reason } => write!(
                f,
                "cannot encode the command: {reason}. Its Serialize implementation must accept it"
            ),
            Self::NotACommand { reason } => {
                write!(f, "this is no command of the database: {reason}. It was not applied")
            }
            Self::Undecodable { reason } => write!(
                f,
                "the command cannot be decoded from its own encoding ({reason}), so it could never \
                 be replayed. Make its Serialize and Deserialize mirror each other (no \
                 skip_serializing_if, no untagged)"
            ),
            Self::EventsRefused { reason } => write!(
                f,
                "the command was rolled back, because {reason}. Emit fewer or smaller events"
            ),
            Self::Stale { expected, found } => write!(
                f,
                "the command was decided on at sequence {expected}, but the database has reached \
                 sequence {found}. Read again and decide again"
            ),
            Self::Duplicate { sequence, first } => write!(
                f,
                "a command with this request id was already accepted at sequence {sequence}{first}, \
                 so this one was not applied. If this is a different request, give it an id of its \
                 own"
            ),
            Self::RequestsFull { remembered, frees_in } => write!(
                f,
                "the command was not taken, because {remembered} request ids are remembered, and \
                 each of them was promised to be remembered for {frees_in:?} and more. Try again \
                 after that time, or raise remembered_requests"
            ),
            Self::Reentrant => f.write_str(
                "no command can be executed, submitted or waited for while another is being \
                 applied, because the call would wait for itself. Make the call from another \
                 thread",
            ),
            Self::NotWritten { reason } => write!(
                f,
                "the command was not accepted, because it could not be written: {reason}. Nothing \
                 was lost. Repair the cause, and execute the command again"
            ),
            Self::Stopped => f.write_str(
                "the command was not executed, because the database is closed. Open it again",
            ),
            Self::Forked => f.write_str(FORKED),
            Self::Poisoned(poisoned) => poisoned.fmt(f),
        }
    }
}

impl<R: fmt::Debug + 'static> Error for ExecuteError<R> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Rejected(rejection) => rejections::as_error(rejection),
            Self::Poisoned(poisoned) => Some(poisoned),
            _ => None,
        }
    }
}
