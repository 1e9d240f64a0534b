//! Owns the verification that replay with today's code reproduces the stored snapshots. Reads a
//! directory that nobody has open. Changes only its `LOCK`.
//!
//! - `determinism`: verifies that two replays with the same code make the same model
//! - `events`: compares the events that a command emits with the stored ones
//! - `bisect`: finds the command at which two replicas begin to differ
//! - `verification`: the stored files that a verification reads
//! - `running`: verifies the history of an open database
//! - `report`: what a verification reports

mod bisect;
mod determinism;
mod events;
mod report;
mod running;
mod verification;

pub use report::{Culprit, Divergence, Evidence, HistoryReport};

pub(crate) use determinism::replay_twice;

use bisect::{Pair, Parting, first_parting};
use std::io;
use std::path::Path;
use std::sync::Arc;
use verification::Verification;

use crossbeam_channel::bounded;
use xxhash_rust::xxh3::Xxh3Default;

use super::offline::OfflineHistory;
use super::replica::Replica;
use super::source::HistoryFiles;
use super::stored_commands::StoredCommand;
use crate::engine::drop_events;
use crate::error::Error;
use crate::model::{Model, model_name};
use crate::process::stack;
use crate::snapshot::encode_model;
use crate::storage::HeldDisk;

/// Replays the stored history of the closed database in the directory `path` with today's code, and
/// compares the model with every stored snapshot on the way. So it can prove that a refactoring has
/// not changed what the commands do, for all commands that were ever accepted.
///
/// Replay begins with the oldest stored snapshot behind which all commands are stored; this is the
/// initial model if the history is complete. The models are compared by the digest of their
/// encoding. If `Model::VERSION` has changed since a snapshot was stored, that snapshot is decoded
/// with [`migrate`](Model::migrate) and encoded again before it is compared.
///
/// If replay and a snapshot differ, the report names the two sequences between which the difference
/// begins. It also names the command if it can prove which one it is: if the command is refused
/// now, if it is the only one between two snapshots, or if replay is not deterministic.
/// [`verify_against`] finds the command in any case, but needs the former code.
///
/// ```no_run
/// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)] struct Bank;
/// # impl prevalence::Model for Bank { type Event = (); }
/// # prevalence::commands! { Bank {} }
/// let report = prevalence::verify_history::<Bank>("bank.db")?;
/// if let Some(divergence) = report.divergence {
///     eprintln!("{divergence}");
/// }
/// # Ok::<(), prevalence::Error>(())
/// ```
///
/// # Errors
/// [`Error::Locked`] if the database is open somewhere. [`Error::Corrupt`], [`Error::Missing`] and
/// [`Error::ForeignFile`] if its files are damaged, missing or mixed with another database's.
/// [`Error::UnknownTag`], [`Error::RenumberedTag`], [`Error::WrongVersion`] and
/// [`Error::Undecodable`] if this program does not know what is stored.
pub fn verify_history<M: Model>(path: impl AsRef<Path>) -> Result<HistoryReport, Error> {
    let path = path.as_ref();
    let verify = || {
        let offline = OfflineHistory::open(Arc::new(HeldDisk::default()), path, model_name::<M>())?;
        let report = verify_files::<M>(&offline.files)?;
        offline.close()?;
        Ok(report)
    };
    stack::run(verify).map_err(Error::io("start a thread to read", path))?
}

