//! Owns the model as it was: the nearest older snapshot, and the commands behind it. Knows nothing
//! of how the files of a history hang together.

use std::any::Any;
use std::fmt;
use std::ops::{ControlFlow, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::records::HistoryRecords;
use super::replica::Replica;
use super::source::HistoryFiles;
use crate::engine::{Version, View};
use crate::error::Error;
use crate::files::{FileHeader, PackedFile, SNAPSHOT_MAGIC};
use crate::model::{Model, time_ns};
use crate::process::{OpeningProcess, stack};
use crate::recovery::{DamagedSnapshot, KnownChain, Phase, Progress, ProgressCallback, Replayed};
use crate::snapshot::{check, decode_snapshot, snapshot_path, undecodable_as_current};

/// How often in a row all snapshots that were listed may turn out to be superseded and gone.
const MOST_RELISTINGS: u32 = 64;

/// How often the progress callback is called.
const PROGRESS_COMMANDS: u64 = 1 << 14;

/// What was accepted up to one moment; see [`Database::history`](crate::Database::history).
///
/// It keeps the database open as a handle does (after an explicit
/// [`close`](crate::Database::close) it goes on reading, without the lock), and ends with the newest
/// version that was readable when it was asked for, which it keeps in memory as a view does; ask anew
/// for what came later.
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

/// Takes what there is to tell of progress to the thread that asks.
pub(super) type Tell<'a> = &'a dyn Fn(Progress);

/// Which state is asked for.
#[derive(Clone, Copy)]
enum Goal {
    Sequence(u64),
    /// That of the last command that was not later, in nanoseconds since 1970.
    Time(u64, SystemTime),
}

impl<M: Model> History<M> {
    /// Of `files`, which end with the version `newest`. `keep_alive` is the database that was opened
    /// by `process`.
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

    /// Calls `callback` on the thread that asks, while a snapshot is loaded and commands are
    /// replayed.
    #[must_use]
    pub fn on_progress(self, callback: impl FnMut(Progress) + Send + 'static) -> Self {
        Self { progress: Mutex::new(Box::new(callback)), ..self }
    }

    /// The newest sequence of this history.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.files.newest
    }

    /// The sequence of the oldest stored command: 1 when the history is complete. One more than
    /// [`newest`](Self::newest) when there is none.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be read.
    pub fn oldest_record(&self) -> Result<u64, Error> {
        self.check_process()?;
        Ok(self.files.oldest_command()?.unwrap_or(self.files.newest + 1))
    }

    /// Locks may be held by nobody in the child of a fork.
    pub(super) fn check_process(&self) -> Result<(), Error> {
        if self.process.is_forked() { Err(Error::Forked) } else { Ok(()) }
    }

    /// The stored commands with these sequences, in order, as far as this history goes. They are
    /// read as the iterator goes on, with little memory; what is archived or moved meanwhile is
    /// found where it went.
    ///
    /// # Errors
    /// [`Error::HistoryTruncated`] when the first of them is not stored any more;
    /// [`Error::Corrupt`] and [`Error::Missing`] when files are damaged or missing,
    /// [`Error::RenumberedTag`] when a tag means another command today. The iterator gives the same
    /// for what it meets later.
    pub fn records(&self, range: impl RangeBounds<u64>) -> Result<HistoryRecords<M>, Error> {
        self.check_process()?;
        HistoryRecords::new(&self.files, &range)
    }

    /// The model as it was after the command with this sequence; 0 is the initial model. Costs
    /// loading the nearest older snapshot and replaying the commands behind it.
    ///
    /// A damaged snapshot is passed over for an older one, and noted in
    /// [`damaged_snapshots`](Self::damaged_snapshots).
    ///
    /// # Errors
    /// [`Error::NotReached`] beyond [`newest`](Self::newest); [`Error::HistoryTruncated`] when
    /// what is needed is not stored any more. [`Error::Corrupt`] and [`Error::Missing`] when files
    /// are damaged or missing; otherwise as of [`Builder::open`](crate::Builder::open) for what is
    /// read.
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

    /// The model as it was at this time: after the last command that was not later, by journaled
    /// time. Before the first command that is the initial model; after the last one, the newest
    /// version of this history.
    ///
    /// # Errors
    /// [`Error::TimeTruncated`] when what is needed is not stored any more; otherwise as of
    /// [`at`](Self::at).
    pub fn at_time(&self, time: SystemTime) -> Result<View<M>, Error> {
        if time >= self.newest.time() {
            return Ok(self.newest.clone());
        }
        self.check_process()?;
        self.state_on_known_stack(Goal::Time(time_ns(time), time))
    }

    /// Snapshots that [`at`](Self::at) and [`at_time`](Self::at_time) of this `History` found
    /// damaged and passed over. Nothing is lost while the commands behind an older one are there.
    #[must_use]
    pub fn damaged_snapshots(&self) -> Vec<DamagedSnapshot> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn tell(&self, progress: Progress) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)(progress);
    }

    fn state_on_known_stack(&self, goal: Goal) -> Result<View<M>, Error> {
        stack::run_telling(|tell| self.state(goal, tell), |progress| self.tell(progress))
            .map_err(Error::io("start a thread to read", &self.files.directory.root))?
    }

    fn state(&self, goal: Goal, tell: Tell<'_>) -> Result<View<M>, Error> {
        for _ in 0..MOST_RELISTINGS {
            let snapshots = self.files.snapshots()?;
            let oldest_record = self.oldest_record()?;
            // What has no commands behind it is of use as it stands only.
            let useful = |sequence: u64| {
                sequence + 1 >= oldest_record
                    || matches!(goal, Goal::Sequence(wanted) if wanted == sequence)
            };
            let useful = snapshots.iter().filter(|(sequence, _)| useful(*sequence));
            if let Some(found) = self.state_from(useful, goal, tell)? {
                return Ok(found);
            }
            // Snapshots and segments that were superseded meanwhile may have been all there was.
            if self.files.snapshots()? == snapshots && self.oldest_record()? == oldest_record {
                break;
            }
        }
        Err(self.truncated(goal)?)
    }

    /// `None` where none of the snapshots, oldest first, has the commands behind it.
    fn state_from<'a>(
        &self,
        snapshots: impl DoubleEndedIterator<Item = &'a (u64, PathBuf)>,
        goal: Goal,
        tell: Tell<'_>,
    ) -> Result<Option<View<M>>, Error> {
        let mut first_error = None;
        for (sequence, path) in snapshots.rev() {
            let error = match self.load(*sequence, path, goal, tell) {
                Ok(None) => continue,
                Ok(Some((replica, known))) => {
                    let source = known.source.clone();
                    match self.replay(replica, known, goal, tell) {
                        Err(Error::HistoryTruncated { .. }) => break,
                        Err(error) if is_of(&error, &source) => error, // another history's
                        replayed => return replayed.map(Some),
                    }
                }
                Err(error @ Error::Corrupt { .. }) => error,
                Err(error) if undecodable_as_current::<M>(&*self.files.storage, &error) => error,
                Err(error) => return Err(error),
            };
            self.note_damaged(path, &error);
            first_error.get_or_insert(error);
        }
        first_error.map_or(Ok(None), Err)
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
                    let kind = self.files.storage.kind(path).map_err(Error::io("examine", path))?;
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
            // The initial model is what there was at any time before the first command.
            if header.time_ns > wanted && sequence > 0 {
                return Ok(None);
            }
        }
        let file = PackedFile::open_beside_others(storage, path, SNAPSHOT_MAGIC)?;
        let file = check(file, sequence)?;
        self.files.check_identity(&file.path, &file.header)?;
        let total = file.file_bytes();
        tell(Progress { phase: Phase::Snapshot, done: 0, total });
        let model = decode_snapshot(&file)?;
        tell(Progress { phase: Phase::Snapshot, done: total, total });
        let replica = Replica::new(self.files.database, model, sequence, file.header.time_ns);
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
                // Where nothing proves the snapshot wrong, it is what there is.
                _ => Ok(view(replica, chain)),
            };
        }
        let mut frames = self.files.frames(begin + 1, Some(known))?;
        tell(Progress { phase: Phase::History, done: 0, total });
        frames.each_record(|file, sequence, record| {
            if sequence > last || matches!(goal, Goal::Time(wanted, _) if record.time_ns > wanted) {
                return Ok(ControlFlow::Break(()));
            }
            replica.apply(file, record)?;
            let done = sequence - begin;
            if done.is_multiple_of(PROGRESS_COMMANDS) {
                tell(Progress { phase: Phase::History, done, total });
            }
            Ok(ControlFlow::Continue(()))
        })?;
        tell(Progress { phase: Phase::History, done: total, total });
        chain = frames.chain().unwrap_or(chain);
        let sequence = replica.replayed.sequence;
        if matches!(goal, Goal::Sequence(_)) {
            assert_eq!(sequence, last, "frames follow from each other up to the newest");
        }
        Ok(view(replica, chain))
    }

    /// The oldest state that can be reached is that of the oldest sound snapshot from which on
    /// commands are stored.
    fn truncated(&self, goal: Goal) -> Result<Error, Error> {
        let snapshots = self.files.snapshots()?;
        let oldest_record = self.oldest_record()?;
        let storage = &*self.files.storage;
        let is_sound = |(sequence, path): &&(u64, PathBuf)| {
            let opened = PackedFile::open_beside_others(storage, path, SNAPSHOT_MAGIC);
            opened.is_ok_and(|file| check(file, *sequence).is_ok())
        };
        let mut reached = snapshots.iter().filter(|(sequence, _)| sequence + 1 >= oldest_record);
        let oldest = reached.find(is_sound).map_or(self.files.newest, |(sequence, _)| *sequence);
        let path = self.files.directory.root.clone();
        Ok(match goal {
            // It has come just now, or it has gone.
            Goal::Sequence(wanted) => {
                let oldest = if oldest > wanted { oldest } else { self.files.newest };
                Error::HistoryTruncated { path, wanted, oldest }
            }
            Goal::Time(_, wanted) => Error::TimeTruncated { path, wanted, oldest },
        })
    }

    fn note_damaged(&self, path: &Path, error: &Error) {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if damaged.iter().all(|known| known.path != path) {
            damaged.push(DamagedSnapshot { path: path.to_path_buf(), reason: error.to_string() });
        }
    }
}

/// Whether that is what the error is about.
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
