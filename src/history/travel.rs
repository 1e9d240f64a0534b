//! Owns the model as it was: the nearest older snapshot, and the commands behind it. Knows nothing
//! of how the files of a history follow each other.
//!
//! # What is tried again
//!
//! Files may be archived, moved and removed while they are read, and snapshots may be damaged. Each
//! of these functions calls the next one, and handles one case:
//!
//! - `state`: if no listed snapshot is of use and the directories have changed meanwhile, it lists
//!   them again, at most 64 times.
//! - `state_from`: if a snapshot is damaged or of another history, it notes that and tries the next
//!   older one. If the commands behind a snapshot are gone, it stops, because an older snapshot
//!   needs more commands.
//! - `load`: if the snapshot is gone, it looks in the archive, where superseded snapshots go.
//! - `replay`: if a segment or an archive is gone, `frames` looks for its sequence in another file.

use std::any::Any;
use std::fmt;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::records::HistoryRecords;
use super::replica::Replica;
use super::source::HistoryFiles;
use super::stored_commands::StoredCommand;
use crate::engine::{Version, View};
use crate::error::Error;
use crate::files::{FileHeader, PackedFile, SNAPSHOT_MAGIC, kind, snapshot_path};
use crate::model::{Model, time_ns};
use crate::mutex::lock;
use crate::process::{OpeningProcess, stack};
use crate::recovery::{
    ChangedTypes, DamagedSnapshot, KnownChain, Phase, Progress, ProgressCallback, Replayed,
};
use crate::snapshot::{check, decode_snapshot, undecodable_as_current};

/// How often in a row all listed snapshots may be superseded and gone when they are read.
const MOST_RELISTINGS: u32 = 64;

/// The number of commands between two calls of the progress callback.
const PROGRESS_COMMANDS: u64 = 1 << 14;

/// Everything that was accepted up to one moment; see
/// [`Database::history`](crate::Database::history).
///
/// It ends with the version that was the newest one when it was made. For later commands, call
/// [`Database::history`](crate::Database::history) again. It keeps that version in memory, as a
/// view does, and it keeps the database open, as a handle does. After an explicit
/// [`close`](crate::Database::close) it can still read, but without the lock.
pub struct History<M: Model> {
    /// Keeps the database open.
    _keep_alive: Arc<dyn Any + Send + Sync>,
    process: OpeningProcess,
    pub(super) files: Arc<HistoryFiles>,
    /// The version with which this history ends.
    newest: View<M>,
    progress: Mutex<ProgressCallback>,
    damaged: Mutex<Vec<DamagedSnapshot>>,
}

/// Sends progress to the calling thread, which calls the callback.
pub(super) type Tell<'a> = &'a dyn Fn(Progress);

/// What came of making the state from one snapshot.
enum Attempt<M> {
    Reached(View<M>),
    /// The snapshot is later than the wanted state, or was removed just now.
    NotOfUse,
    /// The commands behind the snapshot are no longer stored. So those behind an older one are not
    /// either.
    CommandsGone,
    /// The snapshot is damaged or of another history.
    Damaged(Error),
}

/// Which state the caller wants.
#[derive(Clone, Copy)]
enum Goal {
    Sequence(u64),
    /// The state after the last command that was not later, in nanoseconds since 1970 and as given.
    Time(u64, SystemTime),
}

impl<M: Model> History<M> {
    /// Makes the history of `files`, which ends with the version `newest`. `keep_alive` is the
    /// database, which `process` opened.
    pub(crate) fn new(
        files: HistoryFiles,
        newest: View<M>,
        process: OpeningProcess,
        keep_alive: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        let progress: ProgressCallback = Box::new(|_| {});
        Self {
            _keep_alive: keep_alive,
            process,
            files: Arc::new(files),
            newest,
            progress: Mutex::new(progress),
            damaged: Mutex::default(),
        }
    }

    /// Sets a callback for progress. It is called on the calling thread while a snapshot is loaded
    /// and commands are replayed.
    #[must_use]
    pub fn on_progress(self, callback: impl FnMut(Progress) + Send + 'static) -> Self {
        Self { progress: Mutex::new(Box::new(callback)), ..self }
    }

