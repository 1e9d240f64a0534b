//! Owns the errors of commands and of waiting callers. Knows nothing of files.
//!
//! - `first_answer`: what is known of the first command with a request id
//! - `rejections`: how a rejection is shown, which only its own type knows
//! - `told`: the sentences

mod first_answer;
mod rejections;
mod told;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use first_answer::{FirstAnswer, UnreadableOutput};

#[doc(hidden)]
pub use rejections::{OfRejection, Shown, WithDebug, WithDisplay, WithError, WithNothing};
pub(crate) use rejections::{note as note_rejections, shown};
pub(crate) use told::Reason;

/// The message of every call in the child of a fork.
pub(crate) const FORKED: &str = "this process was forked from the one that opened the database, and \
     only that one can use it. Open databases after the fork, or exec another program right away";

/// The failure after which a database acknowledges nothing more: a write, a sync or a rename
/// failed, a command is not deterministic, or a thread of the engine panicked.
///
/// The last published version stays readable. Commands that were in flight get this error. Each of
/// them may or may not be on disk; the next open finds out.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "the database stopped accepting commands after a failure: {reason}. Reads go on. Repair the \
     cause, then close the database and open it again to learn what became durable"
)]
pub struct Poisoned {
    pub(crate) reason: Arc<str>,
}

impl Poisoned {
    /// Returns the failure as a sentence.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Why a command has no output.
///
/// `R` is the command's own [`Rejection`](crate::Command::Rejection). The error's `Display` shows
/// it with its own `Display`, and `source` returns it, if it has them; otherwise it is shown with
/// `Debug`. That needs no bound: the database knows the types of the commands that
/// [`commands!`](crate::commands!) lists, once one is open.
///
/// Each variant says whether the command left a trace: a change of the model, or a record in the
/// journal. Two may: [`Poisoned`](Self::Poisoned), and [`Reentrant`](Self::Reentrant) when
/// [`Pending::wait`](crate::Pending::wait) returns it. After any error that
/// [`Database::submit`](crate::Database::submit) or `try_submit` itself returns, the command has
/// left no trace.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExecuteError<R> {
    /// The command refused by its own rules. It left no trace. This answer is given only after
    /// every earlier command that may have caused the refusal is as durable as
    /// [`Durability`](crate::Durability) promises.
    Rejected(R),
    /// The command's `apply` or its `Deserialize` panicked. Its changes to the model were rolled
    /// back, so it left no trace.
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The encoded command is larger than the limit. It was not applied and left no trace.
    TooLarge {
        /// Its encoded size in bytes, as far as it was encoded.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The metadata cannot be journaled: it takes more than 65,535 bytes, or cannot be encoded. The
    /// command was not applied and left no trace.
    Metadata {
        /// What is wrong with it.
        reason: String,
    },
    /// The command could not be encoded. It was not applied and left no trace.
    Encode {
        /// The codec's message.
        reason: String,
    },
    /// What was given as JSON is no command of this database. It was not applied and left no trace.
    /// Only [`submit_json`](crate::Database::submit_json) gives this.
    NotACommand {
        /// What is wrong with its name or its fields.
        reason: String,
    },
    /// The command could not be read back from its own encoding. It was not applied and left no
    /// trace.
    Undecodable {
        /// The codec's message.
        reason: String,
    },
    /// The events that the command [emitted](crate::Context::emit) cannot be stored: there are more
    /// than 65,536, they take more than 16 MiB, or one of them cannot be encoded. The command was
    /// rolled back and left no trace.
    EventsRefused {
        /// What is wrong with them.
        reason: String,
    },
    /// The command was meant for one sequence, but other commands have been accepted since then;
    /// see [`Database::execute_if`](crate::Database::execute_if). It was not applied and left no
    /// trace.
    Stale {
        /// The sequence it was meant for.
        expected: u64,
        /// The sequence of the last command accepted before it.
        found: u64,
    },
    /// A command with the same [`request_id`](crate::Metadata::request_id) was accepted before.
    /// That command is as durable as if it had been answered now, and its changes remain. This one
    /// was not applied and left no trace. The first command's output is kept only if
    /// [`Builder::remembered_outputs`](crate::Builder::remembered_outputs) says so. Otherwise read
    /// its effect from the model; if necessary, wait for its sequence with
    /// [`Database::wait_for`](crate::Database::wait_for).
    Duplicate {
        /// The sequence of the command that was accepted.
        sequence: u64,
        /// What is known of that command.
        first: Box<FirstAnswer>,
    },
    /// As many request ids are remembered as the options allow, and each of them is
    /// [promised](crate::Builder::remember_requests_for) for some time yet. The command was not
    /// applied and left no trace. Commands without a request id are not concerned.
    RequestsFull {
        /// How many ids are remembered.
        remembered: usize,
        /// When the oldest of them may be forgotten, so that there is room for the next one.
        frees_in: Duration,
    },
    /// The call came from inside a command's `apply` (or from a waker that the engine ran), so it
    /// would wait for itself. If [`Pending::wait`](crate::Pending::wait) returns this, it says
    /// nothing about the command. That command was submitted before and goes on; it may leave a
    /// trace, and its answer is lost. If any other call returns this, the command was not taken and
    /// left no trace.
    Reentrant,
    /// The command could not be written, for example because the disk is full or the process has no
    /// file descriptors left. It left no trace, and nothing is in doubt. Once the cause is
    /// repaired, commands are accepted again. Until then
    /// [`Health::Refusing`](crate::Health::Refusing) is reported.
    NotWritten {
        /// What failed, as a sentence.
        reason: Arc<str>,
    },
    /// The database was closed before the command was taken. The command left no trace.
    Stopped,
    /// This process was forked from the one that opened the database, and only that one may use it.
    /// The command was not taken and left no trace. A command that was submitted before the fork
    /// goes on in the parent.
    Forked,
    /// The database has [failed](Poisoned). A command that came after the failure left no trace. A
    /// command that was in flight may have left one; only the next open can tell. A refused command
    /// also gets this error if commands that may be lost caused the refusal.
    Poisoned(Poisoned),
}

impl<R> ExecuteError<R> {
    /// Makes the same error with another type of rejection, for example to give a caller one error
    /// for all commands.
    ///
    /// ```
    /// # use prevalence::ExecuteError;
    /// #[derive(Debug, PartialEq)]
    /// enum Refused { Overdrawn { missing: u64 } }
    ///
    /// let error: ExecuteError<u64> = ExecuteError::Rejected(5);
    /// let error = error.map_rejected(|missing| Refused::Overdrawn { missing });
    /// assert!(matches!(error, ExecuteError::Rejected(Refused::Overdrawn { missing: 5 })));
    /// ```
    pub fn map_rejected<S>(self, map: impl FnOnce(R) -> S) -> ExecuteError<S> {
        match self {
            Self::Rejected(rejection) => ExecuteError::Rejected(map(rejection)),
            Self::Panicked { message } => ExecuteError::Panicked { message },
            Self::TooLarge { bytes, limit } => ExecuteError::TooLarge { bytes, limit },
            Self::Metadata { reason } => ExecuteError::Metadata { reason },
            Self::Encode { reason } => ExecuteError::Encode { reason },
            Self::NotACommand { reason } => ExecuteError::NotACommand { reason },
            Self::Undecodable { reason } => ExecuteError::Undecodable { reason },
            Self::EventsRefused { reason } => ExecuteError::EventsRefused { reason },
            Self::Stale { expected, found } => ExecuteError::Stale { expected, found },
            Self::Duplicate { sequence, first } => ExecuteError::Duplicate { sequence, first },
            Self::RequestsFull { remembered, frees_in } => {
                ExecuteError::RequestsFull { remembered, frees_in }
            }
            Self::Reentrant => ExecuteError::Reentrant,
            Self::NotWritten { reason } => ExecuteError::NotWritten { reason },
            Self::Stopped => ExecuteError::Stopped,
            Self::Forked => ExecuteError::Forked,
            Self::Poisoned(poisoned) => ExecuteError::Poisoned(poisoned),
        }
    }