/// Replays the stored history of the closed database in the directory `path` with two programs side
/// by side. `Old` is the model of the former release with its commands, kept in a test; `New` is
/// today's. The two models are compared with `equal` at the sequence of every stored snapshot and
/// at the end. If they are not equal, the commands since the last comparison are bisected. The
/// report then names a command before which the models are equal and after which they are not.
///
/// Both begin with the oldest stored snapshot behind which all commands are stored. Each decodes it
/// with its own code, or its own [`migrate`](Model::migrate). Both must have the model name that
/// the files state. If a type has another name, write the model name in `commands!`, as in `OldBank
/// = "Bank" { … }`.
///
/// # Errors
/// The errors of [`verify_history`], and [`Error::ReplayDiverged`] if `Old` refuses a stored
/// command.
pub fn verify_against<Old: Model, New: Model>(
    path: impl AsRef<Path>,
    equal: impl Fn(&Old, &New) -> bool,
) -> Result<HistoryReport, Error> {
    let path = path.as_ref();
    // `equal` may be bound to this thread, but the models need a thread with a stack of known size.
    let (answers, answered) = bounded(1);
    let verify = |ask: &dyn Fn((Old, New))| {
        let offline =
            OfflineHistory::open(Arc::new(HeldDisk::default()), path, model_name::<New>())?;
        let differ = |old: &Old, new: &New| {
            ask((old.clone(), new.clone()));
            // Nobody answers if `equal` has panicked. In that case this error is dropped, and the
            // panic goes on.
            answered.recv().map_err(|_| Error::Stopped)
        };
        let report = verify_both(&Verification::of(&offline.files)?, &differ)?;
        offline.close()?;
        Ok(report)
    };
    let compare = |(old, new): (Old, New)| answers.send(!equal(&old, &new)).unwrap_or(());
    stack::run_telling(verify, compare).map_err(Error::io("start a thread to read", path))?
}

/// Does the same as [`verify_history`], in a directory that is already locked.
pub(crate) fn verify_files<M: Model>(files: &Arc<HistoryFiles>) -> Result<HistoryReport, Error> {
    verify_alone::<M>(&Verification::of(files)?)
}

/// A stored command that today's code does not accept, and why.
struct Refusal {
    culprit: Culprit,
    reason: String,
}

/// Replays with one program, from stored snapshot to stored snapshot.
fn verify_alone<M: Model>(verification: &Verification<'_>) -> Result<HistoryReport, Error> {
    let mut report = verification.report();
    let mut replica = verification.load::<M>()?;
    let mut agreed = Pair::of(&replica, &replica);
    let mut stored = verification.snapshots.iter().peekable();
    let mut commands = verification.commands()?;
    let mut emitted = Vec::new();
    while let Some(command) = commands.next()? {
        if let Some(refusal) = apply_and_emit(&mut replica, &command, &mut emitted)? {
            report.divergence = Some(verification.refused(agreed.sequence, refusal)?);
            break;
        }
        let difference = events::difference::<M>(&command, &emitted);
        if let Err(reason) = drop_events(&mut emitted) {
            let refusal = Refusal { culprit: Culprit::of(&command), reason };
            report.divergence = Some(verification.refused(agreed.sequence, refusal)?);
            break;
        }
        if let Some(how) = difference? {
            let parting = Parting { after: command.sequence - 1, at: command.sequence };
            report.divergence =
                Some(verification.divergence(parting, Evidence::EventsDiffer(how))?);
            break;
        }
        report.count(&command);
        let Some(snapshot) = stored.next_if(|(stored, _)| *stored == command.sequence) else {
            continue;
        };
        let StoredCommand { file, sequence: at, chain, .. } = command;
        let model = &replica.replayed.model;
        match verification.is_as_stored(model, snapshot, chain, &file.path)? {
            Some(true) => report.snapshots_compared += 1,
            // It was superseded and removed meanwhile.
            None => continue,
            Some(false) => {
                report.snapshots_compared += 1;
                report.divergence = Some(between_snapshots(verification, agreed, at)?);
                break;
            }
        }
        agreed = Pair::of(&replica, &replica);
    }
    Ok(report)
}

/// Describes the divergence between two snapshots: replay reproduces the first one and does not
/// reproduce the second one, which is at `at`.
fn between_snapshots<M: Model>(
    verification: &Verification<'_>,
    agreed: Pair<M, M>,
    at: u64,
) -> Result<Divergence, Error> {
    let after = agreed.sequence;
    let differ = |left: &M, right: &M| Ok(digest(left)? != digest(right)?);
    // Both replicas have the same code: if they differ, the code is not deterministic.
    match first_parting(verification.files, agreed, at, &differ)? {
        Some(parting) => verification.divergence(parting, Evidence::NotDeterministic),
        None => verification.divergence(Parting { after, at }, Evidence::SnapshotDiffers),
    }
}

