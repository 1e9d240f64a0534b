//! Owns the builder that opens a database, and its options. Knows nothing of how the options are
//! carried out.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::Database;
use super::given::{FromDefault, Given, InitialModel, ProgressAnswer};
use crate::error::Error;
use crate::files::absolute;
use crate::model::Model;
use crate::options::{
    ArchivedSnapshots, Durability, Events, LoadModel, Options, RecentVersions, Retention,
    SnapshotPolicy,
};
use crate::read_only::{self, ReadOnly};
use crate::recovery::{Progress, ProgressCallback};
use crate::schema::Schema;
use crate::storage::{Clock, HeldDisk, Memory, ReadOnlyDisk};

/// The root path of a database in memory. It is only a name; no directory with this name is read.
const IN_MEMORY: &str = "<in memory>";
/// Large segments have no benefit in memory, and prepared segments take memory.
const LARGEST_SEGMENT_IN_MEMORY_BYTES: u64 = 1 << 20;

/// Opens a database with options. [`Database::builder`] makes it.
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
    clock: Clock,
    model: std::marker::PhantomData<fn() -> M>,
}

impl<M: Model> Builder<M> {
    pub(crate) fn new() -> Self {
        Self {
            options: Options::default(),
            initial: FromDefault,
            progress: Box::new(|_| {}),
            clock: Clock::default(),
            model: std::marker::PhantomData,
        }
    }
}

impl<M, I> Builder<M, I> {
    pub(super) fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }
}

impl<M: Model, I> Builder<M, I> {
    /// Sets the model that a new database starts from, instead of `M::default()`. The database
    /// stores it as snapshot 0. An existing database keeps the model it was created with.
    pub fn initial(self, model: M) -> Builder<M, Given<M>> {
        let Self { options, progress, clock, model: marker, .. } = self;
        Builder { options, initial: Given(model), progress, clock, model: marker }
    }

