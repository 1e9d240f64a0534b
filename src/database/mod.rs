//! Owns the handle: what a user does with an open database. Knows which part does what, and does
//! nothing itself.

mod builder;
mod running;
mod start;
mod what_if;

pub use builder::{Builder, FromDefault, Given, InitialModel};
pub use what_if::Sandbox;

pub(crate) use running::Engine;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::codec::EncodeFailure;
use crate::engine::{
    AtError, Health, Pending, Refusal, SnapshotInfo, Submitted, View, on_engine_thread,
    submission_to, sync_outside_lock,
};
use crate::error::Error;
use crate::execute_error::{ExecuteError, TrySubmitError, WaitError};
use crate::files::absolute;
use crate::history::{History, HistoryFiles};
use crate::json;
use crate::model::{LARGEST_METADATA_BYTES, Metadata, Model, RandomSeed, Registered};
use crate::options::{MOST_IDS, Options};
use crate::process::stack;
use crate::recovery::{
    LoadingThread, ProgressCallback, RecoveryReport, identity, read_whole, recover,
};
use crate::snapshot::{current_rates, segments_behind, write_copy};
use crate::stats::Stats;
use crate::storage::{Disk, HeldDisk, Storage};

/// A handle to an open database. Cheap to clone, and usable from any number of threads.
///
/// The database is closed by [`close`](Self::close), or when its last handle is dropped; `close`
/// also reports whether that went well. See the [crate's front page](crate) for an example.
pub struct Database<M: Model> {
    engine: Arc<Engine<M>>,
    /// Encoded; empty for none.
    metadata: Arc<[u8]>,
}

#[expect(clippy::type_complexity, reason = "aliases would hide what a caller gets")]
impl<M: Model> Database<M> {
    /// Opens the database in the directory `path`, creating it from `M::default()` if there is
    /// none.
    ///
    /// # Errors
    /// See [`Builder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error>
    where
        M: Default,
    {
        Self::builder().open(path)
    }

    /// Opens a new database that is in memory alone, for tests and for what need not last: the
    /// same engine with the same behaviour, but nothing touches the disk, and all of it is gone
    /// when the last handle goes. See [`Builder::open_in_memory`].
    ///
    /// ```
    /// # use prevalence::{Command, Context, Database, Model};
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Counter(u64);
    /// # impl Model for Counter { type Event = (); }
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Add(u64);
    /// # impl Command<Counter> for Add {
    /// #     type Output = u64;
    /// #     type Rejection = std::convert::Infallible;
    /// #     fn apply(self, counter: &mut Counter, _: &mut Context<'_, Counter>)
    /// #         -> Result<u64, Self::Rejection> { counter.0 += self.0; Ok(counter.0) }
    /// # }
    /// # prevalence::commands! { Counter { 1 => Add } }
    /// let database = Database::<Counter>::in_memory()?;
    /// assert_eq!(database.execute(Add(2))?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`Builder::open_in_memory`].
    pub fn in_memory() -> Result<Self, Error>
    where
        M: Default,
    {
        Self::builder().open_in_memory()
    }

    /// Opens a database with options, or from a given initial model.
    pub fn builder() -> Builder<M> {
        Builder::new()
    }

    pub(crate) fn open_with(
        storage: Arc<dyn Storage>,
        path: &Path,
        options: Options,
        initial: impl FnOnce() -> M + Send + 'static,
        progress: &mut ProgressCallback,
    ) -> Result<Self, Error> {
        let _span = trace_span!(INFO, "open", path = path.display());
        let thread = LoadingThread::start(path)?;
        let recovered = {
            let (storage, path, options) = (storage.clone(), path.to_path_buf(), options.clone());
            thread.run(
                move |progress| recover(&storage, &path, &options, initial, progress),
                progress,
            )?
        };
        let engine = Engine::start(storage, &options, recovered, thread)?;
        Ok(Self { engine: Arc::new(engine), metadata: Arc::new([]) })
    }

    /// Executes a command and waits until it is durable (as
    /// [`Durability`](crate::Durability) defines it).
    ///
    /// # Errors
    /// [`ExecuteError::Rejected`] when the command refused; the other variants say why it could
    /// not be executed. After any error of this but `Poisoned` the command has left no trace; after
    /// `Poisoned` it may have.
    pub fn execute<C: Registered<M>>(
        &self,
        command: C,
    ) -> Result<C::Output, ExecuteError<C::Rejection>> {
        self.submit(command)?.wait()
    }

