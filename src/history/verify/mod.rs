//! Owns the proof that today's code makes of the stored commands what was made of them once. Reads
//! a directory that nobody has open and changes nothing in it but its `LOCK`.

mod bisect;
mod determinism;
mod report;

pub use report::{Culprit, Divergence, Evidence, HistoryReport};

pub(crate) use determinism::replay_twice;

use bisect::{Pair, Parting, first_parting};
use report::name;
use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::bounded;
use xxhash_rust::xxh3::Xxh3Default;

use super::offline::OfflineHistory;
use super::replica::Replica;
use super::source::HistoryFiles;
use crate::error::Error;
use crate::files::{PackedFile, SNAPSHOT_MAGIC, position};
use crate::journal::{Record, StreamedFile};
use crate::model::{Model, REDACTED_TAG, model_name};
use crate::process::stack;
use crate::recovery::KnownChain;
use crate::snapshot::{check, decode_snapshot, encode_model};
use crate::storage::HeldDisk;

/// Replays the stored history of the closed database in the directory `path` with today's code,
/// from the oldest stored snapshot from which on commands are stored (that of the initial model, if
/// the history is complete), and compares the model with every stored snapshot on the way: by the
/// digest of its encoding, or, where `Model::VERSION` has changed since, by that of the stored model
/// after [`migrate`](Model::migrate). So a refactoring is proved to have changed nothing: for all
/// that was ever accepted, and with the model's `Serialize` as judge.
///
/// Where they part, the report names the sequences in between which it happened, and the command
/// where that is proved: by itself when it is refused now, or when it stands alone between two
/// snapshots, or when replay is not deterministic. [`verify_against`] finds it in any case, but
/// needs the former code.
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
/// [`Error::Locked`] when somebody has the database open. [`Error::Corrupt`], [`Error::Missing`]
/// and [`Error::ForeignFile`] when its files are damaged, missing or mixed; [`Error::UnknownTag`],
/// [`Error::RenumberedTag`], [`Error::WrongVersion`] and [`Error::Undecodable`] when this program
/// does not know what is stored.
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
/// by side: `Old`, the former release's model and commands, kept in a test, and `New`, today's. At
/// every stored snapshot's sequence and at the end both models are compared by `equal`; where they
/// are not equal, the two nearest such places are bisected, and the report names a command before
/// which the models are equal and after which they are not.
///
/// Both begin with the oldest stored snapshot from which on commands are stored, each by its own
/// decoding or [`migrate`](Model::migrate). Both have the model name that the files state: give it
/// in `commands!`, as in `OldBank = "Bank" { … }`, where the types are called otherwise.
///
/// # Errors
/// As of [`verify_history`]; [`Error::ReplayDiverged`] when `Old` refuses a stored command.
pub fn verify_against<Old: Model, New: Model>(
    path: impl AsRef<Path>,
    equal: impl Fn(&Old, &New) -> bool,
) -> Result<HistoryReport, Error> {
    let path = path.as_ref();
    // What compares may be bound to this thread, the models want one with a stack of known size.
    let (answers, answered) = bounded(1);
    let verify = |ask: &dyn Fn((Old, New))| {
        let offline =
            OfflineHistory::open(Arc::new(HeldDisk::default()), path, model_name::<New>())?;
        let differ = |old: &Old, new: &New| {
            ask((old.clone(), new.clone()));
            // Nobody answers when `equal` has panicked, which is what comes out in the end.
            answered.recv().map_err(|_| Error::Stopped)
        };
        let report = verify_both(&Verification::of(&offline.files)?, &differ)?;
        offline.close()?;
        Ok(report)
    };
    let compare = |(old, new): (Old, New)| answers.send(!equal(&old, &new)).unwrap_or(());
    stack::run_telling(verify, compare).map_err(Error::io("start a thread to read", path))?
}

/// As [`verify_history`], in a directory that is locked.
pub(crate) fn verify_files<M: Model>(files: &Arc<HistoryFiles>) -> Result<HistoryReport, Error> {
    verify_alone::<M>(&Verification::of(files)?)
}

/// What a verification goes along.
struct Verification<'a> {
    pub(super) files: &'a Arc<HistoryFiles>,
    /// The snapshot that replay begins with.
    begin: PackedFile,
    /// Those behind it, oldest first.
    pub(super) snapshots: Vec<(u64, PathBuf)>,
    /// How many have no commands behind them.
    unreachable: u64,
}

/// What ended a replay early.
enum Ended {
    Refused(Culprit, String),
    /// The models were not equal at this sequence.
    Differs(u64),
}