/// Replays with both programs, side by side.
fn verify_both<Old: Model, New: Model>(
    verification: &Verification<'_>,
    differ: &dyn Fn(&Old, &New) -> Result<bool, Error>,
) -> Result<HistoryReport, Error> {
    let mut report = verification.report();
    let (mut old, mut new) = (verification.load::<Old>()?, verification.load::<New>()?);
    let mut equal = Pair::of(&old, &new);
    if differ(&equal.left, &equal.right)? {
        let parting = Parting { after: report.begins, at: report.begins };
        report.divergence = Some(verification.divergence(parting, Evidence::ModelsDiffer)?);
        return Ok(report);
    }
    let mut stored = verification.snapshots.iter().map(|(stored, _)| *stored).peekable();
    let mut commands = verification.commands()?;
    while let Some(command) = commands.next()? {
        old.apply(command.file, &command.record)?;
        if let Some(refusal) = apply(&mut new, &command)? {
            report.divergence = Some(before_refusal(verification, equal, refusal, differ)?);
            break;
        }
        report.count(&command);
        let at = command.sequence;
        let is_stored = stored.next_if_eq(&at).is_some();
        if !is_stored && at != verification.files.newest {
            continue;
        }
        report.snapshots_compared += u64::from(is_stored);
        let here = Pair::of(&old, &new);
        if differ(&here.left, &here.right)? {
            let known = Parting { after: equal.sequence, at };
            let found = first_parting(verification.files, equal, at, differ)?;
            let parting = found.unwrap_or(known);
            report.divergence = Some(verification.divergence(parting, Evidence::ModelsDiffer)?);
            break;
        }
        equal = here;
    }
    Ok(report)
}

/// Describes the divergence behind a refusal: a command may be refused because an earlier one did
/// something else.
fn before_refusal<Old: Model, New: Model>(
    verification: &Verification<'_>,
    equal: Pair<Old, New>,
    refusal: Refusal,
    differ: &dyn Fn(&Old, &New) -> Result<bool, Error>,
) -> Result<Divergence, Error> {
    let before = refusal.culprit.sequence - 1;
    match first_parting(verification.files, equal, before, differ)? {
        Some(parting) => verification.divergence(parting, Evidence::ModelsDiffer),
        None => verification.refused(before, refusal),
    }
}

/// Applies a command. A refusal is what a verification looks for; any other error ends it.
fn apply<M: Model>(
    replica: &mut Replica<M>,
    command: &StoredCommand<'_>,
) -> Result<Option<Refusal>, Error> {
    refusal_of(command, replica.apply(command.file, &command.record))
}

/// Applies as [`apply`], and appends the events that the command emits now to `emitted`.
fn apply_and_emit<M: Model>(
    replica: &mut Replica<M>,
    command: &StoredCommand<'_>,
    emitted: &mut Vec<M::Event>,
) -> Result<Option<Refusal>, Error> {
    refusal_of(command, replica.apply_and_emit(command.file, &command.record, emitted))
}

fn refusal_of(
    command: &StoredCommand<'_>,
    applied: Result<(), Error>,
) -> Result<Option<Refusal>, Error> {
    match applied {
        Ok(()) => Ok(None),
        Err(Error::ReplayDiverged { reason, .. }) => {
            Ok(Some(Refusal { culprit: Culprit::of(command), reason }))
        }
        Err(error) => Err(error),
    }
}

/// Computes the digest that a snapshot of this model would state.
fn digest<M: Model>(model: &M) -> Result<[u8; 16], Error> {
    let mut digest = Digest(Box::default());
    encode_model(model, &mut digest)
        .map_err(|reason| Error::Encode { what: "the model".to_owned(), reason })?;
    Ok(digest.0.digest128().to_le_bytes())
}

struct Digest(Box<Xxh3Default>);

impl io::Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
