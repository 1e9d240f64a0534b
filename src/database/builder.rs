//! Owns how a database is opened: the options one by one, and where a new one's model comes from.
//! Knows nothing of how the choices are carried out.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Database;
use crate::error::Error;
use crate::files::absolute;
use crate::model::Model;
use crate::options::{
    ArchivedSnapshots, Durability, Options, RecentVersions, Retention, SnapshotPolicy,
};
use crate::recovery::{Progress, ProgressCallback};
use crate::storage::{HeldDisk, Memory};

/// What stands at the root of a database in memory: no directory of that name is looked for.
const IN_MEMORY: &str = "<in memory>";
/// Nothing is gained there by large segments, and those that are prepared take room.
const LARGEST_SEGMENT_IN_MEMORY_BYTES: u64 = 1 << 20;

/// Where a new database's model comes from. Implemented by [`FromDefault`] and [`Given`].
pub trait InitialModel<M>: sealed::Sealed + Send + 'static {
    /// The model of an empty database.
    #[doc(hidden)]
    fn initial(self) -> M;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::FromDefault {}
    impl<M> Sealed for super::Given<M> {}
}

/// A new database starts from `M::default()`.
#[derive(Clone, Copy, Debug)]
pub struct FromDefault;

/// A new database starts from the model given to [`Builder::initial`].
#[derive(Clone, Debug)]
pub struct Given<M>(M);

impl<M: Default> InitialModel<M> for FromDefault {
    fn initial(self) -> M {
        M::default()
    }
}

impl<M: Send + 'static> InitialModel<M> for Given<M> {
    fn initial(self) -> M {
        self.0
    }
}

/// Opens a database with options; made by [`Database::builder`].
///
/// ```
/// # use prevalence::{Database, Durability, Model};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Default, Serialize, Deserialize)] struct Bank;
/// # impl Model for Bank { type Event = (); }
/// # prevalence::commands! { Bank {} }
/// # fn main() -> Result<(), prevalence::Error> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("bank.db");
/// let bank = Database::<Bank>::builder()
///     .durability(Durability::Interval(std::time::Duration::from_millis(50)))
///     .segment_bytes(16 << 20)
///     .on_progress(|progress| eprintln!("{} of {} bytes", progress.done, progress.total))
///     .open(path)?;
/// # bank.close()
/// # }
/// ```
#[must_use = "nothing is opened before `open` is called"]
pub struct Builder<M, I = FromDefault> {
    options: Options,
    initial: I,
    progress: ProgressCallback,
    model: std::marker::PhantomData<fn() -> M>,
}

impl<M: Model> Builder<M> {
    pub(crate) fn new() -> Self {
        Self {
            options: Options::default(),
            initial: FromDefault,
            progress: Box::new(|_| {}),
            model: std::marker::PhantomData,
        }
    }
}

impl<M: Model, I> Builder<M, I> {
    /// The model that a new database starts from, instead of `M::default()`. It is stored as
    /// snapshot 0; an existing database keeps the one it was made with.
    pub fn initial(self, model: M) -> Builder<M, Given<M>> {
        let Self { options, progress, model: marker, .. } = self;
        Builder { options, initial: Given(model), progress, model: marker }
    }