impl<'a> Verification<'a> {
    fn of(files: &'a Arc<HistoryFiles>) -> Result<Self, Error> {
        let oldest_command = files.oldest_command()?.unwrap_or(files.newest + 1);
        let mut snapshots = files.snapshots()?;
        let all = snapshots.len();
        snapshots.retain(|(sequence, _)| sequence + 1 >= oldest_command);
        let unreachable = position(all - snapshots.len());
        if snapshots.is_empty() {
            let reason = "no stored snapshot has the stored commands behind it".to_owned();
            return Err(Error::Missing { path: files.directory.snapshots.clone(), reason });
        }
        let (sequence, path) = snapshots.remove(0);
        Ok(Self { files, begin: open_snapshot(files, sequence, &path)?, snapshots, unreachable })
    }

    fn report(&self) -> HistoryReport {
        let begins = self.begin.footer.sequence;
        HistoryReport {
            begins,
            sequence: begins,
            snapshots_unreachable: self.unreachable,
            ..HistoryReport::default()
        }
    }

    /// A replica that begins with the oldest snapshot.
    fn load<M: Model>(&self) -> Result<Replica<M>, Error> {
        let PackedFile { header, footer, .. } = &self.begin;
        let model = decode_snapshot(&self.begin)?;
        Ok(Replica::new(self.files.database, model, footer.sequence, header.time_ns))
    }

    /// Whether the replayed model is the one that was stored. `chain`: that of the commands up to
    /// there; `None` where no batch ends there.
    fn is_as_stored<M: Model>(
        &self,
        model: &M,
        (sequence, path): &(u64, PathBuf),
        chain: Option<u32>,
        commands: &Path,
    ) -> Result<bool, Error> {
        let file = open_snapshot(self.files, *sequence, path)?;
        let stated = file.footer.chain;
        if chain != Some(stated) {
            let source = path.clone();
            // It may be the commands that are of another history.
            self.files.prove(KnownChain { sequence: *sequence, chain: stated, source })?;
            let chain =
                chain.map_or("no batch that ends".to_owned(), |of| format!("chain {of:08x}"));
            let expected = format!("{chain} at sequence {sequence}, as in {}", commands.display());
            return Err(Error::corrupt(path, 76, expected, format!("{stated:08x}")));
        }
        let replayed = digest(model)?;
        if file.header.model_version == M::VERSION && file.footer.digest == replayed {
            return Ok(true);
        }
        Ok(digest(&decode_snapshot::<M>(&file)?)? == replayed)
    }

