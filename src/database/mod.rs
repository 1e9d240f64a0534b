//! Owns the handle with which a user works on an open database. It delegates all work.

mod builder;
mod commands;
mod follow;
mod given;
mod import;
#[cfg(feature = "metrics")]
mod metrics;
mod reads;
mod remembering;
mod running;
mod start;
mod submitting;
mod upkeep;
mod what_if;

pub use builder::Builder;
pub use given::{FromDefault, Given, InitialModel, ProgressAnswer};
pub use submitting::Submitting;
pub use what_if::Sandbox;

pub(crate) use running::Engine;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::codec::EncodeFailure;
use crate::error::Error;
use crate::files::DatabaseId;
use crate::model::{LARGEST_METADATA_BYTES, Metadata, Model};
use crate::options::Options;
use crate::read_only::ReadOnly;
use crate::recovery::{LoadingThread, ProgressCallback, recover};
use crate::storage::Storage;

/// A handle to an open database. It is cheap to clone, and any number of threads may use it.
///
/// [`close`](Self::close) closes the database, and so does dropping its last handle. Only `close`
/// reports an error. See the [crate's front page](crate) for an example.
pub struct Database<M: Model> {
    engine: Arc<Engine<M>>,
    /// The encoded metadata of this handle. Empty if there is none.
    metadata: Arc<[u8]>,
}

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

    /// Opens an existing database only to read it: one that another process has open, one that this
    /// process has open, or one that nobody has open. It takes no lock and changes nothing, so it
    /// needs only the right to read the directory, and any number of processes may do it. The
    /// database is loaded into the memory of this process.
    ///
    /// [`ReadOnly::refresh`] reads what is new, and [`ReadOnly::follow`] does so in the background.
    /// Only what the files state to be durable is shown: nothing that was shown is ever taken back,
    /// whatever crashes. So the last batch is shown when the program that writes has stated that it
    /// is durable: with the next batch, half a millisecond after the last one, or when it closes
    /// the database. See `docs::architecture`, "reading beside a writer".
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
    /// use std::time::Duration;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path();
    /// let writer = Database::<Counter>::open(path)?;
    /// let reader = Database::<Counter>::open_read_only(path)?; // here, or in another process
    /// writer.execute(Add(2))?;
    /// reader.follow(Duration::from_millis(10))?;
    /// reader.wait_for(1, Duration::from_secs(10))?;
    /// assert_eq!(reader.query(|counter| counter.0), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no database, and [`Error::NotADirectory`] if something else
    /// stands there. [`Error::WrongModel`], [`Error::WrongVersion`] and [`Error::ModelChanged`] if
    /// it is not of this model. Otherwise as [`ReadOnly::refresh`]; [`Error::Aborted`] if the
    /// progress callback ends the open.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<ReadOnly<M>, Error> {
        Self::builder().open_read_only(path)
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

    /// Returns a handle to the same database that journals its commands with `metadata`.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if the encoded metadata takes more than 65,535 bytes, or its
    /// request id more than [`max_request_id_bytes`](Builder::max_request_id_bytes);
    /// [`Error::Encode`] if it cannot be encoded.
    pub fn with_metadata(&self, metadata: &Metadata) -> Result<Self, Error> {
        if let Some((value, most)) = self.longer_id(metadata) {
            let constraint = format!("it must be at most {most} bytes; see max_request_id_bytes");
            return Err(Error::InvalidOption { option: "with_metadata", value, constraint });
        }
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

    /// Returns the random id of the database, which all of its files repeat. A copy that `restore`
    /// or a file manager has made has the same one.
    #[must_use]
    pub fn id(&self) -> DatabaseId {
        self.engine.identity.database
    }

    /// Returns the directory of the database as an absolute path; for a database in memory
    /// `<in memory>`, which is no directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.engine.directory.root
    }

    pub(crate) fn of_engine(engine: Arc<Engine<M>>) -> Self {
        Self { engine, metadata: Arc::new([]) }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine<M>> {
        &self.engine
    }

    /// Returns the committer, for tests that act between the steps of a commit.
    #[cfg(test)]
    pub(crate) fn committer(&self) -> &crate::engine::SharedCommitter<M> {
        &self.engine.committer
    }

    /// Commits the queued commands, ends the database's threads, marks its directory as closed and
    /// unlocks it. After that every other handle refuses commands with
    /// [`ExecuteError::Stopped`](crate::ExecuteError::Stopped) or `Poisoned`; reads go on. Closing
    /// again does nothing, but reports a failure again. If a command or a waker calls this, it
    /// returns at once and another thread does the rest.
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
    pub(crate) fn snapshot_board(&self) -> &crate::engine::SnapshotBoard {
        &self.engine.shared.snapshots
    }

    #[cfg(test)]
    pub(crate) fn published(&self) -> &crate::engine::Published<M> {
        &self.engine.shared.published
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
