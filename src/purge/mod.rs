//! Owns legal erasure: a stored history is written anew without what must not be stored any more,
//! proved to replay, and put in the place of the old one. Knows nothing of a running database.
//!
//! - `action`: what a caller may want to become of a command
//! - `decisions`: what is to become of which one
//! - `survey`: whether everything in the directory is known
//! - `rewrite`: the new history, with its snapshots, beside the old one
//! - `record`: what is written down of a purge

mod action;
mod decisions;
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

/// What a purge did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgeReport {
    /// The newest sequence. A purge changes no sequence.
    pub sequence: u64,
    /// Commands that stay as they are.
    pub kept: u64,
    /// Commands in whose places others stand now.
    pub replaced: u64,
    /// Commands of which nothing but the place is left.
    pub redacted: u64,
    /// Commands, or replacements, that stay without the metadata that was there.
    pub metadata_dropped: u64,
    /// Snapshots that were made anew.
    pub snapshots_recomputed: u64,
    /// The file that was written of it; `None` when nothing was to be changed, and nothing was.
    pub record: Option<PathBuf>,
}

/// Erases commands, or what stands in them, from the whole stored history of the closed database in
/// the directory `path`: asks `decide` about every command that was ever accepted, and writes
/// archive, journal and snapshots anew without what is to go.
///
/// Sequences do not shift: a redacted command leaves its place and its time. Everything behind a
/// changed command is replayed upon it, and the model becomes what it would have become.
///
/// In this order: all commands are read and decided on; the history as it stands is
/// [verified](crate::verify_history), so that nothing but what is asked for changes; the new
/// history is written beside the old one, replayed from the initial model while it is, and every
/// stored snapshot but that of the initial model is made anew from it; all of it is read back; then
/// the directories are exchanged, and the old files removed. A crash leaves the old history or the
/// new one: where the exchange had begun, the next open or purge finishes it. What was purged is
/// written down, as sequences, in a [`PurgeRecord`].
///
/// Not touched, and to be thought of: the initial model (snapshot 0), backups, and whatever file
/// system and disk keep of removed files. See [`docs::limitations`](crate::docs::limitations).
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
/// [`Error::PurgeRefused`] when a command is refused by the model as it would be then, and
/// [`Error::HistoryDiverged`] when the history as it stands is not verified: nothing was changed.
/// [`Error::HistoryTruncated`] when the stored history does not begin with the initial model: the
/// oldest snapshot may hold anything. [`Error::UnknownFile`] when something in the directories
/// inside is not of this crate. [`Error::Locked`] when somebody has the database open. Otherwise as
/// of [`verify_history`](crate::verify_history). [`Error::Io`] when files cannot be written:
/// the old history stands, or, where the exchange had begun, the next open finishes it.
pub fn purge<M: Model>(
    path: impl AsRef<Path>,
    decide: impl FnMut(&HistoryRecord<M>) -> PurgeAction<M>,
) -> Result<PurgeReport, Error> {
    purge_on(&(Arc::new(HeldDisk::default()) as _), path.as_ref(), VERIFIED, decide)
}

/// As [`purge`](crate::purge()), but the history is not verified before. For models whose encoding
/// is not the same each time, such as those with a randomly seeded map: to verify them is not
/// possible. Whatever else this program makes of the stored commands than what was made of them
/// once becomes the truth.
///
/// # Errors
/// As of [`purge`](crate::purge()), but for `HistoryDiverged`.
pub fn purge_unverified<M: Model>(
    path: impl AsRef<Path>,
    decide: impl FnMut(&HistoryRecord<M>) -> PurgeAction<M>,
) -> Result<PurgeReport, Error> {
    let how = How { verified: false, ..VERIFIED };
    purge_on(&(Arc::new(HeldDisk::default()) as _), path.as_ref(), how, decide)
}

/// How a purge goes about it.
#[derive(Clone, Copy)]
struct How {
    /// The history as it stands is verified before.
    verified: bool,
    /// What a frame may hold.
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
    let report = purged?; // the first error is the one to tell
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
    if decisions.is_empty() {
        return Ok(report);
    }
    let on_thread = |error| Error::io("start a thread to read", &directory.root)(error);
    if how.verified
        && let Some(divergence) =
            stack::run(|| verify_files::<M>(&files)).map_err(on_thread)??.divergence
    {
        return Err(Error::HistoryDiverged { divergence: divergence.to_string() });
    }
    let listed = offline.manifest.current().snapshots.clone();
    let staged = exchange::stage(storage, directory).map_err(Error::from).and_then(|staged| {
        let bytes = how.most_payload_bytes;
        let rewriting = || rewrite::<M>(&files, &listed, &staged, &decisions, initial, bytes);
        let rewritten = stack::run(rewriting).map_err(on_thread)??;
        read_back(&files, &staged, &rewritten)?;
        let record = record_of(offline, &decisions, &rewritten)?;
        write_record(storage, directory, &staged, &record)?;
        directory.remove_stale_temporaries(storage)?;
        Ok((rewritten, record))
    });
    let (rewritten, record) = match staged {
        Ok(staged) => staged,
        Err(error) => {
            // The first error is the one to tell; the next open removes what this cannot.
            exchange::remove_leftovers(storage, directory).ok();
            return Err(error);
        }
    };
    exchange::exchange(storage, directory, &mut offline.manifest, |manifest| {
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
        // As files hold it: what is read back is equal.
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
