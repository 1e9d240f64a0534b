//! Owns the errors that a user can get. Knows nothing of what causes them; `made` makes them of the
//! errors of lower folders.

mod made;
mod type_change;

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

pub use type_change::TypeChange;

use crate::execute_error::Poisoned;
use crate::files::{DatabaseId, FollowerKind, told};
use crate::import_report::ImportReport;

/// Why opening, closing or maintaining a database failed.
///
/// A message says what was found, where, and what to do next if anything can be done. If an open
/// fails because of what it found, it has not changed, deleted or overwritten any file.
/// [`Builder::open`](crate::Builder::open) says what it may have created.
///
/// Executing a command has its own error type: [`ExecuteError`](crate::ExecuteError).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operating-system call failed.
    #[error(fmt = told::io)]
    Io {
        /// What was being done, as a verb: "open", "sync", …
        action: &'static str,
        /// The file or directory that the call was made on.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The database path exists, but it is not a directory.
    #[error(fmt = told::not_a_directory)]
    NotADirectory {
        /// The path that the caller tried to open.
        path: PathBuf,
    },
    /// Another `Database`, in this process or another, has the directory open.
    #[error(
        "{} is already open, in this process or in another one. Close it there first. The lock \
         ends with the process that holds it, so there is no file to delete",
        path.display()
    )]
    Locked {
        /// The database directory.
        path: PathBuf,
    },
    /// A file does not hold what was written into it.
    #[error(fmt = told::corrupt)]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Byte position in that file.
        position: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A file that must exist is missing.
    #[error(fmt = told::missing)]
    Missing {
        /// The missing file.
        path: PathBuf,
        /// Why it must exist.
        reason: String,
    },
    /// A file belongs to another database.
    #[error(fmt = told::foreign_file)]
    ForeignFile {
        /// The file that does not belong here.
        path: PathBuf,
        /// The database id in the directory's MANIFEST.
        expected: DatabaseId,
        /// The database id in the file.
        found: DatabaseId,
    },
    /// The archive holds commands that the journal beside it also holds, or that contradict it. The
    /// archive comes from a copy of this database that accepted commands of its own.
    #[error(
        "{} holds commands up to sequence {end}, but the journal continues at {journal}. The \
         archive comes from a copy of this database that accepted commands of its own, or from a \
         later time. Move every archive file that reaches sequence {journal} or beyond out of this \
         directory; see docs::tuning, backups",
        path.display()
    )]
    ArchiveBeyondJournal {
        /// The archive file that reaches too far.
        path: PathBuf,
        /// The last sequence in the archive file.
        end: u64,
        /// The first sequence of the journal that follows it.
        journal: u64,
    },
    /// A file has a format version that this build of the crate cannot read.
    #[error(fmt = told::unsupported_format)]
    UnsupportedFormat {
        /// The file in question.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The version this build reads and writes.
        supported: u32,
    },
    /// A file was written with a codec that this build does not have.
    #[error(fmt = told::unsupported_codec)]
    UnsupportedCodec {
        /// The file in question.
        path: PathBuf,
        /// Its codec number.
        found: u32,
        /// The codec number this build reads and writes.
        supported: u32,
    },
    /// The directory holds a different model from the one that the program asked for.
    #[error(
        "{} holds model `{found}`, but the program opens it as model `{expected}`. Open it as \
         `{found}`. If the type was only renamed, write \
         `commands! {{ {expected} = \"{found}\" {{ … }} }}`",
        path.display()
    )]
    WrongModel {
        /// The file that names the other model.
        path: PathBuf,
        /// The name of the model that the program asked for.
        expected: String,
        /// The name of the model in the file.
        found: String,
    },
    /// A snapshot was written by another version of the model's type.
    #[error(
        "{} holds version {found} of model `{model}`, but this program has version {expected}. Run \
         the program version that wrote it, or write Model::migrate for version {found}",
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
    /// The type of the model was changed, but not [`Model::VERSION`](crate::Model::VERSION). Its
    /// snapshots would be misread.
    #[error(
        "{} holds version {version} of model `{model}`, and this program has the same version, but \
         its type was changed: {reason}. Raise Model::VERSION and decode the old type in \
         Model::migrate, or restore the type",
        path.display()
    )]
    ModelChanged {
        /// The snapshot in question.
        path: PathBuf,
        /// The model's name.
        model: String,
        /// `Model::VERSION` of this program, and of the one that wrote the snapshot.
        version: u32,
        /// What differs, and where.
        reason: String,
    },
    /// A snapshot is undamaged, but this program cannot decode its model from it.
    #[error(fmt = told::undecodable)]
    Undecodable {
        /// The snapshot in question.
        path: PathBuf,
        /// The message of the codec or of the migration.
        reason: String,
    },
    /// The model cannot be decoded from its own encoding. A snapshot or a copy of it would be of no
    /// use, so it was not kept.
    #[error(
        "the model cannot be decoded from its own encoding, which was written into {}: {reason}. \
         That file is not used. The database, its journal and its older snapshots did not change. \
         Make Serialize and Deserialize mirror each other: use no untagged, flatten or \
         skip_serializing_if, and no self-describing values such as serde_json::Value",
        path.display()
    )]
    UnreadableModel {
        /// The snapshot that was written and is not used.
        path: PathBuf,
        /// The codec's message.
        reason: String,
    },
    /// A command tag means another command now than when the journal was written.
    #[error(
        "{} has tag {tag} for command `{journaled}`, but the program's `commands!` has tag {tag} \
         for `{declared}`. A tag must keep its command for ever. If a newer release of the program \
         wrote the file, run that release. If not, give `{declared}` a new tag and restore `{tag} \
         => {journaled}`. If the type was only renamed, write `{tag} => {declared} = \
         \"{journaled}\"`",
        path.display()
    )]
    RenumberedTag {
        /// The segment or archive that names the other command.
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
        "{} holds command `{command}` with tag {tag} at sequence {sequence}, but `commands!` does \
         not list this tag. If a newer release of the program wrote the command, run that release. \
         If not, restore the type and the line `{tag} => {command}` (or `{tag} => {command} as \
         Successor`, with a `From` that converts it), and keep them for as long as the command is \
         stored",
        path.display()
    )]
    UnknownTag {
        /// The segment or archive that holds the command.
        path: PathBuf,
        /// The command's sequence.
        sequence: u64,
        /// The command's tag.
        tag: u16,
        /// The command's name when it was journaled.
        command: String,
    },
    /// On replay, a journaled command did not do what it did when it was accepted.
    #[error(
        "replay diverged at sequence {sequence}, command `{command}`: {reason}. The command was \
         accepted when it was journaled, so its code has changed or is not deterministic. Run the \
         program version that wrote the journal (see prevalence::docs::determinism)"
    )]
    ReplayDiverged {
        /// The command's sequence.
        sequence: u64,
        /// The command's name.
        command: String,
        /// What happened instead.
        reason: String,
    },
    /// The bytes of a stored command cannot be decoded as its type.
    #[error(
        "{} holds command `{command}` at sequence {sequence}, but this program cannot decode it: \
         {reason}. If its type was changed, keep the old type and write `tag => Old as {command}`",
        path.display()
    )]
    CommandUndecodable {
        /// The segment or archive that holds the command.
        path: PathBuf,
        /// The command's sequence.
        sequence: u64,
        /// The command's name when it was journaled.
        command: String,
        /// The codec's message.
        reason: String,
    },
    /// The type of a command was changed, but its tag was not. Its stored commands would be
    /// misread.
    #[error(
        "{} holds command `{command}` (tag {tag}) at sequence {sequence}, but its type was changed: \
         {}. It was stored as {}, and this program has {}. Give the new type a tag of its own and \
         keep the old type with tag {tag} (`{tag} => Old as New`), or restore the type",
        path.display(), change.reason, change.stored, change.present
    )]
    CommandChanged {
        /// The segment or archive that holds the command.
        path: PathBuf,
        /// The command's sequence.
        sequence: u64,
        /// The tag.
        tag: u16,
        /// The command's name when it was journaled.
        command: String,
        /// What was changed.
        change: Box<TypeChange>,
    },
    /// The stored events of a command cannot be decoded as the model's event type.
    #[error(
        "{} holds events of command `{command}` at sequence {sequence}, but this program cannot \
         decode them: {reason}. If their type was changed, raise Model::EVENT_VERSION and read the \
         old ones in Model::read_event",
        path.display()
    )]
    EventsUndecodable {
        /// The segment or archive that holds the events.
        path: PathBuf,
        /// The command's sequence.
        sequence: u64,
        /// The command's name when it was journaled.
        command: String,
        /// The codec's message, or that of the conversion.
        reason: String,
    },
    /// The events of a command were not stored, and no snapshot is left from which a replay could
    /// derive them. The command itself is stored.
    #[error(
        "the events of command {sequence} in {} were not stored, and cannot be derived: the oldest \
         state that can be made is that of sequence {oldest}. Keep more with Retention::Archive and \
         Builder::archive_snapshots, or store events",
        path.display()
    )]
    EventsNotDerivable {
        /// The database directory.
        path: PathBuf,
        /// The command's sequence.
        sequence: u64,
        /// The oldest state that can be made.
        oldest: u64,
    },
    /// The model onto which the history was projected refused a command that was accepted.
    #[error(
        "cannot project the history onto model `{model}`: command `{command}` at sequence \
         {sequence} failed: {reason}. A projection must accept every command in the history"
    )]
    ProjectionFailed {
        /// The name of the model onto which the history was projected.
        model: String,
        /// The command's sequence.
        sequence: u64,
        /// The command's name.
        command: String,
        /// What happened.
        reason: String,
    },
    /// The purge was refused: after it, replay would fail at a later command or at a replacement.
    #[error(
        "cannot purge: replaying the purged history fails at sequence {sequence}, command \
         `{command}`: {reason}. Nothing was changed. If later commands depend on a redacted \
         command, replace it instead of redacting it"
    )]
    PurgeRefused {
        /// The sequence of the command that fails.
        sequence: u64,
        /// The command's name.
        command: String,
        /// What happens.
        reason: String,
    },
    /// With this program, replaying the stored history does not reproduce the stored snapshots. So
    /// a purge would change more than it was asked to change.
    #[error(
        "cannot purge: with this program, replaying the history does not reproduce its snapshots: \
         {divergence}. Nothing was changed. Run the program version that made the snapshots, or \
         see prevalence::purge_unverified"
    )]
    HistoryDiverged {
        /// Where the states differ, and what shows it.
        divergence: String,
    },
    /// A purge found a file that it can neither rewrite nor leave in place.
    #[error(
        "cannot purge: {} does not belong to this database. Nothing was changed. Move it away \
         before purging",
        path.display()
    )]
    UnknownFile {
        /// The file or directory.
        path: PathBuf,
    },
    /// Directories of the database are exchanged for new ones, by a purge or by a backup into it,
    /// and that was interrupted after it was decided. The next open, purge or backup finishes it.
    #[error(
        "a purge of {} or a backup into it was interrupted while it exchanged directories for new \
         ones. Open the database once, or repeat the backup: that finishes the exchange",
        path.display()
    )]
    PurgeUnfinished {
        /// The database directory.
        path: PathBuf,
    },
    /// The stored history begins after the sequence that was asked for.
    #[error(
        "the history in {} does not reach back to sequence {wanted}; the oldest state that can be \
         read is that of sequence {oldest}. Commands older than the snapshots are kept only under \
         Retention::Archive, and only while the archive files are in place",
        path.display()
    )]
    HistoryTruncated {
        /// The database directory.
        path: PathBuf,
        /// The sequence asked for.
        wanted: u64,
        /// The oldest sequence that can be read.
        oldest: u64,
    },
    /// What was read of a database is not what its files hold now: a [`purge`](crate::purge()) has
    /// rewritten commands, or an older copy stands in the place of the database.
    #[error(
        "{} does not go on from what was read of it up to sequence {sequence}: {reason}. A purge \
         has rewritten its history, or another copy stands in its place. Open it again",
        path.display()
    )]
    HistoryRewritten {
        /// The database directory.
        path: PathBuf,
        /// The sequence up to which it was read.
        sequence: u64,
        /// What does not fit.
        reason: String,
    },
    /// The stored history begins after the time that was asked for.
    #[error(
        "the history in {} does not reach back to the time that was asked for; the oldest state \
         that can be read is that of sequence {oldest}. Commands older than the snapshots are kept \
         only under Retention::Archive, and only while the archive files are in place",
        path.display()
    )]
    TimeTruncated {
        /// The database directory.
        path: PathBuf,
        /// The time asked for.
        wanted: SystemTime,
        /// The oldest sequence that can be read.
        oldest: u64,
    },
    /// No command had this sequence when the history was asked for.
    #[error(
        "sequence {wanted} is not in this history, which ends with sequence {newest}. Call \
         history() again after the database has reached {wanted}"
    )]
    NotReached {
        /// The sequence asked for.
        wanted: u64,
        /// The newest sequence when the history was asked for.
        newest: u64,
    },
    /// The value of an option is not allowed.
    #[error(fmt = told::invalid_option)]
    InvalidOption {
        /// The builder method.
        option: &'static str,
        /// The value given.
        value: String,
        /// The rule that the value breaks.
        constraint: String,
    },
    /// A durable follower of this kind and name runs already in this process. Two of them would
    /// work on the same position.
    #[error("the {kind} `{name}` runs already. Close it first, or give this one another name")]
    FollowerRuns {
        /// What it is.
        kind: FollowerKind,
        /// Its name.
        name: String,
    },
    /// A durable follower cannot do what it was asked to do.
    #[error("the {kind} `{name}` cannot do this: {reason}")]
    FollowerRefuses {
        /// What it is.
        kind: FollowerKind,
        /// Its name.
        name: String,
        /// Why, and what to do instead.
        reason: String,
    },
    /// The model or a command could not be encoded.
    #[error(fmt = told::encode)]
    Encode {
        /// What was being encoded.
        what: String,
        /// The codec's message.
        reason: String,
    },
    /// The call came from inside a command's `apply` (or from a waker that the engine ran), so it
    /// would wait for itself. It did nothing.
    #[error(
        "this cannot be called while a command is being applied, because it would wait for itself. \
         Call it from another thread"
    )]
    Reentrant,
    /// The target of a backup or restore exists already and is not an empty directory.
    #[error(fmt = told::not_empty)]
    NotEmpty {
        /// The target.
        path: PathBuf,
    },
    /// A line of an [import](crate::Database::import) cannot be read, or is no command.
    #[error(
        "line {line} of the import: {reason}. The commands before it were executed, those from it on \
         were not. Correct it, and import from there on"
    )]
    ImportLine {
        /// Its number, counted from 1.
        line: u64,
        /// What is wrong.
        reason: String,
        /// What became of the lines before it.
        before: Box<ImportReport>,
    },
    /// A directory with an earlier backup is no part of the history of the database that is backed
    /// up: one of them has gone its own way, or a purge has changed it.
    #[error(
        "{} is a backup of another history of this database: {reason}. Nothing was changed there. \
         Use a new directory for the backup",
        path.display()
    )]
    OtherHistory {
        /// The directory of the backup.
        path: PathBuf,
        /// What shows it.
        reason: String,
    },
    /// A [`purge`](crate::purge()) erased the command, so nothing is left to decode.
    #[error(
        "the command at sequence {sequence} was erased by a purge. Ask HistoryRecord::is_redacted \
         first"
    )]
    Erased {
        /// The command's sequence.
        sequence: u64,
    },
    /// The [progress callback](crate::Builder::on_progress) has said that the open is to end.
    /// Nothing was changed, and the directory is unlocked.
    #[error("the open was ended by its progress callback. Open the database again")]
    Aborted,
    /// This process was forked from the one that opened the database, and only that one may use it.
    /// In the child every call returns this error, and dropping a handle changes nothing. `query`
    /// and `view` still read the version that was readable at the fork.
    #[error("{}", crate::execute_error::FORKED)]
    Forked,
    /// The database was closed before the call could do anything.
    #[error("the database is closed. Open it again")]
    Stopped,
    /// The database has [failed](Poisoned), in this call or before it. It acknowledges nothing
    /// more.
    #[error("{0}")]
    Poisoned(#[from] Poisoned),
}