    /// Executes a command only if the last accepted command is still the one with this sequence:
    /// what the caller has read and decided upon has not changed since.
    ///
    /// ```
    /// # use prevalence::{Command, Context, Database, ExecuteError, Model};
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Seats(Vec<String>);
    /// # impl Model for Seats { type Event = (); }
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Sell(String);
    /// # impl Command<Seats> for Sell {
    /// #     type Output = usize;
    /// #     type Rejection = std::convert::Infallible;
    /// #     fn apply(self, seats: &mut Seats, _: &mut Context<'_, Seats>)
    /// #         -> Result<usize, Self::Rejection> { seats.0.push(self.0); Ok(seats.0.len()) }
    /// # }
    /// # prevalence::commands! { Seats { 1 => Sell } }
    /// # let directory = tempfile::tempdir()?;
    /// # let database = Database::<Seats>::open(directory.path())?;
    /// let seen = database.view(); // a customer looks at it, and takes her time
    /// database.execute(Sell("Ada".to_owned()))?; // somebody is faster
    /// let late = database.execute_if(seen.sequence(), Sell("Grace".to_owned()));
    /// assert!(matches!(late, Err(ExecuteError::Stale { expected: 0, found: 1 })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ExecuteError::Stale`] when anything was accepted since: then the command was not applied
    /// and left no trace. Otherwise as of [`execute`](Self::execute).
    pub fn execute_if<C: Registered<M>>(
        &self,
        sequence: u64,
        command: C,
    ) -> Result<C::Output, ExecuteError<C::Rejection>> {
        let (mut submission, pending) = self.prepare(&command)?;
        submission.only_at = Some(sequence);
        self.engine.queue.send(submission).map_err(|_| self.refused())?;
        pending.wait()
    }