    /// Shows every command to `apply`, until it says what ends the replay.
    fn replay(
        &self,
        report: &mut HistoryReport,
        mut apply: impl FnMut(
            &Arc<StreamedFile>,
            u64,
            &Record<'_>,
            Option<u32>,
        ) -> Result<Option<Ended>, Error>,
    ) -> Result<Option<Ended>, Error> {
        let mut ended = None;
        let PackedFile { footer, path, .. } = &self.begin;
        let (sequence, chain, source) = (footer.sequence, footer.chain, path.clone());
        let known = KnownChain { sequence, chain, source };
        let mut frames = self.files.frames(sequence + 1, Some(known))?;
        frames.each_chained_record(|file, sequence, record, chain| {
            ended = apply(file, sequence, record, chain)?;
            if matches!(ended, Some(Ended::Refused(..))) {
                return Ok(ControlFlow::Break(()));
            }
            report.sequence = sequence;
            report.commands_replayed += 1;
            report.commands_redacted += u64::from(record.tag == REDACTED_TAG);
            Ok(if ended.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(ended)
    }

    fn divergence(&self, parting: Parting, evidence: Evidence) -> Result<Divergence, Error> {
        let Parting { after, at } = parting;
        let (mut culprit, mut commands) = (None, BTreeMap::<String, u64>::new());
        if at > after {
            self.files.frames(after + 1, None)?.each_record(|file, sequence, record| {
                *commands.entry(name(file, record.tag).to_owned()).or_default() += 1;
                if at - after == 1 {
                    culprit = Some(Culprit::of(file, sequence, record));
                }
                let done = sequence == at;
                Ok(if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
        }
        let commands = commands.into_iter().collect();
        Ok(Divergence { after, at, evidence, culprit, commands })
    }

    fn refused(&self, after: u64, culprit: Culprit, reason: String) -> Result<Divergence, Error> {
        let parting = Parting { after, at: culprit.sequence };
        let divergence = self.divergence(parting, Evidence::Refused(reason))?;
        Ok(Divergence { culprit: Some(culprit), ..divergence })
    }
}

fn open_snapshot(files: &HistoryFiles, sequence: u64, path: &Path) -> Result<PackedFile, Error> {
    let file = check(PackedFile::open(&*files.storage, path, SNAPSHOT_MAGIC)?, sequence)?;
    files.check_identity(&file.path, &file.header)?;
    Ok(file)
}

/// Replays with one program, from stored snapshot to stored snapshot.
fn verify_alone<M: Model>(verification: &Verification<'_>) -> Result<HistoryReport, Error> {
    let mut report = verification.report();
    let mut replica = verification.load::<M>()?;
    let mut agreed = pair(&replica, &replica);
    let mut stored = verification.snapshots.iter().peekable();
    let mut compared = 0;
    let ended = verification.replay(&mut report, |file, sequence, record, chain| {
        if let Some(refused) = refusal(replica.apply(file, record), file, record)? {
            return Ok(Some(refused));
        }
        let Some(snapshot) = stored.next_if(|(stored, _)| *stored == sequence) else {
            return Ok(None);
        };
        compared += 1;
        if !verification.is_as_stored(&replica.replayed.model, snapshot, chain, &file.path)? {
            return Ok(Some(Ended::Differs(sequence)));
        }
        agreed = pair(&replica, &replica);
        Ok(None)
    })?;
    report.snapshots_compared = compared;
    report.divergence = match ended {
        None => None,
        Some(Ended::Refused(culprit, reason)) => {
            Some(verification.refused(agreed.sequence, culprit, reason)?)
        }
        Some(Ended::Differs(at)) => Some(between_snapshots(verification, agreed, at)?),
    };
    Ok(report)
}

/// What can be said of the commands between two snapshots, of which the first is as stored and the
/// second is not.
fn between_snapshots<M: Model>(
    verification: &Verification<'_>,
    agreed: Pair<M, M>,
    at: u64,
) -> Result<Divergence, Error> {
    let after = agreed.sequence;
    let differ = |left: &M, right: &M| Ok(digest(left)? != digest(right)?);
    // The same code twice: if that parts, it is not deterministic.
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
    let mut equal = pair(&old, &new);
    if differ(&equal.left, &equal.right)? {
        let parting = Parting { after: report.begins, at: report.begins };
        report.divergence = Some(verification.divergence(parting, Evidence::ModelsDiffer)?);
        return Ok(report);
    }
    let mut stored = verification.snapshots.iter().map(|(stored, _)| *stored).peekable();
    let (newest, mut compared) = (verification.files.newest, 0);
    let ended = verification.replay(&mut report, |file, sequence, record, _| {
        old.apply(file, record)?;
        if let Some(refused) = refusal(new.apply(file, record), file, record)? {
            return Ok(Some(refused));
        }
        let is_stored = stored.next_if_eq(&sequence).is_some();
        if !is_stored && sequence != newest {
            return Ok(None);
        }
        compared += u64::from(is_stored);
        let here = pair(&old, &new);
        if differ(&here.left, &here.right)? {
            return Ok(Some(Ended::Differs(sequence)));
        }
        equal = here;
        Ok(None)
    })?;
    report.snapshots_compared = compared;
    report.divergence = match ended {
        None => None,
        // It may be refused because of what an earlier one did.
        Some(Ended::Refused(culprit, reason)) => {
            let before = culprit.sequence - 1;
            Some(match first_parting(verification.files, equal, before, differ)? {
                Some(parting) => verification.divergence(parting, Evidence::ModelsDiffer)?,
                None => verification.refused(before, culprit, reason)?,
            })
        }
        Some(Ended::Differs(at)) => {
            let known = Parting { after: equal.sequence, at };
            let found = first_parting(verification.files, equal, at, differ)?;
            let parting = found.unwrap_or(known);
            Some(verification.divergence(parting, Evidence::ModelsDiffer)?)
        }
    };
    Ok(report)
}

fn pair<A: Model, B: Model>(left: &Replica<A>, right: &Replica<B>) -> Pair<A, B> {
    Pair {
        left: left.replayed.model.clone(),
        right: right.replayed.model.clone(),
        sequence: left.replayed.sequence,
        time_ns: left.replayed.time_ns,
    }
}

/// A command that does otherwise today is what is looked for; any other error is one.
fn refusal(
    applied: Result<(), Error>,
    file: &StreamedFile,
    record: &Record<'_>,
) -> Result<Option<Ended>, Error> {
    match applied {
        Ok(()) => Ok(None),
        Err(Error::ReplayDiverged { sequence, reason, .. }) => {
            Ok(Some(Ended::Refused(Culprit::of(file, sequence, record), reason)))
        }
        Err(error) => Err(error),
    }
}

/// The digest that a snapshot of this model states.
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
