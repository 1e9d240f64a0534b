//! Owns the legal erasure of commands: it writes a new history without them, proves that the new
//! history replays, and puts it in the place of the old one. Knows nothing of a running database.
//!
//! - `action`: what a caller can ask for a command
//! - `decisions`: what the caller has asked for each command
//! - `survey`: the check that everything in the directory is known
//! - `followers`: what becomes of projections, and of commands that were put aside
//! - `rewrite`: writes the new history with its snapshots beside the old one
//! - `record`: the file that documents a purge

mod action;
mod decisions;
mod followers;
mod record;
mod rewrite;
mod survey;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use decisions::Decisions;
use record::{next_number, write_record};
use rewrite::{Rewritten, initial_snapshot, read_back, rewrite};

use crate::error::Error;
use crate::files::{Directory, exchange};
use crate::history::{HistoryRecord, OfflineHistory, verify_files};
use crate::journal::LARGEST_PAYLOAD_BYTES;
use crate::model::{Model, model_name, system_time};
use crate::process::stack;
use crate::storage::{HeldDisk, Storage};

pub use action::{PurgeAction, Replacement};
pub use record::{PurgeRecord, purge_records};

/// The report of a purge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgeReport {
    /// The newest sequence. A purge changes no sequence.
    pub sequence: u64,
    /// How many commands did not change.
    pub kept: u64,
    /// How many commands were replaced by other commands.
    pub replaced: u64,
    /// How many commands were erased. Their sequences and times are left.
    pub redacted: u64,
    /// How many commands, or replacements of commands, lost their metadata.
    pub metadata_dropped: u64,
    /// How many snapshots were made again.
    pub snapshots_recomputed: u64,
    /// How many [projections](crate::Projection) lost their checkpoints. Their next start builds
    /// them anew.
    pub projections_reset: u64,
    /// The file of the [`PurgeRecord`]; `None` if nothing had to be changed.
    pub record: Option<PathBuf>,
}

