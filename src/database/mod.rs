//! Owns the handle with which a user works on an open database. Knows which part does what, and
//! does no work itself.

mod builder;
mod running;
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

/// A handle to an open database. It is cheap to clone, and any number of threads may use it.
///
/// [`close`](Self::close) closes the database, and so does dropping its last handle. Only `close`
/// reports an error. See the [crate's front page](crate) for an example.
pub struct Database<M: Model> {
    engine: Arc<Engine<M>>,
    /// The encoded metadata of this handle. Empty if there is none.
    metadata: Arc<[u8]>,
}

#[expect(clippy::type_complexity, reason = "aliases would hide what a caller gets")]
impl<M: Model> Database<M> {
    /// Opens the database in the directory `path`. Creates it from `M::default()` if there is none.
    ///
    /// # Errors
    /// See [`Builder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error>
    where
        M: Default,
    {
        Self::builder().open(path)
    }

    /// Opens a new database that exists only in memory, for tests and for data that need not last.
    /// The engine and its behaviour are the same, but nothing touches the disk, and the database is
    /// gone when its last handle is dropped. See [`Builder::open_in_memory`].
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

    /// Returns a builder that opens a database with options, or from a given initial model.
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

    /// Executes a command and waits until it is durable, as [`Durability`](crate::Durability)
    /// defines it.
    ///
    /// # Errors
    /// [`ExecuteError::Rejected`] if the command refused. The other variants say why it could not
    /// be executed. After `Poisoned` the command may have left a trace. After every other error of
    /// this call it has left none.
    pub fn execute<C: Registered<M>>(
        &self,
        command: C,
    ) -> Result<C::Output, ExecuteError<C::Rejection>> {
        self.submit(command)?.wait()
    }

    /// Executes a command only if the last accepted command still has this sequence. Then the state
    /// that the caller read before its decision has not changed.
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
    /// database.execute(Sell("Ada".to_owned()))?; // another caller is faster
    /// let late = database.execute_if(seen.sequence(), Sell("Grace".to_owned()));
    /// assert!(matches!(late, Err(ExecuteError::Stale { expected: 0, found: 1 })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ExecuteError::Stale`] if another command was accepted since then. In this case the command
    /// was not applied and left no trace. Other errors are those of [`execute`](Self::execute).
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

    /// Tries commands on a private fork of the newest version, and drops the fork afterwards.
    /// Nothing is journaled, and the database does not change. It serves other callers meanwhile.
    /// The fork does not copy the model. The parts that commands change in the fork take memory
    /// until `ask` returns.
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

    /// Returns the stored history up to now: every accepted command, and the model as it was after
    /// each of them. It is complete if the option [`Retention::Archive`](crate::Retention::Archive)
    /// was set from the first open on. Under `Truncate` it reaches back to the oldest kept
    /// snapshot. Commands, reads and snapshots go on while it is read.
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

    /// Submits a command and returns at once. If the queue is full, it waits for room. The commands
    /// of one thread are applied in the order in which the thread submitted them.
    ///
    /// # Errors
    /// If the command cannot be encoded or is too large, if the database accepts nothing more, or
    /// if the call comes from a command's `apply`. After any error of this call the command has
    /// left no trace. The [`Pending`] reports later failures.
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

    /// Submits a command like [`submit`](Self::submit), but never waits for room in the queue.
    ///
    /// # Errors
    /// [`TrySubmitError::Busy`] gives the command back if the queue is full.
    /// [`TrySubmitError::Refused`] holds any error of `submit`. After either error the command has
    /// left no trace.
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

    /// Reads the newest version. Takes no lock, and never waits for commands or snapshots. Under
    /// [`Durability::Sync`](crate::Durability::Sync) that version is durable.
    ///
    /// The memory of the version cannot be freed while the reader runs. Use [`view`](Self::view)
    /// for anything that takes long.
    pub fn query<R>(&self, reader: impl FnOnce(&M) -> R) -> R {
        self.engine.shared.published.read(|version| reader(&version.model))
    }

    /// Pins the newest version and returns it.
    #[must_use]
    pub fn view(&self) -> View<M> {
        self.engine.shared.published.view()
    }

