//! Owns the errors a user can meet. Knows nothing of how they come about.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::execute_error::Poisoned;
use crate::files::{ChangeFailure, DatabaseId, StoreError, told};
use crate::storage::{PlaceLost, is_disk_full};

/// Why opening, closing or maintaining a database failed.
///
/// A message says what was found where, and what to do next where there is something to do. An open
/// that fails because of what it found has changed, deleted and overwritten no file; what it may
/// have made is in [`Builder::open`](crate::Builder::open).
///
/// None of these is about a command that was to be executed: see
/// [`ExecuteError`](crate::ExecuteError).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operating-system call failed.
    #[error(fmt = told::io)]
    Io {
        /// What was being done, as a verb: "open", "sync", …
        action: &'static str,
        /// The file or directory it was done to.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The database path names something that is not a directory.
    #[error(fmt = told::not_a_directory)]
    NotADirectory {
        /// The path that was to be opened.
        path: PathBuf,
    },
    /// Another `Database`, in this process or another, has the directory open.
    #[error(
        "{} is open already, in this process or another: close it there first (the lock goes with \
         its process, so there is no file to delete)",
        path.display()
    )]
    Locked {
        /// The database directory.
        path: PathBuf,
    },
    /// A file holds something else than what was written into it.
    #[error(fmt = told::corrupt)]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Byte position in that file.
        position: u64,
        /// What should stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A file that must be there is not.
    #[error(fmt = told::missing)]
    Missing {
        /// The file that was looked for.
        path: PathBuf,
        /// Why it must exist.
        reason: String,
    },
    /// A file belongs to another database.
    #[error(fmt = told::foreign_file)]
    ForeignFile {
        /// The file that does not belong here.
        path: PathBuf,
        /// The identity the directory's MANIFEST states.
        expected: DatabaseId,
        /// The identity found in the file.
        found: DatabaseId,
    },
    /// The archive holds commands that the journal beside it holds too, or otherwise: it is that of a
    /// copy of this database that went on by itself.
    #[error(
        "{} holds commands up to sequence {end}, but the journal goes on from {journal}: it is the \
         archive of a copy of this database that went on by itself, or from a later time. Move what \
         reaches to sequence {journal} or beyond out of this archive; see docs::tuning, backups",
        path.display()
    )]
    ArchiveBeyondJournal {
        /// The archive that reaches too far.
        path: PathBuf,
        /// The sequence it ends with.
        end: u64,
        /// The first sequence of the journal behind it.
        journal: u64,
    },
    /// A file was written by a version of this crate that this one cannot read.
    #[error(fmt = told::unsupported_format)]
    UnsupportedFormat {
        /// The file in question.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The version this build reads and writes.
        supported: u32,
    },
    /// A file was written with a codec this build does not have.
    #[error(fmt = told::unsupported_codec)]
    UnsupportedCodec {
        /// The file in question.
        path: PathBuf,
        /// Its codec number.
        found: u32,
        /// The codec number this build reads and writes.
        supported: u32,
    },
    /// The directory holds another model than the program asked for.
    #[error(
        "{} holds model `{found}`, but `{expected}` was to be opened: open it as `{found}`, or, if \
         the type was only renamed, write `commands! {{ {expected} = \"{found}\" {{ … }} }}`",
        path.display()
    )]
    WrongModel {
        /// The file that says so.
        path: PathBuf,
        /// The name of the model that was to be opened.
        expected: String,
        /// The name of the model in the file.
        found: String,
    },
    /// A snapshot was written by another version of the model's type.
    #[error(
        "{} holds version {found} of model `{model}`, the program has version {expected}: run the \
         program version that wrote it, or write Model::migrate for version {found}",
        path.display()
    )]
    WrongVersion {
        /// The snapshot in question.
        path: PathBuf,
        /// The model's name.
        model: String,
        /// `Model::VERSION` of this program.
        expected: u32,
        /// `Model::VERSION` of the program that wrote the snapshot.
        found: u32,
    },
    /// A snapshot is whole, but this program cannot make its model of it.
    #[error(fmt = told::undecodable)]
    Undecodable {
        /// The snapshot in question.
        path: PathBuf,
        /// What the codec or the migration said.
        reason: String,
    },
    /// The model was encoded, and cannot be decoded from that. So a snapshot or a copy of it would be
    /// of no use, and was not kept.
    #[error(
        "the model cannot be decoded from its own encoding, as written into {}: {reason}. That file \
         is not used; the database, its journal and its older snapshots are as they were. Make \
         Serialize and Deserialize mirror each other: nothing untagged, flattened or left out by \
         skip_serializing_if, and no self-describing values such as serde_json::Value",
        path.display()
    )]
    UnreadableModel {
        /// The snapshot that was written, and is not used.
        path: PathBuf,
        /// What the codec said.
        reason: String,
    },
    /// A command tag means another command than when the journal was written.
    #[error(
        "{} knows tag {tag} as command `{journaled}`, the program's `commands!` says `{declared}`: \
         a tag keeps its command for ever. If a newer release of the program wrote here, run that \
         one: this one cannot know what its commands mean. Else give `{declared}` a new tag and \
         restore `{tag} => {journaled}`, or, if the type was only renamed, write `{tag} => \
         {declared} = \"{journaled}\"`",
        path.display()
    )]
    RenumberedTag {
        /// The segment or archive that says so.
        path: PathBuf,
        /// The tag.
        tag: u16,
        /// The command's name when the segment was written.
        journaled: String,
        /// The command's name in this program.
        declared: String,
    },
    /// The journal or the archive holds a command that this program does not list in `commands!`.
    #[error(
        "{} holds, at sequence {sequence}, a command `{command}` with tag {tag} that `commands!` \
         does not list: restore the type and the line `{tag} => {command}` (or `{tag} => {command} \
         as Successor`, with a `From` that converts it), for as long as it is stored; if a newer \
         release of the program wrote it, run that one",
        path.display()
    )]
    UnknownTag {
        /// The segment or archive that holds the command.
        path: PathBuf,
        /// The command's sequence.
        sequence: u64,
        /// Its tag.
        tag: u16,
        /// Its name when it was journaled.
        command: String,
    },
    /// A journaled command did not do on replay what it did when it was accepted.
    #[error(
        "replay diverged at sequence {sequence}, command `{command}`: {reason}. It was accepted \
         when it was journaled, so its code changed or is not deterministic; run the program \
         version that wrote the journal (see prevalence::docs::determinism)"
    )]
    ReplayDiverged {
        /// The command's sequence.
        sequence: u64,
        /// The command's name.
        command: String,
        /// What happened instead.
        reason: String,
    },
    /// A stored command's bytes are not those of its type.
    #[error(
        "{} holds, at sequence {sequence}, a command `{command}` that this program cannot decode: \
         {reason}. Was its type changed? Keep the old one and write `tag => Old as {command}`",
        path.display()
    )]
    CommandUndecodable {
        /// The segment or archive that holds the command.
        path: PathBuf,
        /// The command's sequence.
        sequence: u64,
        /// Its name when it was journaled.
        command: String,
        /// What the codec said.
        reason: String,
    },
    /// A command that the model accepted was refused by the model that it was projected onto.
    #[error(
        "cannot project the history onto model `{model}`: at sequence {sequence}, command \
         `{command}`: {reason}. A projection must accept every command that was accepted"
    )]
    ProjectionFailed {
        /// The name of the model that was projected onto.
        model: String,
        /// The command's sequence.
        sequence: u64,
        /// The command's name.
        command: String,
        /// What happened.
        reason: String,
    },
    /// The history cannot be purged so: a later command, or a replacement, is refused then.
    #[error(
        "the history cannot be purged so: at sequence {sequence}, command `{command}`: {reason}. \
         Nothing was changed; replace commands where redacting them breaks what was built on them"
    )]
    PurgeRefused {
        /// The sequence of the command that is refused.
        sequence: u64,
        /// Its name.
        command: String,
        /// What happens.
        reason: String,
    },
    /// The stored history does not make the stored states with this program, so that a purge would
    /// change more than it is asked to.
    #[error(
        "the history is not purged, because already as it stands this program makes something else \
         of it: {divergence}. Nothing was changed; run the program version that made the snapshots, \
         or see prevalence::purge_unverified"
    )]
    HistoryDiverged {
        /// Where, and what shows it.
        divergence: String,
    },
    /// A purge came to a file that it can neither rewrite nor leave.
    #[error(
        "{} is no file of this database, and a purge must know what it leaves behind and what it \
         removes: nothing was changed; move it elsewhere first",
        path.display()
    )]
    UnknownFile {
        /// The file or directory.
        path: PathBuf,
    },
    /// A purge was interrupted after it had been decided: the next open, or purge, finishes it.
    #[error(
        "a purge of {} was interrupted, and is finished by the next open: open the database once",
        path.display()
    )]
    PurgeUnfinished {
        /// The database directory.
        path: PathBuf,
    },
    /// The stored history begins later.
    #[error(
        "the history in {} does not reach back to sequence {wanted}: the oldest that can be \
         reached is {oldest}. Commands behind snapshots are kept only under Retention::Archive, and \
         while nobody moves archives away",
        path.display()
    )]
    HistoryTruncated {
        /// The database directory.
        path: PathBuf,
        /// The sequence asked for.
        wanted: u64,
        /// The oldest sequence that can be asked for.
        oldest: u64,
    },
    /// The stored history begins after that time.
    #[error(
        "the history in {} does not reach back to that time: the oldest state that can be \
         reached is that of sequence {oldest}. Commands behind snapshots are kept only under \
         Retention::Archive, and while nobody moves archives away",
        path.display()
    )]
    TimeTruncated {
        /// The database directory.
        path: PathBuf,
        /// The time asked for.
        wanted: SystemTime,
        /// The oldest sequence that can be asked for.
        oldest: u64,
    },
    /// A sequence that no command has yet.
    #[error(
        "sequence {wanted} is not there yet: this history ends with {newest}; call history() \
         again once it was reached"
    )]
    NotReached {
        /// The sequence asked for.
        wanted: u64,
        /// The newest one there was when the history was asked for.
        newest: u64,
    },
    /// An option's value cannot work.
    #[error(fmt = told::invalid_option)]
    InvalidOption {
        /// The builder method.
        option: &'static str,
        /// The value given.
        value: String,
        /// What must hold.
        constraint: String,
    },
    /// The model or a command could not be encoded.
    #[error(fmt = told::encode)]
    Encode {
        /// What was being encoded.
        what: String,
        /// What the codec said.
        reason: String,
    },
    /// The call came from inside a command's `apply` (or a waker run by the engine) and would wait
    /// for itself. It has done nothing.
    #[error("this cannot be called while a command is being applied: it would wait for itself")]
    Reentrant,
    /// A backup or restore was to go where something is already.
    #[error(
        "{} is not an empty directory: a copy never replaces anything, so name a path where \
         nothing is",
        path.display()
    )]
    NotEmpty {
        /// The target that was named.
        path: PathBuf,
    },
    /// This process was forked from the one that opened the database, which alone may use it. In the
    /// child every call is this error, and dropping a handle changes nothing. What was readable can
    /// still be read by `query` and `view`.
    #[error("{}", crate::execute_error::FORKED)]
    Forked,
    /// The database was closed before the call could do anything.
    #[error("the database is closed")]
    Stopped,
    /// The database has [failed](Poisoned), by this call or before, so nothing more is
    /// acknowledged.
    #[error("{0}")]
    Poisoned(#[from] Poisoned),
}

impl Error {
    /// An adapter for `map_err` around one file operation.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }

    /// Whether the directory is not where it was when it was opened.
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
        Self::Corrupt {
            path: path.to_path_buf(),
            position,
            expected: expected.into(),
            found: found.into(),
        }
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
        }
    }
}

impl From<ChangeFailure> for Error {
    fn from(failure: ChangeFailure) -> Self {
        StoreError::from(failure).into()
    }
}