    /// Tries commands on a private fork of the newest version and throws it away: nothing is
    /// journaled, nothing changes in the database, and it goes on meanwhile. The fork is made
    /// without copying the model; what commands change in it takes memory until `ask` returns.
    ///
    /// ```
    /// # use prevalence::{Command, Context, Database, Model};
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Till { cents: u64 }
    /// # impl Model for Till { type Event = (); }
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Charge { per_mille: u64 }
    /// # impl Command<Till> for Charge {
    /// #     type Output = u64;
    /// #     type Rejection = std::convert::Infallible;
    /// #     fn apply(self, till: &mut Till, _: &mut Context<'_, Till>)
    /// #         -> Result<u64, Self::Rejection> {
    /// #         let fee = till.cents * self.per_mille / 1000;
    /// #         till.cents -= fee;
    /// #         Ok(fee)
    /// #     }
    /// # }
    /// # prevalence::commands! { Till { 1 => Charge } }
    /// # let directory = tempfile::tempdir()?;
    /// # let till = Till { cents: 5000 };
    /// # let database = Database::<Till>::builder().initial(till).open(directory.path())?;
    /// let (fee, left) = database.what_if(|sandbox| {
    ///     let fee = sandbox.execute(Charge { per_mille: 10 })?;
    ///     Ok::<_, prevalence::ExecuteError<_>>((fee, sandbox.query(|till| till.cents)))
    /// })?;
    /// assert_eq!((fee, left), (50, 4950));
    /// assert_eq!(database.query(|till| till.cents), 5000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn what_if<R>(&self, ask: impl FnOnce(&mut Sandbox<M>) -> R) -> R {
        let Engine { shared, storage, identity, max_command_bytes, .. } = &*self.engine;
        let seed = RandomSeed::new(identity.database);
        let version = shared.published.pin();
        let (metadata, limit) = (self.metadata.clone(), *max_command_bytes);
        ask(&mut Sandbox::fork(&version, seed, metadata, limit, storage.clone()))
    }

    /// The stored history up to now: every command that was accepted, and the model as it was after
    /// any of them. Under [`Retention::Archive`](crate::Retention::Archive), from the first open
    /// on, it is complete; under `Truncate` it reaches back to the oldest snapshot that is kept.
    /// Commands, reads and snapshots go on meanwhile.
    ///
    /// ```
    /// # use prevalence::{Command, Context, Database, Metadata, Model, Retention};
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Till { cents: u64 }
    /// # impl Model for Till { type Event = (); }
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct PayIn { cents: u64 }
    /// # impl Command<Till> for PayIn {
    /// #     type Output = ();
    /// #     type Rejection = std::convert::Infallible;
    /// #     fn apply(self, till: &mut Till, _: &mut Context<'_, Till>)
    /// #         -> Result<(), Self::Rejection> { till.cents += self.cents; Ok(()) }
    /// # }
    /// # prevalence::commands! { Till { 1 => PayIn } }
    /// # let directory = tempfile::tempdir()?;
    /// let till = Database::<Till>::builder().retention(Retention::Archive).open(directory.path())?;
    /// let ann = Metadata { actor: "ann".to_owned(), ..Metadata::default() };
    /// till.with_metadata(&ann)?.execute(PayIn { cents: 100 })?;
    /// till.execute(PayIn { cents: 50 })?;
    ///
    /// let history = till.history();
    /// assert_eq!(history.at(1)?.cents, 100); // the model as it was
    /// let first = history.records(1..=1)?.next().expect("there is one")?;
    /// assert_eq!((first.command_name(), first.metadata()), ("PayIn", ann));
    /// assert_eq!(first.command_json()?, r#"{"cents":100}"#);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn history(&self) -> History<M> {
        let Engine { shared, storage, directory, identity, process, .. } = &*self.engine;
        let newest = shared.published.view();
        let files = HistoryFiles {
            storage: storage.clone(),
            directory: directory.clone(),
            database: identity.database,
            model_name: identity.model_name.clone(),
            newest: newest.sequence(),
            newest_chain: newest.chain(),
        };
        History::new(files, newest, *process, self.engine.clone())
    }

    /// Puts a command on its way and returns at once, unless the queue is full: then it waits for
    /// room. Commands of one thread are applied in the order in which it submitted them.
    ///
    /// # Errors
    /// When the command cannot be encoded, is too large, nothing is accepted any more, or the call
    /// comes from a command's `apply`. After any error of this the command has left no trace. What
    /// comes later is told by the [`Pending`].
    pub fn submit<C: Registered<M>>(
        &self,
        command: C,
    ) -> Result<Pending<C::Output, C::Rejection>, ExecuteError<C::Rejection>> {
        let (submission, pending) = self.prepare(&command)?;
        match self.engine.queue.send(submission) {
            Ok(()) => Ok(pending),
            Err(Refusal::Full | Refusal::Stopped) => Err(self.refused()),
        }
    }

    /// As [`submit`](Self::submit), but never waits for room in the queue.
    ///
    /// # Errors
    /// [`TrySubmitError::Busy`] gives the command back when the queue is full;
    /// [`TrySubmitError::Refused`] is any error of `submit`. After either the command has left no
    /// trace.
    pub fn try_submit<C: Registered<M>>(
        &self,
        command: C,
    ) -> Result<Pending<C::Output, C::Rejection>, TrySubmitError<C, C::Rejection>> {
        let (submission, pending) = self.prepare(&command).map_err(TrySubmitError::Refused)?;
        match self.engine.queue.try_send(submission) {
            Ok(()) => Ok(pending),
            Err(Refusal::Full) => Err(TrySubmitError::Busy(command)),
            Err(Refusal::Stopped) => Err(TrySubmitError::Refused(self.refused())),
        }
    }

    /// Reads the newest version. Takes no lock and never waits: neither for commands nor for
    /// snapshots. Under [`Durability::Sync`](crate::Durability::Sync) that version is durable.
    ///
    /// While the reader runs, it keeps its version's memory from being freed; use
    /// [`view`](Self::view) for anything long.
    pub fn query<R>(&self, reader: impl FnOnce(&M) -> R) -> R {
        self.engine.shared.published.read(|version| reader(&version.model))
    }

    /// Pins the newest version.
    #[must_use]
    pub fn view(&self) -> View<M> {
        self.engine.shared.published.view()
    }

    /// The sequence of the newest readable version: how many commands were ever accepted up to it.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.engine.shared.published.sequence()
    }

    /// Pins the version that was the newest after the command with this sequence, if that is still
    /// kept: a bounded number of [`recent versions`](crate::RecentVersions), each at the end of a
    /// batch of commands. Takes a lock for an instant, and never waits for commands.
    ///
    /// ```
    /// # use prevalence::{AtError, Command, Context, Database, Model};
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Counter(u64);
    /// # impl Model for Counter { type Event = (); }
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Add(u64);
    /// # impl Command<Counter> for Add {
    /// #     type Output = u64;
    /// #     type Rejection = std::convert::Infallible;
    /// #     fn apply(self, counter: &mut Counter, _: &mut Context<'_, Counter>)
    /// #         -> Result<u64, Self::Rejection> { counter.0 += self.0; Ok(counter.0) }
    /// # }
    /// # prevalence::commands! { Counter { 1 => Add } }
    /// let database = Database::<Counter>::in_memory()?;
    /// for _ in 0..3 {
    ///     database.execute(Add(10))?;
    /// }
    /// assert_eq!(database.at(2)?.0, 20);
    /// assert_eq!(database.at(9).err(), Some(AtError::NotYet { wanted: 9, newest: 3 }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`AtError`] says which versions there are instead. Once the database is closed, only the last
    /// one is.
    pub fn at(&self, sequence: u64) -> Result<View<M>, AtError> {
        if self.engine.process.is_forked() {
            return Err(AtError::Forked);
        }
        self.engine.shared.published.at(sequence)
    }

    /// Waits until the newest readable version has reached `sequence`.
    ///
    /// # Errors
    /// When the time is up, when it will not be reached because the database was closed or has
    /// failed, or when the call comes from a command's `apply`.
    pub fn wait_for(&self, sequence: u64, timeout: Duration) -> Result<(), WaitError> {
        if self.engine.process.is_forked() {
            return Err(WaitError::Forked);
        }
        if on_engine_thread() {
            return Err(WaitError::Reentrant);
        }
        let shared = &self.engine.shared;
        shared.published.wait_for(sequence, timeout, &shared.status)
    }

    /// Makes everything acknowledged so far durable, and gives the sequence that is. Only of use
    /// under [`Durability::Interval`](crate::Durability::Interval) and
    /// [`Durability::Buffered`](crate::Durability::Buffered).
    ///
    /// # Errors
    /// [`Error::Poisoned`] when the sync fails, or the database has [failed](crate::Poisoned)
    /// before; [`Error::Reentrant`] from a command's `apply`.
    pub fn sync(&self) -> Result<u64, Error> {
        self.engine.check_caller()?;
        sync_outside_lock(&self.engine.committer)
    }

    /// A handle to the same database whose commands are journaled with `metadata`.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] when the metadata takes more than 65,535 bytes encoded;
    /// [`Error::Encode`] when it cannot be encoded.
    pub fn with_metadata(&self, metadata: &Metadata) -> Result<Self, Error> {
        let encoded = metadata.encode().map_err(|failure| match failure {
            EncodeFailure::TooLarge { bytes } => Error::InvalidOption {
                option: "with_metadata",
                value: format!("{bytes} bytes or more"),
                constraint: format!("it must be at most {LARGEST_METADATA_BYTES} bytes"),
            },
            EncodeFailure::Failed(reason) => {
                Error::Encode { what: "the metadata".to_owned(), reason }
            }
        })?;
        Ok(Self { engine: self.engine.clone(), metadata: encoded.into() })
    }

    /// Figures of this open database.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let Engine { shared, queue, .. } = &*self.engine;
        if self.engine.process.is_forked() {
            // The locks around the other figures may be held by nobody.
            return Stats { sequence: self.sequence(), ..Stats::default() };
        }
        let counters = &shared.counters;
        let snapshots = shared.snapshots.state();
        let commands = self.sequence().saturating_sub(snapshots.newest.sequence);
        let raw_bytes = snapshots.newest.raw_bytes;
        let segments = segments_behind(shared, &snapshots);
        let sequence = self.sequence();
        let (recent_versions, recent_oldest) = shared.published.recent().state(sequence);
        let written = counters.journal_bytes.get();
        Stats {
            journal_bytes_since_snapshot: snapshots.tail_bytes
                + written.saturating_sub(snapshots.written_then),
            commands_since_snapshot: commands,
            snapshots_taken: snapshots.taken,
            snapshots_failed: snapshots.failed,
            snapshot_sequence: snapshots.newest.sequence,
            snapshot_duration: snapshots.newest.duration,
            snapshot_raw_bytes: raw_bytes,
            snapshot_file_bytes: snapshots.newest.file_bytes,
            predicted_startup: current_rates(shared, &snapshots)
                .predicted(raw_bytes, commands, segments),
            segments_since_snapshot: segments,
            sequence,
            recent_versions: crate::files::position(recent_versions),
            recent_oldest_sequence: recent_oldest,
            recent_commands: sequence - recent_oldest,
            durable_sequence: counters.durable_sequence.get(),
            accepted: counters.accepted.get(),
            rejected: counters.rejected.get(),
            panicked: counters.panicked.get(),
            reapplied: counters.reapplied.get(),
            stale: counters.stale.get(),
            duplicates: counters.duplicates.get(),
            not_written: counters.not_written.get(),
            reserve_bytes: self.engine.reserve.bytes(),
            batches: counters.batches.get(),
            inline_batches: counters.inline_batches.get(),
            largest_batch: counters.largest_batch.get(),
            syncs: counters.syncs.get(),
            journal_bytes: written,
            queued_commands: crate::files::position(queue.commands()),
            queued_bytes: crate::files::position(queue.bytes()),
        }
    }

    /// What the open found and did.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.engine.report
    }

    /// Whether commands are accepted, and if not, why.
    #[must_use]
    pub fn health(&self) -> Health {
        if self.engine.process.is_forked() {
            return Health::Forked;
        }
        let shared = &self.engine.shared;
        match (shared.status.health(), shared.snapshots.state().last_error) {
            (Health::Running, Some(reason)) => Health::SnapshotsFailing(reason),
            (health, _) => health,
        }
    }

    /// Takes a snapshot of the newest durable version, and waits until it is durable and verified
    /// and the journal behind it is cleared. If there is one of that version, it is given instead.
    /// Commands and reads go on meanwhile.
    ///
    /// # Errors
    /// [`Error::UnreadableModel`] when the model cannot be decoded from it: nothing else is harmed, and
    /// the journal is kept. [`Error::Poisoned`] and [`Error::Stopped`] when the database no longer runs,
    /// [`Error::Reentrant`] from a command's `apply`. Any other error says why the snapshot could
    /// not be written, or, when it was, what behind it could not be cleared: commands and reads go
    /// on, no command is lost, and it is tried again.
    pub fn snapshot(&self) -> Result<SnapshotInfo, Error> {
        self.engine.check_caller()?;
        self.engine.take_snapshot()
    }

    /// Writes the newest durable version into the directory `target`, as a closed database of its
    /// own that opens by itself: what `restore` takes, or anything that can copy a directory.
    /// Commands and reads go on meanwhile; only the snapshot's few buffers are held in memory.
    ///
    /// The copy holds no commands: what was archived stays where it is. That of a database
    /// [in memory](Self::in_memory) is written to the disk all the same.
    ///
    /// That of a database that has [failed](crate::Poisoned) holds the version that can still be read.
    /// So what a cleaner removed from under a running database can be rescued.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] when `target` is there and is no empty directory; [`Error::Reentrant`] from
    /// a command's `apply`, [`Error::Forked`] in the child of a fork; [`Error::UnreadableModel`] when
    /// the copy could not be read back. Any other error says why the copy could not be written: then
    /// nothing is at `target`, but for a failure to make its name durable.
    pub fn backup(&self, target: impl AsRef<Path>) -> Result<SnapshotInfo, Error> {
        self.engine.check_caller()?;
        let Engine { shared, committer, storage, identity, packing, .. } = &*self.engine;
        let target = absolute(target.as_ref())?;
        let version = shared.published.pin();
        let synced = sync_outside_lock(committer);
        // A database that has failed can still be read, and so rescued.
        if shared.status.poisoned().is_none() {
            synced?;
        }
        let storage = storage.clone().for_copies();
        stack::run(|| write_copy(&storage, &target, identity, &version, *packing))
            .map_err(Error::io("start a thread to write", &target))?
    }

    /// Writes the database in the directory `backup` (one that [`backup`](Self::backup) made, or
    /// any that is not open) into the directory `target`. The whole of it is read, verified and
    /// replayed first; nothing in it is changed, but a `LOCK` file may be created.
    ///
    /// # Errors
    /// As of [`Builder::open`] for what is read; [`Error::Missing`] when there is no database at
    /// `backup`, [`Error::NotEmpty`] when `target` is there and is no empty directory,
    /// [`Error::Io`] when it could not be written, [`Error::UnreadableModel`] when it could not be
    /// read back.
    pub fn restore(backup: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<(), Error> {
        let (backup, target) = (absolute(backup.as_ref())?, absolute(target.as_ref())?);
        let source: Arc<dyn Storage> = Arc::new(HeldDisk::default());
        let storage: Arc<dyn Storage> = Arc::new(Disk);
        // A copy remembers what the original does, however much that is.
        let options = Options { remembered_requests: MOST_IDS, ..Options::default() };
        let copy = || {
            let (database, version) = read_whole::<M>(&source, &backup, &options)?;
            let packing = options.packing();
            write_copy(&storage, &target, &identity::<M>(database), &version, packing).map(drop)
        };
        stack::run(copy).map_err(Error::io("start a thread to read", &backup))?
    }

    /// For tests of what comes between the steps of a commit.
    #[cfg(test)]
    pub(crate) fn committer(&self) -> &crate::engine::SharedCommitter<M> {
        &self.engine.committer
    }

    /// Writes the newest readable version as JSON, by way of serde, and gives its sequence.
    /// Commands and reads go on meanwhile.
    ///
    /// What JSON says less exactly is written all the same: bytes become an array of numbers, `()`,
    /// `None` and `Some(())` all become `null`, and integers are written with all their digits,
    /// though many readers keep no more than 53 bits of them.
    ///
    /// # Errors
    /// [`Error::Encode`] when the model has parts that JSON has no form for, with the way to the
    /// part for the first two: a NaN or an infinity; values more than 512 levels deep inside each
    /// other, which could use up the stack of the calling thread; maps whose keys are neither
    /// texts, numbers, booleans nor variants without fields. Also when the model's `Serialize` or
    /// `writer` fails. `writer` got nothing in the first two cases, and may have got a part in the
    /// others.
    pub fn export_json(&self, writer: impl std::io::Write) -> Result<u64, Error> {
        let view = self.view();
        let mut writer = std::io::BufWriter::new(writer);
        let failed =
            |reason: String| Error::Encode { what: "the model as JSON".to_owned(), reason };
        json::write(&*view, &mut writer).map_err(failed)?;
        std::io::Write::flush(&mut writer).map_err(|error| failed(error.to_string()))?;
        Ok(view.sequence())
    }

    /// Commits what is queued, ends the database's threads, marks its directory as closed and
    /// unlocks it. Every other handle then refuses commands with [`ExecuteError::Stopped`], or
    /// `Poisoned`; reads go on. Closing again does nothing, but tells of a failure again. Called
    /// from a command or a waker, it returns at once and a thread of its own does the rest.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when the database has [failed](crate::Poisoned), now or earlier;
    /// [`Error::Io`] when the MANIFEST could not be replaced. The database is closed all the same,
    /// and the next open recovers it.
    pub fn close(self) -> Result<(), Error> {
        self.engine.stop()
    }

    #[cfg(test)]
    pub(crate) fn published(&self) -> &crate::engine::Published<M> {
        &self.engine.shared.published
    }

    /// Encodes a command, unless it could only be refused.
    #[inline(always)]
    fn prepare<C: Registered<M>>(
        &self,
        command: &C,
    ) -> Result<Submitted<M, C>, ExecuteError<C::Rejection>> {
        if self.engine.process.is_forked() {
            return Err(ExecuteError::Forked);
        }
        if on_engine_thread() {
            return Err(ExecuteError::Reentrant);
        }
        if let Some(poisoned) = self.engine.shared.status.poisoned() {
            return Err(ExecuteError::Poisoned(poisoned.clone()));
        }
        let limit = self.engine.max_command_bytes;
        submission_to(self.engine.process, command, &self.metadata, limit)
    }

    /// Why the queue takes nothing any more.
    fn refused<R>(&self) -> ExecuteError<R> {
        match self.engine.shared.status.poisoned() {
            Some(poisoned) => ExecuteError::Poisoned(poisoned.clone()),
            None => ExecuteError::Stopped,
        }
    }
}

impl<M: Model> Clone for Database<M> {
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone(), metadata: self.metadata.clone() }
    }
}

impl<M: Model> fmt::Debug for Database<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("sequence", &self.sequence())
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}