    /// When a command counts as done. Default: [`Durability::Sync`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.options.durability = durability;
        self
    }

    /// The most commands that share one frame and one sync, from 1 to 1,048,576. Default: 1,024.
    ///
    /// With pipelined callers, keep it well below the number of commands in flight: only then does
    /// the writer apply one batch while the one before is synced.
    pub fn max_batch_commands(mut self, commands: u32) -> Self {
        self.options.max_batch_commands = commands;
        self
    }

    /// The payload size in bytes at which a batch is closed, up to 32 MiB. Default: 1 MiB. A
    /// larger command makes a larger batch, which it ends.
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.options.max_batch_bytes = bytes;
        self
    }

    /// The most bytes that one encoded command may take, up to 64 MiB. Default: 16 MiB. A larger
    /// one is refused before it is journaled.
    pub fn max_command_bytes(mut self, bytes: usize) -> Self {
        self.options.max_command_bytes = bytes;
        self
    }

    /// How long a batch that is not full waits for more commands. Default: zero. Batches grow by
    /// themselves while the disk is busy; lingering trades latency for fewer syncs beyond that.
    /// With `Duration::MAX` a batch waits until it is full, the database is closed or it
    /// [fails](crate::Poisoned); `queue_bytes` must then leave room for a full batch and one command
    /// more.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.options.linger = linger;
        self
    }

    /// The most commands that wait in the queue, from 1 to 1,048,576; a caller beyond that waits,
    /// or is told `Busy`. Default: 8,192.
    pub fn queue_capacity(mut self, commands: usize) -> Self {
        self.options.queue_capacity = commands;
        self
    }

    /// The most encoded bytes that wait in the queue, including the batch being filled. Default:
    /// 64 MiB. A command larger than that passes alone, when nothing smaller is in the queue.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.options.queue_bytes = bytes;
        self
    }

    /// The size of a journal segment file in bytes, from 64 KiB to 4 GiB. Default: 64 MiB. After
    /// an open, segments start at 256 KiB (or this, if it is less) and double up to this size.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.options.segment_bytes = bytes;
        self
    }

    /// The zstd level of snapshots and archives; 0 stores snapshots uncompressed. Default: 1.
    pub fn compression_level(mut self, level: i32) -> Self {
        self.options.compression_level = level;
        self
    }

    /// How many threads of zstd's own compress a snapshot beside the one that encodes the model, from
    /// 0 to 64. Each takes a core that commits do not get, and memory: a few MiB at level 1, tens of
    /// MiB at the highest levels. Default: 0.
    pub fn compression_threads(mut self, threads: u32) -> Self {
        self.options.compression_threads = threads;
        self
    }

    /// When snapshots are taken in the background. Default: see [`SnapshotPolicy`].
    pub fn snapshots(mut self, policy: SnapshotPolicy) -> Self {
        self.options.snapshots = policy;
        self
    }

    /// What becomes of the journal behind the oldest snapshot that is kept. Default:
    /// [`Retention::Truncate`].
    pub fn retention(mut self, retention: Retention) -> Self {
        self.options.retention = retention;
        self
    }

    /// Which superseded snapshots go into the archive, under [`Retention::Archive`]; the others are
    /// removed. Default: [`ArchivedSnapshots::All`].
    pub fn archive_snapshots(mut self, archived: ArchivedSnapshots) -> Self {
        self.options.archived_snapshots = archived;
        self
    }

    /// How many snapshots are kept, from 1 to 1,024, with the journal back to the oldest of them.
    /// Default: 2, so that damage to the newest costs nothing but time.
    pub fn keep_snapshots(mut self, snapshots: usize) -> Self {
        self.options.keep_snapshots = snapshots;
        self
    }

    /// How many request ids are remembered, so that a request that is made again is not applied
    /// again ([`ExecuteError::Duplicate`](crate::ExecuteError::Duplicate)): those of the newest
    /// accepted commands that had one, from 0 (none) to 16,777,216. Together they take 64 bytes each
    /// at most: where they are longer, fewer are kept, but the newest always. The oldest is forgotten
    /// first. Default: 65,536.
    ///
    /// They stand in snapshots, and are the same after every start and crash. With another number at
    /// the next open: a smaller one forgets the oldest at once, a larger one does not bring back what
    /// was forgotten. Each takes its own length and about 100 bytes of memory.
    pub fn remembered_requests(mut self, requests: usize) -> Self {
        self.options.remembered_requests = requests;
        self
    }

    /// Which versions before the newest one are kept for [`Database::at`]. Default: 64 of them, for
    /// 10 s, over 1,024 commands; see [`RecentVersions`].
    pub fn recent_versions(mut self, recent: RecentVersions) -> Self {
        self.options.recent_versions = recent;
        self
    }

    /// Called on the opening thread while a snapshot is loaded and the journal is replayed.
    pub fn on_progress(mut self, callback: impl FnMut(Progress) + Send + 'static) -> Self {
        self.progress = Box::new(callback);
        self
    }

    /// Opens the database in the directory `path`, creating it if there is none.
    ///
    /// # Errors
    /// Any variant of [`Error`] that is about options, files, or what the program declares, and
    /// [`Error::Locked`]; `Poisoned` only where the model's `Clone` panics. An open that fails because of what it found has
    /// changed, deleted and overwritten nothing; at most it has created a `LOCK` file and empty
    /// directories. One that fails while it writes leaves what the next open accepts. A
    /// [`purge`](crate::purge()) that was interrupted is finished before anything else.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Database<M>, Error>
    where
        I: InitialModel<M>,
    {
        self.options.validate()?;
        let Self { options, initial, mut progress, .. } = self;
        let initial = || initial.initial();
        let path = absolute(path.as_ref())?;
        let storage = Arc::new(HeldDisk::default());
        Database::open_with(storage, &path, options, initial, &mut progress)
    }

    /// Opens a new database that is in memory alone: the same engine on files that are in memory
    /// too. All options work as they do on a disk, but a segment takes 1 MiB at most. Nothing
    /// touches the disk, unless [`backup`](Database::backup) is asked to; and all of it is gone
    /// when the last handle is. Paths in errors and figures begin with `<in memory>`.
    ///
    /// Besides the model, memory holds the journal since the oldest snapshot that is kept, those
    /// snapshots, and, under [`Retention::Archive`], every command for ever. So the journal is
    /// bounded by the snapshot policy as it is on a disk. For a short life
    /// [`SnapshotPolicy::manual`] saves their cost.
    ///
    /// # Errors
    /// [`Error::InvalidOption`]; [`Error::Encode`] when the initial model cannot be encoded, or
    /// [`Error::UnreadableModel`] when it cannot be decoded from that; [`Error::Io`] when a thread
    /// cannot be started.
    pub fn open_in_memory(mut self) -> Result<Database<M>, Error>
    where
        I: InitialModel<M>,
    {
        self.options.validate()?;
        let largest = LARGEST_SEGMENT_IN_MEMORY_BYTES;
        self.options.segment_bytes = self.options.segment_bytes.min(largest);
        let Self { options, initial, mut progress, .. } = self;
        let initial = || initial.initial();
        let storage = Arc::new(Memory::default());
        Database::open_with(storage, Path::new(IN_MEMORY), options, initial, &mut progress)
    }
}

impl<M, I> fmt::Debug for Builder<M, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { durability, max_batch_commands, segment_bytes, .. } = &self.options;
        f.debug_struct("Builder")
            .field("durability", durability)
            .field("max_batch_commands", max_batch_commands)
            .field("segment_bytes", segment_bytes)
            .finish_non_exhaustive()
    }
}
