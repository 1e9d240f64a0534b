//! Owns why a command has no output, or a caller no answer. Knows nothing of files.

use std::fmt;
use std::sync::Arc;

/// What every call says in the child of a fork.
pub(crate) const FORKED: &str = "this process was forked from the one that opened the database, and \
     only that one can use it: open databases after the fork, or exec another program right away";

/// The failure after which a database acknowledges nothing more: a write, a sync or a rename
/// failed, a command is not deterministic, or a thread of the engine panicked.
///
/// The last published version stays readable. Commands that were in flight got this error: each may
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
/// `R` is the command's own [`Rejection`](crate::Command::Rejection).
///
/// Each variant says whether the command left a trace: a change of the model, or a record in the
/// journal. Two may: [`Poisoned`](Self::Poisoned), and [`Reentrant`](Self::Reentrant) where
/// [`Pending::wait`](crate::Pending::wait) gives it. From
/// [`Database::submit`](crate::Database::submit) and `try_submit` themselves, no error means a
/// trace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteError<R> {
    /// The command refused, by its own rules; it left no trace. Answered only once every earlier
    /// command that the refusal may rest on is as durable as
    /// [`Durability`](crate::Durability) promises.
    #[error("the command was rejected: {0:?}")]
    Rejected(R),
    /// The command's `apply`, or its `Deserialize`, panicked. Its changes of the model were rolled
    /// back, so it left no trace.
    #[error("the command panicked and was rolled back: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The encoded command is larger than the limit. It was not applied and left no trace.
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
    /// The command could not be encoded. It was not applied and left no trace.
    #[error("cannot encode the command: {reason}; its Serialize implementation must accept it")]
    Encode {
        /// What the codec said.
        reason: String,
    },
    /// The command could not be read back from its own encoding. It was not applied and left no
    /// trace.
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
    /// [`Database::execute_if`](crate::Database::execute_if). It was not applied and left no trace.
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
    /// is as durable as if it had been answered now. This one was not applied and left no trace;
    /// what the first one did stands. Its output is not kept: read what came of it, if need be with
    /// [`Database::wait_for`](crate::Database::wait_for) its sequence.
    #[error(
        "a command with this request id was accepted at sequence {sequence}, so it was not applied \
         again; if this is another request, give it an id of its own"
    )]
    Duplicate {
        /// The sequence under which it was accepted.
        sequence: u64,
    },
    /// The call came from inside a command's `apply` (or a waker run by the engine) and would wait
    /// for itself. From [`Pending::wait`](crate::Pending::wait) it says nothing of the command,
    /// which was submitted before and goes on: it may leave a trace, and its answer is lost. From
    /// all else the command was not taken and left no trace.
    #[error(
        "no command can be executed, submitted or waited for while one is being applied: it would \
         wait for itself. Leave that to another thread"
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
    /// The database was closed before the command was taken; it left no trace.
    #[error("the database is closed")]
    Stopped,
    /// This process was forked from the one that opened the database, which alone may use it. The
    /// command was not taken and left no trace; one that had been submitted before the fork goes on
    /// in the parent.
    #[error("{FORKED}")]
    Forked,
    /// The database has [failed](Poisoned). A command that came later left no trace. One that was
    /// in flight may have left one: nobody knows before the next open. Refused commands get this,
    /// too, where the refusal rests on what may be lost.
    #[error("{0}")]
    Poisoned(#[source] Poisoned),
}

/// Why [`Database::try_submit`](crate::Database::try_submit) did not take a command. Whatever it
/// was, the command left no trace.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TrySubmitError<C, R> {
    /// The queue is full; here is the command back. It was not taken and left no trace.
    #[error("the command queue is full: try again later, or use submit, which waits")]
    Busy(C),
    /// The command cannot be taken at all. It left no trace, whatever the reason.
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

/// Why [`Database::wait_for`](crate::Database::wait_for) returned before its sequence. It waits for
/// commands and does nothing to them: none of these says what becomes of one.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The time was up. The sequence may still be reached.
    #[error("sequence {wanted} was not reached in time; the newest version is {reached}")]
    TimedOut {
        /// The sequence waited for.
        wanted: u64,
        /// The newest readable version.
        reached: u64,
    },
    /// The database was closed before it was reached.
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
    /// This process was forked from the one that opened the database, and nothing changes here.
    #[error("{FORKED}")]
    Forked,
    /// The database has [failed](Poisoned), so nobody who has it open will see that sequence. The
    /// next open may have come to it: what was in flight may be on disk.
    #[error("{0}")]
    Poisoned(#[source] Poisoned),
}