    /// Says what a type is, where it cannot be [found out](crate::schema): a type whose
    /// `Deserialize` refuses made-up values, for example. `T` is the model, its event, or a command
    /// of [`commands!`](crate::commands!) as it is stored. The database's files hold this schema, so
    /// that tools can read what is stored. The database itself decodes with the type, and compares
    /// only what it has found out.
    pub fn describe<T: 'static>(mut self, schema: Schema) -> Self {
        self.options.given_schemas.give::<T>(schema);
        self
    }

    /// Sets when a command is acknowledged. Default: [`Durability::Sync`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.options.durability = durability;
        self
    }

    /// Sets the largest number of commands that share one frame and one sync, from 1 to 1,048,576.
    /// Default: 1,024.
    ///
    /// With pipelined callers, keep it well below the number of commands in flight. Otherwise the
    /// writer cannot apply one batch while the batch before it is synced.
    pub fn max_batch_commands(mut self, commands: u32) -> Self {
        self.options.max_batch_commands = commands;
        self
    }

    /// Sets the payload size in bytes at which a batch is closed, at most 32 MiB. Default: 1 MiB. A
    /// larger command makes a larger batch, and it is the last command of that batch.
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.options.max_batch_bytes = bytes;
        self
    }

    /// Sets the largest size of one encoded command in bytes, at most 64 MiB. Default: 16 MiB. A
    /// larger command is refused before it is journaled.
    pub fn max_command_bytes(mut self, bytes: usize) -> Self {
        self.options.max_command_bytes = bytes;
        self
    }

    /// Sets how long a batch that is not full waits for more commands. Default: zero. Batches
    /// already grow while the disk is busy. A longer wait means fewer syncs and a higher latency.
    /// With `Duration::MAX` a batch waits until it is full, the database is closed, or the database
    /// [fails](crate::Poisoned). `queue_bytes` must then have room for a full batch and one more
    /// command.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.options.linger = linger;
        self
    }

    /// Sets the largest number of commands in the queue, from 1 to 1,048,576. When the queue is
    /// full, a caller waits or gets `Busy`. Default: 8,192.
    pub fn queue_capacity(mut self, commands: usize) -> Self {
        self.options.queue_capacity = commands;
        self
    }

    /// Sets the largest number of encoded bytes in the queue, including the batch that is being
    /// filled. Default: 64 MiB. A command that is larger than this passes alone, when nothing
    /// smaller is in the queue.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.options.queue_bytes = bytes;
        self
    }

    /// Sets the size of a journal segment file in bytes, from 64 KiB to 4 GiB. Default: 64 MiB.
    /// After an open, segments start at 256 KiB (or at this size, if it is smaller) and double up
    /// to this size.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.options.segment_bytes = bytes;
        self
    }

    /// Sets the zstd compression level of snapshots and archives. 0 stores snapshots uncompressed.
    /// Default: 1.
    pub fn compression_level(mut self, level: i32) -> Self {
        self.options.compression_level = level;
        self
    }

    /// Sets how many additional threads compress a snapshot, besides the thread that encodes the
    /// model, from 0 to 64. Each thread takes a core away from commits. It also takes memory: a
    /// few MiB at level 1, tens of MiB at the highest levels. Default: 0.
    pub fn compression_threads(mut self, threads: u32) -> Self {
        self.options.compression_threads = threads;
        self
    }

    /// Sets when snapshots are taken in the background. Default: see [`SnapshotPolicy`].
    pub fn snapshots(mut self, policy: SnapshotPolicy) -> Self {
        self.options.snapshots = policy;
        self
    }

    /// Sets what happens to the part of the journal that is older than the oldest kept snapshot.
    /// Default: [`Retention::Truncate`].
    pub fn retention(mut self, retention: Retention) -> Self {
        self.options.retention = retention;
        self
    }

    /// Sets which superseded snapshots go into the archive under [`Retention::Archive`]. The others
    /// are removed. Default: [`ArchivedSnapshots::All`].
    pub fn archive_snapshots(mut self, archived: ArchivedSnapshots) -> Self {
        self.options.archived_snapshots = archived;
        self
    }

    /// Sets how many snapshots are kept, from 1 to 1,024. The journal is kept back to the oldest of
    /// them. Default: 2. With 2, damage to the newest snapshot costs only time.
    ///
    /// A snapshot that rests on others counts as one with them, because damage to one of these
    /// files makes all that rest on it useless.
    pub fn keep_snapshots(mut self, snapshots: usize) -> Self {
        self.options.keep_snapshots = snapshots;
        self
    }

    /// Sets whether a snapshot may hold only what has changed in the model's large
    /// [`collections`](crate::collections) since the one before, and rest on that one. Default:
    /// true.
    ///
    /// Such a snapshot is written sooner and takes less room. In return the version of the last
    /// snapshot stays in memory, with what was changed or removed since: at most half as much as
    /// the collections take, or 16 MiB. If more than one snapshot is kept, the journal is kept back
    /// to one that rests on other files, so up to 64 MiB longer, or as long as the model is large.
    /// `share_snapshots(false)` makes every snapshot whole.
    pub fn share_snapshots(mut self, share: bool) -> Self {
        self.options.share_snapshots = share;
        self
    }

    /// Sets what becomes of the events that accepted commands [`emit`](crate::Context::emit).
    /// Default: [`Events::Stored`] if [`Model::Event`] is not `()`, otherwise [`Events::Off`].
    ///
    /// A change begins with the next segment of the journal. So
    /// [`HistoryRecord::events`](crate::HistoryRecord::events) knows of each command whether its
    /// events were stored. `Retention` decides how long events are kept, as it does for commands.
    pub fn events(mut self, events: Events) -> Self {
        self.options.events = Some(events);
        self
    }

    /// Sets when the entries of the model's large [`collections`](crate::collections) are loaded.
    /// Default: [`LoadModel::AtOpen`].
    ///
    /// With another value, an open of a database of any size takes milliseconds, if the journal
    /// behind the newest snapshot is short and few entries have changed since the last whole
    /// snapshot. What was not loaded yet stays in the snapshot's file, and the first touch of an
    /// entry reads, verifies and decodes about 16 KiB around it. Writing a whole snapshot touches
    /// all. The rest of the model is loaded at once: what is not in such a collection, and
    /// collections of less than 256 KiB. A snapshot of another [`Model::VERSION`], or of a
    /// version of this crate before it noted keys, is loaded as with `AtOpen`.
    ///
    /// In return, damage to the snapshot is found when what is damaged is touched, and not at the
    /// open, when an older snapshot could take its place. Then the method that touches it panics
    /// and the database [fails](crate::Health::Poisoned): nothing wrong is read, and nothing more
    /// is acknowledged. The next open loads and verifies all, whatever this option says, and falls
    /// back to an older snapshot if it must. A version that outlives the database may panic in the
    /// same way once another open has removed the snapshot.
    pub fn load_model(mut self, when: LoadModel) -> Self {
        self.options.load_model = when;
        self
    }

    /// Sets which versions before the newest one are kept for [`Database::at`]. Default: 64
    /// versions, for 10 s, over 1,024 commands; see [`RecentVersions`].
    pub fn recent_versions(mut self, recent: RecentVersions) -> Self {
        self.options.recent_versions = recent;
        self
    }

    /// Sets a callback for the progress of the open. The opening thread calls it while it loads a
    /// snapshot and replays the journal. If it returns
    /// [`ControlFlow::Break`](std::ops::ControlFlow::Break), the open ends with [`Error::Aborted`]
    /// at the next step: at the latest when the snapshot is loaded, or after some megabytes of the
    /// journal. A callback that returns nothing never ends it.
    pub fn on_progress<A: ProgressAnswer>(
        mut self,
        mut callback: impl FnMut(Progress) -> A + Send + 'static,
    ) -> Self {
        let aborts = self.options.aborts.clone();
        self.progress = Box::new(move |progress| {
            if callback(progress).answer().is_break() {
                aborts.store(true, Ordering::SeqCst);
            }
        });
        self
    }

    /// Sets the clock from which commands get their [time](crate::Context::now), instead of the
    /// system's: for tests, and for programs that have a better one. Journaled time never goes
    /// back, so while this clock is behind, or panics, time stands still. The thread that applies
    /// commands calls it, once for some commands that come together. Those that answer them, and
    /// callers of `status` and `stats`, call it for the age of what is remembered.
    ///
    /// ```
    /// # use prevalence::{Command, Context, Database, Model};
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Day(u64);
    /// # impl Model for Day { type Event = (); }
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Note;
    /// # impl Command<Day> for Note {
    /// #     type Output = std::time::SystemTime;
    /// #     type Rejection = std::convert::Infallible;
    /// #     fn apply(self, _: &mut Day, cx: &mut Context<'_, Day>)
    /// #         -> Result<std::time::SystemTime, Self::Rejection> { Ok(cx.now()) }
    /// # }
    /// # prevalence::commands! { Day { 1 => Note } }
    /// use std::time::{Duration, SystemTime};
    ///
    /// let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(12 * 60 * 60);
    /// let database = Database::<Day>::builder().clock(move || noon).open_in_memory()?;
    /// assert_eq!(database.execute(Note)?, noon);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(now);
        self
    }

    /// Opens the database as [`open`](Self::open) does. If another process or handle has it open,
    /// it waits at most so long until that has closed it: a service that is started anew may be
    /// faster than the old one is gone.
    ///
    /// # Errors
    /// [`Error::Locked`] after that time. Otherwise those of [`open`](Self::open).
    pub fn open_waiting(
        mut self,
        path: impl AsRef<Path>,
        timeout: Duration,
    ) -> Result<Database<M>, Error>
    where
        I: InitialModel<M>,
    {
        self.options.wait_for_lock = timeout;
        self.open(path)
    }

    /// Opens an existing database only to read it, beside the program that has it open or without
    /// one; see [`Database::open_read_only`]. Of the options, only [`on_progress`](Self::on_progress)
    /// and [`describe`](Self::describe) matter: the others are about writing, and the model of an
    /// existing database is in its files. Request ids are not remembered.
    ///
    /// # Errors
    /// As [`Database::open_read_only`]. [`Error::InvalidOption`] if
    /// [`load_model`](Self::load_model) is to leave entries in the snapshot's file: the program
    /// that writes may remove that file at any time.
    pub fn open_read_only(self, path: impl AsRef<Path>) -> Result<ReadOnly<M>, Error> {
        let root = absolute(path.as_ref())?;
        self.options.validate_for::<M>()?;
        if self.options.load_model.is_late() {
            return Err(Error::InvalidOption {
                option: "load_model",
                value: format!("{:?}", self.options.load_model),
                constraint: "a read-only open loads all at once (LoadModel::AtOpen), because the \
                             program that writes may remove the snapshot at any time"
                    .to_owned(),
            });
        }
        let Self { options, mut progress, .. } = self;
        read_only::open(Arc::new(ReadOnlyDisk), &root, options, &mut progress)
    }

    /// Opens the database in the directory `path`. Creates it if there is none.
    ///
    /// # Errors
    /// Any variant of [`Error`] that is about options, files, or the declarations of the program,
    /// and [`Error::Locked`]. [`Error::Poisoned`] only if the model's `Clone` panics. If an open
    /// fails because of what it found, it has not changed, deleted or overwritten anything. At most
    /// it has created a `LOCK` file and empty directories. If an open fails while it writes, it
    /// leaves a directory that the next open accepts. If a [`purge`](crate::purge()) was
    /// interrupted, the open finishes it first.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Database<M>, Error>
    where
        I: InitialModel<M>,
    {
        self.options.validate_for::<M>()?;
        let Self { options, initial, mut progress, clock, .. } = self;
        let initial = || initial.initial();
        let path = absolute(path.as_ref())?;
        let storage = Arc::new(HeldDisk::with_clock(clock));
        Database::open_with(storage, &path, options, initial, &mut progress)
    }

    /// Opens a new database that exists only in memory: the same engine, with files that are also
    /// in memory. All options work as they do on a disk, but a segment takes at most 1 MiB. Only
    /// [`backup`](Database::backup) writes to the disk. The database is gone when its last handle
    /// is dropped. Paths in errors and results begin with `<in memory>`.
    ///
    /// Besides the model, the memory holds the kept snapshots and the journal since the oldest of
    /// them. Under [`Retention::Archive`] it also holds every command for ever. So the snapshot
    /// policy bounds the journal, as it does on a disk. A database with a short life can avoid the
    /// cost of snapshots with [`SnapshotPolicy::manual`].
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if an option is not allowed; [`Error::Encode`] if the initial model
    /// cannot be encoded; [`Error::UnreadableModel`] if it cannot be decoded from its encoding;
    /// [`Error::Io`] if a thread cannot be started; [`Error::Poisoned`] if the model's `Clone`
    /// panics.
    pub fn open_in_memory(mut self) -> Result<Database<M>, Error>
    where
        I: InitialModel<M>,
    {
        self.options.validate_for::<M>()?;
        let largest = LARGEST_SEGMENT_IN_MEMORY_BYTES;
        self.options.segment_bytes = self.options.segment_bytes.min(largest);
        let Self { options, initial, mut progress, clock, .. } = self;
        let initial = || initial.initial();
        let storage = Arc::new(Memory::with_clock(clock));
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
