//! Owns why a command has no output, or a caller no answer. Knows nothing of files.

use std::fmt;
use std::sync::Arc;

/// The failure after which a database acknowledges nothing more.
///
/// The last durable version stays readable. Commands that were in flight got this error: each may
/// or may not be on disk, and the next open tells.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "the database stopped accepting commands after a failure: {reason}. Reads go on; mend the \
     cause, then open the database anew to learn what became durable"
)]
pub struct Poisoned {
    pub(crate) reason: Arc<str>,
}

impl Poisoned {
    /// The failure, as a sentence.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Why a command has no output.
///
/// `R` is the command's own [`Rejection`](crate::Command::Rejection). Except for
/// [`Poisoned`](Self::Poisoned), every variant means that the command left no trace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteError<R> {
    /// The command refused, by its own rules. Answered only once every earlier command that the
    /// refusal may rest on is durable.
    #[error("the command was rejected: {0:?}")]
    Rejected(R),
    /// The command's `apply` panicked; its changes were rolled back.
    #[error("the command panicked and was rolled back: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The encoded command is larger than the limit, so it was not journaled.
    #[error(
        "the command takes {bytes} bytes or more, the limit is {limit}: split it, or raise \
         max_command_bytes, up to 64 MiB"
    )]
    TooLarge {
        /// Its encoded size in bytes, as far as it was encoded.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The command could not be encoded.
    #[error("cannot encode the command: {reason}; its Serialize implementation must accept it")]
    Encode {
        /// What the codec said.
        reason: String,
    },
    /// The command could not be read back from its own encoding, so it was not journaled.
    #[error(
        "the command cannot be decoded from its own encoding ({reason}), so it could never be \
         replayed: make its Serialize and Deserialize mirror each other (no skip_serializing_if, \
         no untagged)"
    )]
    Undecodable {
        /// What the codec said.
        reason: String,
    },
    /// It was to be executed only at one sequence, and other commands were accepted since; see
    /// [`Database::execute_if`](crate::Database::execute_if).
    #[error(
        "the command was decided on at sequence {expected}, and the database has come to \
         {found}: read again and decide anew"
    )]
    Stale {
        /// The sequence it was meant for.
        expected: u64,
        /// The sequence of the last command accepted before it.
        found: u64,
    },
    /// A command with the same [`request_id`](crate::Metadata::request_id) was accepted before, and
    /// is as durable as if it had been answered now; this one was not applied. Its output is not
    /// kept: read what came of it, if need be with [`Database::wait_for`](crate::Database::wait_for)
    /// its sequence.
    #[error(
        "a command with this request id was accepted at sequence {sequence}, so it was not applied \
         again; if this is another request, give it an id of its own"
    )]
    Duplicate {
        /// The sequence under which it was accepted.
        sequence: u64,
    },
    /// The call came from inside a command's `apply` (or a waker run by the engine) and would wait
    /// for itself. When it was [`Pending::wait`](crate::Pending::wait), the command goes on.
    #[error(
        "execute and submit cannot be called while a command is being applied: it would wait for itself"
    )]
    Reentrant,
    /// The command could not be written, for want of room on the disk or of file descriptors, say.
    /// It left no trace, and nothing is in doubt: once the cause is mended, commands are accepted
    /// again. [`Health::Refusing`](crate::Health::Refusing) says so meanwhile.
    #[error(
        "the command was not accepted, since it could not be written: {reason}. Nothing was lost; \
         mend that, and execute it again"
    )]
    NotWritten {
        /// What failed, as a sentence.
        reason: Arc<str>,
    },
    /// The database was closed before the command was taken.
    #[error("the database is closed")]
    Stopped,
    /// An earlier write or sync failed. Whether this command is durable is not known before the
    /// next open, if it was in flight; if it came later, it left no trace.
    #[error("{0}")]
    Poisoned(#[source] Poisoned),
}

/// Why [`Database::try_submit`](crate::Database::try_submit) did not take a command.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TrySubmitError<C, R> {
    /// The queue is full; here is the command back.
    #[error("the command queue is full: try again later, or use submit, which waits")]
    Busy(C),
    /// The command cannot be taken at all.
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

/// Why [`Database::wait_for`](crate::Database::wait_for) returned before its sequence.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The time was up.
    #[error("sequence {wanted} was not reached in time; the newest version is {reached}")]
    TimedOut {
        /// The sequence waited for.
        wanted: u64,
        /// The newest readable version.
        reached: u64,
    },
    /// The database was closed and will never reach it.
    #[error("the database is closed at sequence {reached}, before {wanted}")]
    Stopped {
        /// The sequence waited for.
        wanted: u64,
        /// The last version.
        reached: u64,
    },
    /// The call came from inside a command's `apply` (or a waker run by the engine) and would wait
    /// for itself.
    #[error("wait_for cannot be called while a command is being applied: it would wait for itself")]
    Reentrant,
    /// A write or sync failed, so it will never be reached.
    #[error("{0}")]
    Poisoned(#[source] Poisoned),
}