    /// Returns the newest sequence of this history.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.files.newest
    }

    /// Returns the sequence of the oldest stored command: 1 if the history is complete, and one
    /// more than [`newest`](Self::newest) if no command is stored.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory cannot be read.
    pub fn oldest_record(&self) -> Result<u64, Error> {
        self.check_process()?;
        Ok(self.files.oldest_command()?.unwrap_or(self.files.newest + 1))
    }

    /// Returns an error in the child of a fork, where a lock may stay locked for ever.
    pub(super) fn check_process(&self) -> Result<(), Error> {
        if self.process.is_forked() { Err(Error::Forked) } else { Ok(()) }
    }

    /// Returns the stored commands with these sequences, in order, up to the end of this history.
    /// The iterator reads them as it goes on, with little memory. If files are archived or moved
    /// meanwhile, it finds them in their new place.
    ///
    /// # Errors
    /// [`Error::HistoryTruncated`] if the first of these commands is no longer stored.
    /// [`Error::Corrupt`] and [`Error::Missing`] if files are damaged or missing.
    /// [`Error::RenumberedTag`] if a tag means another command today. The iterator returns the same
    /// errors for files that it reads later.
    pub fn records(&self, range: impl RangeBounds<u64>) -> Result<HistoryRecords<M>, Error> {
        self.check_process()?;
        HistoryRecords::new(&self.files, &range)
    }

    /// Returns the model as it was after the command with this sequence; 0 is the initial model.
    /// This loads the nearest older snapshot and replays the commands behind it.
    ///
    /// If a snapshot is damaged, an older one is used, and the damage is noted in
    /// [`damaged_snapshots`](Self::damaged_snapshots).
    ///
    /// # Errors
    /// [`Error::NotReached`] if the sequence is beyond [`newest`](Self::newest).
    /// [`Error::HistoryTruncated`] if the needed snapshot or commands are no longer stored.
    /// [`Error::Corrupt`] and [`Error::Missing`] if files are damaged or missing. Otherwise the
    /// errors of [`Builder::open`](crate::Builder::open) for the files that are read.
    pub fn at(&self, sequence: u64) -> Result<View<M>, Error> {
        let newest = self.files.newest;
        if sequence > newest {
            return Err(Error::NotReached { wanted: sequence, newest });
        }
        if sequence == newest {
            return Ok(self.newest.clone());
        }
        self.check_process()?;
        self.state_on_known_stack(Goal::Sequence(sequence))
    }

    /// Returns the model as it was at this time: after the last command whose journaled time is not
    /// later. For a time before the first command it is the initial model; for a time after the
    /// last one, the newest version of this history.
    ///
    /// # Errors
    /// [`Error::TimeTruncated`] if the needed snapshot or commands are no longer stored. Otherwise
    /// the errors of [`at`](Self::at).
    pub fn at_time(&self, time: SystemTime) -> Result<View<M>, Error> {
        if time >= self.newest.time() {
            return Ok(self.newest.clone());
        }
        self.check_process()?;
        self.state_on_known_stack(Goal::Time(time_ns(time), time))
    }

    /// Returns the damaged snapshots that [`at`](Self::at) and [`at_time`](Self::at_time) of this
    /// `History` found and did not use. Nothing is lost while the commands behind an older snapshot
    /// are stored.
    #[must_use]
    pub fn damaged_snapshots(&self) -> Vec<DamagedSnapshot> {
        lock(&self.damaged).clone()
    }

    pub(super) fn tell(&self, progress: Progress) {
        lock(&self.progress)(progress);
    }

    fn state_on_known_stack(&self, goal: Goal) -> Result<View<M>, Error> {
        stack::run_telling(|tell| self.state(goal, tell), |progress| self.tell(progress))
            .map_err(Error::io("start a thread to read", &self.files.directory.root))?
    }

    fn state(&self, goal: Goal, tell: Tell<'_>) -> Result<View<M>, Error> {
        for _ in 0..MOST_RELISTINGS {
            let snapshots = self.files.snapshots()?;
            let oldest_record = self.oldest_record()?;
            // A snapshot without commands behind it is of use only at its own sequence.
            let useful = |sequence: u64| {
                sequence + 1 >= oldest_record
                    || matches!(goal, Goal::Sequence(wanted) if wanted == sequence)
            };
            let useful = snapshots.iter().filter(|(sequence, _)| useful(*sequence));
            if let Some(found) = self.state_from(useful, goal, tell)? {
                return Ok(found);
            }
            // If the directories have not changed since they were listed, the answer is final.
            if self.files.snapshots()? == snapshots && self.oldest_record()? == oldest_record {
                break;
            }
        }
        Err(self.truncated(goal)?)
    }

    /// Makes the state from the newest of the snapshots that is of use. The snapshots are given
    /// oldest first. `None` if none of them is of use.
    fn state_from<'a>(
        &self,
        snapshots: impl DoubleEndedIterator<Item = &'a (u64, PathBuf)>,
        goal: Goal,
        tell: Tell<'_>,
    ) -> Result<Option<View<M>>, Error> {
        let mut first_error = None;
        for (sequence, path) in snapshots.rev() {
            match self.try_snapshot(*sequence, path, goal, tell)? {
                Attempt::Reached(view) => return Ok(Some(view)),
                Attempt::NotOfUse => {}
                Attempt::CommandsGone => break,
                Attempt::Damaged(error) => {
                    self.note_damaged(path, &error);
                    first_error.get_or_insert(error);
                }
            }
        }
        first_error.map_or(Ok(None), Err)
    }

    fn try_snapshot(
        &self,
        sequence: u64,
        path: &Path,
        goal: Goal,
        tell: Tell<'_>,
    ) -> Result<Attempt<M>, Error> {
        let (replica, known) = match self.load(sequence, path, goal, tell) {
            Ok(Some(loaded)) => loaded,
            Ok(None) => return Ok(Attempt::NotOfUse),
            // What is missing is something that the snapshot rests on.
            Err(error @ (Error::Corrupt { .. } | Error::Missing { .. })) => {
                return Ok(Attempt::Damaged(error));
            }
            Err(error) if undecodable_as_current::<M>(&*self.files.storage, &error) => {
                return Ok(Attempt::Damaged(error));
            }
            Err(error) => return Err(error),
        };
        let source = known.source.clone();
        match self.replay(replica, known, goal, tell) {
            Ok(view) => Ok(Attempt::Reached(view)),
            Err(Error::HistoryTruncated { .. }) => Ok(Attempt::CommandsGone),
            // The snapshot is of another history.
            Err(error) if is_of(&error, &source) => Ok(Attempt::Damaged(error)),
            Err(error) => Err(error),
        }
    }

    /// Loads a snapshot, unless it is later than the goal or was removed just now.
    fn load(
        &self,
        sequence: u64,
        path: &Path,
        goal: Goal,
        tell: Tell<'_>,
    ) -> Result<Option<(Replica<M>, KnownChain)>, Error> {
        if matches!(goal, Goal::Sequence(wanted) if sequence > wanted) {
            return Ok(None);
        }
        // A superseded snapshot moves into the archive.
        let moved = snapshot_path(&self.files.directory.archive, sequence);
        for path in [path, &moved] {
            match self.load_from(sequence, path, goal, tell) {
                Err(error) => {
                    let kind = kind(&*self.files.storage, path)?;
                    if kind.is_some() {
                        return Err(error);
                    }
                }
                loaded => return loaded,
            }
        }
        Ok(None)
    }

    fn load_from(
        &self,
        sequence: u64,
        path: &Path,
        goal: Goal,
        tell: Tell<'_>,
    ) -> Result<Option<(Replica<M>, KnownChain)>, Error> {
        let storage = &*self.files.storage;
        if let Goal::Time(wanted, _) = goal {
            let file = storage.open_to_read(path).map_err(Error::io("read", path))?;
            let (header, _) = FileHeader::read(path, SNAPSHOT_MAGIC, &*file)?;
            // The initial model is the state at any time before the first command.
            if header.time_ns > wanted && sequence > 0 {
                return Ok(None);
            }
        }
        let file = PackedFile::open_beside_others(storage, path, SNAPSHOT_MAGIC)?;
        let file = check(file, sequence)?;
        self.files.check_identity(&file.path, &file.header)?;
        let file = self.files.with_bases(file, PackedFile::open_beside_others)?;
        let total = file.chain().map(PackedFile::file_bytes).sum();
        tell(Progress { phase: Phase::Snapshot, done: 0, total });
        ChangedTypes::check_model::<M>(&self.files.schema_files(), &file)?;
        let model = decode_snapshot(&file)?;
        tell(Progress { phase: Phase::Snapshot, done: total, total });
        let replica = Replica::new(&self.files, model, sequence, file.header.time_ns);
        let known = KnownChain { sequence, chain: file.footer.chain, source: file.path };
        Ok(Some((replica, known)))
    }

    fn replay(
        &self,
        mut replica: Replica<M>,
        known: KnownChain,
        goal: Goal,
        tell: Tell<'_>,
    ) -> Result<View<M>, Error> {
        let (begin, mut chain) = (replica.replayed.sequence, known.chain);
        let last = match goal {
            Goal::Sequence(wanted) => wanted,
            Goal::Time(..) => self.files.newest,
        };
        let total = last - begin;
        if total == 0 {
            let source = known.source.clone();
            return match self.files.prove(known) {
                Err(error) if is_of(&error, &source) => Err(error),
                // Nothing proves that the snapshot is wrong, so it is used.
                _ => Ok(view(replica, chain)),
            };
        }
        let mut commands = self.files.commands(begin + 1, Some(known))?;
        tell(Progress { phase: Phase::History, done: 0, total });
        while let Some(StoredCommand { file, sequence, record, .. }) = commands.next()? {
            if sequence > last || matches!(goal, Goal::Time(wanted, _) if record.time_ns > wanted) {
                break;
            }
            replica.apply(file, &record)?;
            let done = sequence - begin;
            if done.is_multiple_of(PROGRESS_COMMANDS) {
                tell(Progress { phase: Phase::History, done, total });
            }
        }
        tell(Progress { phase: Phase::History, done: total, total });
        chain = commands.chain().unwrap_or(chain);
        let sequence = replica.replayed.sequence;
        if matches!(goal, Goal::Sequence(_)) {
            assert_eq!(sequence, last, "the frames reach to the newest sequence without a gap");
        }
        Ok(view(replica, chain))
    }

    /// Builds the error for a state that cannot be made. It names the oldest state that can be
    /// made: that of the oldest sound snapshot behind which commands are stored.
    fn truncated(&self, goal: Goal) -> Result<Error, Error> {
        let snapshots = self.files.snapshots()?;
        let oldest_record = self.oldest_record()?;
        let storage = &*self.files.storage;
        let is_sound = |(sequence, path): &&(u64, PathBuf)| {
            let opened = PackedFile::open_beside_others(storage, path, SNAPSHOT_MAGIC);
            let checked = opened.map_err(Error::from).and_then(|file| {
                let file = check(file, *sequence)?;
                self.files.with_bases(file, PackedFile::open_beside_others)
            });
            checked.is_ok_and(|file| file.chain().all(|file| file.verify_chunks().is_ok()))
        };
        let mut reached = snapshots.iter().filter(|(sequence, _)| sequence + 1 >= oldest_record);
        let oldest = reached.find(is_sound).map_or(self.files.newest, |(sequence, _)| *sequence);
        let path = self.files.directory.root.clone();
        Ok(match goal {
            // If the oldest state is not beyond `wanted`, files have come or gone meanwhile. The
            // newest version is in memory and can always be read.
            Goal::Sequence(wanted) => {
                let oldest = if oldest > wanted { oldest } else { self.files.newest };
                Error::HistoryTruncated { path, wanted, oldest }
            }
            Goal::Time(_, wanted) => Error::TimeTruncated { path, wanted, oldest },
        })
    }

    fn note_damaged(&self, path: &Path, error: &Error) {
        let mut damaged = lock(&self.damaged);
        if damaged.iter().all(|known| known.path != path) {
            damaged.push(DamagedSnapshot { path: path.to_path_buf(), reason: error.to_string() });
        }
    }
}

/// Whether the error is about that file.
fn is_of(error: &Error, file: &Path) -> bool {
    matches!(error, Error::Corrupt { path, .. } if path == file)
}

fn view<M: Model>(replica: Replica<M>, chain: u32) -> View<M> {
    let Replayed { model, sequence, time_ns, .. } = replica.replayed;
    View::of(Version::written(model, sequence, time_ns, chain))
}

impl<M: Model> fmt::Debug for History<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("newest", &self.newest()).finish_non_exhaustive()
    }
}