    /// Returns the sequence of the newest readable version. It is the number of commands that were
    /// ever accepted up to that version.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.engine.shared.published.sequence()
    }

    /// Pins the version that was the newest after the command with this sequence, if it is still
    /// kept. A bounded number of [`recent versions`](crate::RecentVersions) is kept, each at the
    /// end of a batch of commands. The call takes a lock for an instant, and never waits for
    /// commands.
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
    /// [`AtError`] says why the version is not available, and which versions are. After the
    /// database is closed, only the last version is available.
    pub fn at(&self, sequence: u64) -> Result<View<M>, AtError> {
        if self.engine.process.is_forked() {
            return Err(AtError::Forked);
        }
        self.engine.shared.published.at(sequence)
    }

    /// Waits until the newest readable version has reached `sequence`.
    ///
    /// # Errors
    /// If the timeout passes, if the sequence will not be reached because the database was closed
    /// or has failed, or if the call comes from a command's `apply`.
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

    /// Makes all acknowledged commands durable, and returns the highest durable sequence. This is
    /// useful only under [`Durability::Interval`](crate::Durability::Interval) and
    /// [`Durability::Buffered`](crate::Durability::Buffered).
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the sync fails, or if the database has [failed](crate::Poisoned)
    /// before; [`Error::Reentrant`] if the call comes from a command's `apply`; [`Error::Forked`]
    /// in the child of a fork.
    pub fn sync(&self) -> Result<u64, Error> {
        self.engine.check_caller()?;
        sync_outside_lock(&self.engine.committer)
    }

    /// Returns a handle to the same database that journals its commands with `metadata`.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if the encoded metadata takes more than 65,535 bytes;
    /// [`Error::Encode`] if it cannot be encoded.
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

    /// Returns figures of this open database.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let Engine { shared, queue, .. } = &*self.engine;
        if self.engine.process.is_forked() {
            // A thread of the parent may have held a lock at the fork. Nobody releases it here.
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

    /// Returns what the open found and did.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.engine.report
    }

    /// Returns whether commands are accepted, and if not, why.
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

    /// Takes a snapshot of the newest durable version. Waits until the snapshot is durable and
    /// verified, and the journal that it replaces is removed or archived. If that version already
    /// has a snapshot, returns that one. Commands and reads go on meanwhile.
    ///
    /// # Errors
    /// [`Error::UnreadableModel`] if the model cannot be decoded from the snapshot; nothing else is
    /// harmed, and the journal is kept. [`Error::Poisoned`] or [`Error::Stopped`] if the database
    /// no longer runs, [`Error::Reentrant`] if the call comes from a command's `apply`,
    /// [`Error::Forked`] in the child of a fork. Any other error says why the snapshot could not be
    /// written, or, after it was written, why older files could not be removed or archived. In that
    /// case commands and reads go on, no command is lost, and the database tries again.
    pub fn snapshot(&self) -> Result<SnapshotInfo, Error> {
        self.engine.check_caller()?;
        self.engine.take_snapshot()
    }

    /// Writes the newest durable version into the directory `target`, as a separate, closed
    /// database that can be opened directly. `restore` copies it back, and so does any tool that
    /// can copy a directory. Commands and reads go on meanwhile. The backup needs only the few
    /// buffers of a snapshot in memory.
    ///
    /// The copy holds no commands; archived commands stay where they are. The copy of a database
    /// [in memory](Self::in_memory) is also written to the disk.
    ///
    /// The copy of a database that has [failed](crate::Poisoned) holds the version that can still
    /// be read. So the data can be rescued even if a program removed the files of the running
    /// database.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] if `target` exists and is not an empty directory; [`Error::Reentrant`]
    /// if the call comes from a command's `apply`; [`Error::Forked`] in the child of a fork;
    /// [`Error::UnreadableModel`] if the copy could not be read back. Any other error says why the
    /// copy could not be written. In that case nothing is at `target`, unless only making its name
    /// durable failed.
    pub fn backup(&self, target: impl AsRef<Path>) -> Result<SnapshotInfo, Error> {
        self.engine.check_caller()?;
        let Engine { shared, committer, storage, identity, packing, .. } = &*self.engine;
        let target = absolute(target.as_ref())?;
        let version = shared.published.pin();
        let synced = sync_outside_lock(committer);
        // A database that has failed can still be read, so a backup can rescue its data.
        if shared.status.poisoned().is_none() {
            synced?;
        }
        let storage = storage.clone().for_copies();
        stack::run(|| write_copy(&storage, &target, identity, &version, *packing))
            .map_err(Error::io("start a thread to write", &target))?
    }

    /// Writes the database in the directory `backup` into the directory `target`.
    /// [`backup`](Self::backup) may have made it, or it may be any database that is not open. The
    /// call first reads, verifies and replays all of it. It changes nothing there, but it may
    /// create a `LOCK` file.
    ///
    /// # Errors
    /// The errors of [`Builder::open`] for the database that is read; [`Error::Missing`] if there
    /// is no database at `backup`; [`Error::NotEmpty`] if `target` exists and is not an empty
    /// directory; [`Error::Io`] if the copy could not be written; [`Error::UnreadableModel`] if it
    /// could not be read back.
    pub fn restore(backup: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<(), Error> {
        let (backup, target) = (absolute(backup.as_ref())?, absolute(target.as_ref())?);
        let source: Arc<dyn Storage> = Arc::new(HeldDisk::default());
        let storage: Arc<dyn Storage> = Arc::new(Disk);
        // The copy must remember as many request ids as the original, so the limit is the largest.
        let options = Options { remembered_requests: MOST_IDS, ..Options::default() };
        let copy = || {
            let (database, version) = read_whole::<M>(&source, &backup, &options)?;
            let packing = options.packing();
            write_copy(&storage, &target, &identity::<M>(database), &version, packing).map(drop)
        };
        stack::run(copy).map_err(Error::io("start a thread to read", &backup))?
    }

    /// Returns the committer, for tests that act between the steps of a commit.
    #[cfg(test)]
    pub(crate) fn committer(&self) -> &crate::engine::SharedCommitter<M> {
        &self.engine.committer
    }

    /// Writes the newest readable version as JSON, with serde, and returns its sequence. Commands
    /// and reads go on meanwhile.
    ///
    /// Some values lose precision in JSON, and are written nevertheless. Bytes become an array of
    /// numbers. `()`, `None` and `Some(())` all become `null`. Integers are written with all their
    /// digits, but many readers keep at most 53 bits of them.
    ///
    /// # Errors
    /// [`Error::Encode`] if JSON cannot represent a part of the model:
    /// - a NaN or an infinity;
    /// - values that are nested more than 512 levels deep, which could use up the stack of the
    ///   calling thread;
    /// - maps whose keys are not texts, numbers, booleans or variants without fields.
    ///
    /// In the first two cases the error contains the path to the part, and nothing was written to
    /// `writer`. In the third case, and if the model's `Serialize` or `writer` fails, which is the
    /// same error, a part may have been written.
    pub fn export_json(&self, writer: impl std::io::Write) -> Result<u64, Error> {
        let view = self.view();
        let mut writer = std::io::BufWriter::new(writer);
        let failed =
            |reason: String| Error::Encode { what: "the model as JSON".to_owned(), reason };
        json::write(&*view, &mut writer).map_err(failed)?;
        std::io::Write::flush(&mut writer).map_err(|error| failed(error.to_string()))?;
        Ok(view.sequence())
    }

    /// Commits the queued commands, ends the database's threads, marks its directory as closed and
    /// unlocks it. After that every other handle refuses commands with [`ExecuteError::Stopped`] or
    /// `Poisoned`; reads go on. Closing again does nothing, but reports a failure again. If a
    /// command or a waker calls this, it returns at once and another thread does the rest.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the database has [failed](crate::Poisoned), now or earlier;
    /// [`Error::Io`] if the MANIFEST could not be replaced; [`Error::Forked`] in the child of a
    /// fork. After `Poisoned` and `Io` the database is closed nevertheless, and the next open
    /// recovers it.
    pub fn close(self) -> Result<(), Error> {
        self.engine.stop()
    }

    #[cfg(test)]
    pub(crate) fn published(&self) -> &crate::engine::Published<M> {
        &self.engine.shared.published
    }

    /// Encodes a command, unless the database would refuse it.
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

    /// Returns why the queue takes nothing more.
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