    /// Returns the rejection, if the command refused by its own rules.
    pub fn rejected(self) -> Option<R> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }
}

/// Why [`Database::try_submit`](crate::Database::try_submit) did not take a command. In every case
/// the command left no trace.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TrySubmitError<C, R> {
    /// The queue is full. This variant gives the command back. It was not taken and left no trace.
    #[error("the command queue is full. Try again later, or use submit, which waits")]
    Busy(C),
    /// The command cannot be taken, for any other reason. It left no trace.
    #[error("{0}")]
    Refused(ExecuteError<R>),
}

impl<C, R: fmt::Debug> fmt::Debug for TrySubmitError<C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(_) => f.write_str("Busy(..)"),
            Self::Refused(error) => f.debug_tuple("Refused").field(error).finish(),
        }
    }
}

/// Why [`Database::wait_for`](crate::Database::wait_for) returned before its sequence was reached.
/// The call only waits; it does nothing to commands. So no variant says what happened to a command.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The timeout passed. The sequence may still be reached.
    #[error(
        "sequence {wanted} was not reached before the timeout; the newest version has sequence \
         {reached}. Wait again, or longer"
    )]
    TimedOut {
        /// The sequence waited for.
        wanted: u64,
        /// The sequence of the newest readable version.
        reached: u64,
    },
    /// The database was closed before the sequence was reached.
    #[error(
        "the database was closed at sequence {reached}, so it cannot reach sequence {wanted}. Open \
         it again"
    )]
    Stopped {
        /// The sequence waited for.
        wanted: u64,
        /// The sequence of the last version.
        reached: u64,
    },
    /// The durable follower that was waited for has stopped, is lost, or was closed. Its
    /// [`status`](crate::FollowerHandle::status) says what to do. Or a
    /// [read-only](crate::ReadOnly) database could not be refreshed; then the reason is that error.
    #[error(
        "the follower has come to sequence {reached} and will not reach sequence {wanted}: {reason}"
    )]
    FollowerStopped {
        /// The sequence waited for.
        wanted: u64,
        /// The sequence of the last command that it has worked on.
        reached: u64,
        /// Why it goes no further.
        reason: Arc<str>,
    },
    /// The call came from inside a command's `apply` (or from a waker that the engine ran), so it
    /// would wait for itself.
    #[error(
        "wait_for cannot be called while a command is being applied, because it would wait for \
         itself. Call it from another thread"
    )]
    Reentrant,
    /// This process was forked from the one that opened the database. In this process the version
    /// never changes.
    #[error("{FORKED}")]
    Forked,
    /// The database has [failed](Poisoned), so none of its handles will reach that sequence. The
    /// next open may reach it, because commands that were in flight may be on disk.
    #[error("{0}")]
    Poisoned(#[source] Poisoned),
}