/// Erases commands, or data in commands, from the whole stored history of the closed database in
/// the directory `path`. It calls `decide` for every command that was ever accepted, and writes a
/// new archive, journal and snapshots without the erased data.
///
/// No sequence changes: an erased command leaves its sequence and its time. All later commands are
/// replayed after the changed ones, so the model may change too.
///
/// A purge does this, in this order:
///
/// 1. It reads all commands and calls `decide` for each.
/// 2. It [verifies](crate::verify_history) the old history, so that the purge changes only what the
///    caller asks for.
/// 3. It writes the new history beside the old one. Meanwhile it replays the new history from the
///    initial model, and makes every other stored snapshot again.
/// 4. It reads all new files back.
/// 5. It removes the checkpoints of [projections](crate::Projection) that hold the first changed
///    command: the next start builds these anew.
/// 6. It exchanges the directories, and removes the old files.
///
/// A crash leaves either the old history or the new one. If the exchange had begun, the next open
/// or purge finishes it. The purge documents itself in a [`PurgeRecord`], which holds the sequences
/// of the changed commands.
///
/// A purge does not touch the initial model (snapshot 0), backups, what [sinks](crate::Sink) have
/// stored in other databases, and what the file system and the
/// disk keep of removed files. See [`docs::limitations`](crate::docs::limitations).
///
/// ```
/// # use prevalence::{Command, Context, Database, Model, PurgeAction, Retention};
/// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
/// # struct Guests(Vec<String>);
/// # impl Model for Guests { type Event = (); }
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Arrive {
///     name: String,
/// }
/// # impl Command<Guests> for Arrive {
/// #     type Output = ();
/// #     type Rejection = std::convert::Infallible;
/// #     fn apply(self, guests: &mut Guests, _: &mut Context<'_, Guests>)
/// #         -> Result<(), Self::Rejection> { guests.0.push(self.name); Ok(()) }
/// # }
/// # prevalence::commands! { Guests { 1 => Arrive } }
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path();
/// # let guests = Database::<Guests>::builder().retention(Retention::Archive).open(path)?;
/// # for name in ["Ada", "Grace"] { guests.execute(Arrive { name: name.to_owned() })?; }
/// # guests.close()?;
/// let report = prevalence::purge::<Guests>(path, |record| {
///     match record.command::<Arrive>() {
///         Some(Ok(arrive)) if arrive.name == "Ada" => {
///             PurgeAction::replace(Arrive { name: "somebody".to_owned() })
///         }
///         _ => PurgeAction::Keep,
///     }
/// })?;
/// assert_eq!((report.replaced, report.kept), (1, 1));
///
/// let guests = Database::<Guests>::open(path)?;
/// assert_eq!(guests.query(|guests| guests.0.join(", ")), "somebody, Grace");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// - [`Error::PurgeRefused`] if a replacement, or a command behind a change, is refused. Nothing
///   was changed.
/// - [`Error::HistoryDiverged`] if the verification of the old history fails. Nothing was changed.
/// - [`Error::HistoryTruncated`] if the stored history does not begin with the initial model. Then
///   the oldest snapshot could still contain the erased data.
/// - [`Error::UnknownFile`] if the inner directories contain a file that this crate did not write.
/// - [`Error::Locked`] if the database is open somewhere.
/// - [`Error::Io`] if files cannot be written. The old history is still there; or, if the exchange
///   had begun, the next open finishes it.
/// - [`Error::FollowerRefuses`] if a reactor holds a dead letter of a changed command, or of one
///   behind it. Nothing was changed.
/// - Otherwise the errors of [`verify_history`](crate::verify_history).
pub fn purge<M: Model>(
    path: impl AsRef<Path>,
    decide: impl FnMut(&HistoryRecord<M>) -> PurgeAction<M>,
) -> Result<PurgeReport, Error> {
    purge_on(&(Arc::new(HeldDisk::default()) as _), path.as_ref(), VERIFIED, decide)
}

/// Does the same as [`purge`](crate::purge()), but does not verify the old history. It is meant for
/// models whose equal values have different encodings, such as a model with a randomly seeded map:
/// these cannot be verified. If this program replays the stored commands differently than the
/// program that accepted them, the difference becomes permanent.
///
/// # Errors
/// The errors of [`purge`](crate::purge()) except `HistoryDiverged`.
pub fn purge_unverified<M: Model>(
    path: impl AsRef<Path>,
    decide: impl FnMut(&HistoryRecord<M>) -> PurgeAction<M>,
) -> Result<PurgeReport, Error> {
    let how = How { verified: false, ..VERIFIED };
    purge_on(&(Arc::new(HeldDisk::default()) as _), path.as_ref(), how, decide)
}

/// The options of a purge.
#[derive(Clone, Copy)]
struct How {
    /// Whether the old history is verified.
    verified: bool,
    /// The largest payload of a frame.
    most_payload_bytes: usize,
}

const VERIFIED: How = How { verified: true, most_payload_bytes: LARGEST_PAYLOAD_BYTES };

fn purge_on<M: Model>(
    storage: &Arc<dyn Storage>,
    path: &Path,
    how: How,
    decide: impl FnMut(&HistoryRecord<M>) -> PurgeAction<M>,
) -> Result<PurgeReport, Error> {
    let mut offline = OfflineHistory::open_to_change(storage.clone(), path, model_name::<M>())?;
    let purged = purge_locked(&mut offline, how, decide);
    let closed = offline.close();
    let report = purged?; // if both have failed, the first error is returned
    closed?;
    Ok(report)
}

fn purge_locked<M: Model>(
    offline: &mut OfflineHistory,
    how: How,
    decide: impl FnMut(&HistoryRecord<M>) -> PurgeAction<M>,
) -> Result<PurgeReport, Error> {
    let files = offline.files.clone();
    let (storage, directory) = (&*files.storage, &files.directory);
    survey::check(storage, directory)?;
    let initial = initial_snapshot(&files)?;
    let decisions = Decisions::of::<M>(&files, decide)?;
    let mut report =
        PurgeReport { sequence: files.newest, kept: decisions.kept, ..PurgeReport::default() };
    let Some(first_changed) = decisions.first() else { return Ok(report) };
    followers::check(storage, directory, first_changed)?;
    let on_thread = |error| Error::io("start a thread to read", &directory.root)(error);
    if how.verified
        && let Some(divergence) =
            stack::run(|| verify_files::<M>(&files)).map_err(on_thread)??.divergence
    {
        return Err(Error::HistoryDiverged { divergence: divergence.to_string() });
    }
    let listed = offline.locked.manifest.current().snapshots.clone();
    let staged = exchange::stage(storage, directory).map_err(Error::from).and_then(|staged| {
        let bytes = how.most_payload_bytes;
        let rewriting = || rewrite::<M>(&files, &listed, &staged, &decisions, initial, bytes);
        let rewritten = stack::run(rewriting).map_err(on_thread)??;
        read_back(&files, &staged, &rewritten)?;
        let record = record_of(offline, &decisions, &rewritten)?;
        write_record(storage, directory, &staged, &record)?;
        directory.remove_stale_temporaries(storage)?;
        report.projections_reset = followers::reset_projections(storage, directory, first_changed)?;
        Ok((rewritten, record))
    });
    let (rewritten, record) = match staged {
        Ok(staged) => staged,
        Err(error) => {
            // The first error is returned. The next open removes leftovers that cannot be removed
            // here.
            exchange::remove_leftovers(storage, directory).ok();
            return Err(error);
        }
    };
    exchange::exchange(storage, directory, &mut offline.locked.manifest, |manifest| {
        (manifest.sequence, manifest.chain) = (files.newest, rewritten.chain);
        manifest.newest_segment = files.newest + 1;
    })?;
    let count = |sequences: &[u64]| crate::files::position(sequences.len());
    report.replaced = count(&record.replaced);
    report.redacted = count(&record.redacted);
    report.metadata_dropped = count(&record.metadata_dropped);
    report.snapshots_recomputed = rewritten.snapshots;
    report.record = Some(record::record_path(&directory.purges, record.number));
    Ok(report)
}

fn record_of(
    offline: &OfflineHistory,
    decisions: &Decisions,
    rewritten: &Rewritten,
) -> Result<PurgeRecord, Error> {
    let files = &offline.files;
    let Directory { purges, .. } = &files.directory;
    Ok(PurgeRecord {
        database: files.database,
        number: next_number(&*files.storage, purges)?,
        // With the precision of the file, so that the record is equal when it is read back.
        time: system_time(crate::model::time_ns(files.storage.now())),
        sequence: files.newest,
        kept: decisions.kept,
        chain_before: rewritten.chain_before,
        chain_after: rewritten.chain,
        replaced: decisions.replaced(),
        redacted: decisions.redacted(),
        metadata_dropped: decisions.metadata_dropped(),
    })
}
