//! Owns how a caller reads: the newest version, a pinned or a recent one, the history, a fork to
//! try commands on. Knows nothing of how versions come about.

use super::{Database, Engine, Sandbox};
use crate::engine::{AtError, View, on_engine_thread};
use crate::execute_error::WaitError;
use crate::history::{History, HistoryFiles};
use crate::model::{Model, RandomSeed};
use std::time::Duration;

impl<M: Model> Database<M> {
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
    /// let till =
    /// Database::<Till>::builder().retention(Retention::Archive).open(directory.path())?; let ann =
    /// Metadata { actor: "ann".to_owned(), ..Metadata::default() };
    /// till.with_metadata(&ann)?.execute(PayIn { cents: 100 })?; till.execute(PayIn { cents: 50
    /// })?;
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
}
