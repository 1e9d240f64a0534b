//! Owns a sink that feeds an SQLite file. Knows nothing of what is written there.
//!
//! - `guarded`: transactions that only the sink can end

mod guarded;

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use prevalence::{Model, Recorded, Sink, Source};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction};

use self::guarded::Guarded;
use crate::position::{Row, Span, from_column, to_column};
use crate::{Failure, SinkError};

/// How long an open that finds the file locked pauses before it tries again.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

const CREATE: &str = "CREATE TABLE IF NOT EXISTS main.prevalence_positions (
    database TEXT NOT NULL,
    name TEXT NOT NULL,
    position INTEGER NOT NULL CHECK (position >= 0),
    PRIMARY KEY (database, name)
)";
const SELECT: &str =
    "SELECT position FROM main.prevalence_positions WHERE database = ?1 AND name = ?2";
const INSERT: &str =
    "INSERT INTO main.prevalence_positions (database, name, position) VALUES (?1, ?2, 0)";
const UPDATE: &str =
    "UPDATE main.prevalence_positions SET position = ?3 WHERE database = ?1 AND name = ?2";

/// Feeds an SQLite file: your closure writes what you want of each command, and the sink stores
/// that and its position in one transaction.
///
/// ```
/// use prevalence::{Command, Context, Database, From, Model, Sink};
/// use prevalence_sinks::SqliteSink;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Default, Serialize, Deserialize)]
/// # struct Till(u64);
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// # struct Paid(u64);
/// # impl Model for Till { type Event = Paid; }
/// # #[derive(Serialize, Deserialize)]
/// # struct PayIn(u64);
/// # impl Command<Till> for PayIn {
/// #     type Output = ();
/// #     type Rejection = std::convert::Infallible;
/// #     fn apply(self, till: &mut Till, cx: &mut Context<'_, Till>)
/// #         -> Result<(), Self::Rejection> { till.0 += self.0; cx.emit(Paid(self.0)); Ok(()) }
/// # }
/// # prevalence::commands! { Till { 1 => PayIn } }
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("till.sqlite");
/// let mut sink = SqliteSink::<Till, _>::new(
///     &path,
///     "CREATE TABLE IF NOT EXISTS payments (command INTEGER, cents INTEGER)",
///     |transaction, recorded| {
///         let sequence = i64::try_from(recorded.sequence)?;
///         let mut insert = transaction.prepare_cached("INSERT INTO payments VALUES (?1, ?2)")?;
///         for Paid(cents) in &recorded.events {
///             insert.execute((sequence, i64::try_from(*cents)?))?;
///         }
///         Ok(())
///     },
/// )?;
/// # let till = Database::<Till>::open(directory.path().join("till"))?;
/// # till.execute(PayIn(100))?;
/// # till.execute(PayIn(50))?;
/// # let mut subscription = till.subscribe(From::Beginning)?;
/// # let mut batch = Vec::new();
/// # while let Some(recorded) = subscription.try_next()? { batch.push(recorded); }
/// # let id = prevalence::DatabaseId::from_bytes([7; 16]);
/// # let source = prevalence::Source::new(id, "payments");
/// # assert_eq!(sink.position(&source)?, 0);
/// # sink.apply_batch(&batch)?;
/// # assert_eq!(sink.position(&source)?, 2);
/// // Two commands later:
/// let other = rusqlite::Connection::open(&path)?;
/// let sum: i64 = other.query_row("SELECT sum(cents) FROM payments", [], |row| row.get(0))?;
/// assert_eq!(sum, 150);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The SQL that makes your tables runs once for each source, in the transaction that stores the
/// first position. So it must say `IF NOT EXISTS` if two sources share them. It does not run again
/// later: tables that were dropped are an error then, not empty tables behind an advanced position.
/// To begin anew, drop your tables and delete the row from `prevalence_positions`.
///
/// The closure must write only in its transaction: to this file, without `COMMIT` and `ROLLBACK`.
/// SQLite refuses a commit that is not the sink's own, and the batch then fails as a whole.
/// Savepoints are allowed. What the closure does elsewhere may be done several times.
///
/// The file is in WAL mode, if its file system can do that, so others can read while the sink
/// writes. `synchronous` is `FULL`, so a stored position survives a power cut. A lesser value would
/// still be exactly once, for data and position are lost together; but history before a position
/// may be given up, so a position must not go back.
pub struct SqliteSink<M, F> {
    path: PathBuf,
    /// How errors name the file.
    place: String,
    tables: String,
    write: F,
    busy_timeout: Duration,
    open: Option<Open>,
    model: PhantomData<fn(&M)>,
}

struct Open {
    connection: Guarded,
    row: Row,
}

impl<M, F> SqliteSink<M, F>
where
    M: Model,
    F: FnMut(&Transaction<'_>, &Recorded<M>) -> Result<(), Failure> + Send + 'static,
{
    /// Makes a sink for the file at `path`, which is made if it is missing. `tables` is the SQL
    /// that makes your tables, and `write` writes one command. Nothing is opened yet.
    ///
    /// A relative path belongs to the current directory of now. Its later changes do no harm.
    ///
    /// # Errors
    /// [`SinkError::Path`] if the path is empty, or if there is no current directory.
    pub fn new(
        path: impl AsRef<Path>,
        tables: impl Into<String>,
        write: F,
    ) -> Result<Self, SinkError> {
        let given = path.as_ref();
        let path = std::path::absolute(given)
            .map_err(|source| SinkError::Path { path: given.to_path_buf(), source })?;
        Ok(Self {
            place: format!("SQLite file {}", path.display()),
            path,
            tables: tables.into(),
            write,
            busy_timeout: Duration::from_secs(5),
            open: None,
            model: PhantomData,
        })
    }

    /// Waits so long for others that write to the same file; then it is an error, and the batch
    /// comes again. The default is 5 s.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    fn connect(&self) -> Result<Guarded, SinkError> {
        let connect = || {
            // An absolute path is no URI, whatever it holds.
            let connection = Connection::open(&self.path)?;
            connection.busy_timeout(self.busy_timeout)?;
            // It answers with the mode that it could get.
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            Guarded::new(connection)
        };
        // When several change a new file to WAL mode at once, SQLite does not wait for the lock.
        let began = Instant::now();
        loop {
            let connected = connect();
            let is_busy = connected
                .as_ref()
                .is_err_and(|error| error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy));
            if !is_busy || began.elapsed() >= self.busy_timeout {
                return connected.map_err(SinkError::database(&self.place, "open it"));
            }
            std::thread::sleep(BUSY_PAUSE);
        }
    }
}

impl<M, F> Sink<M> for SqliteSink<M, F>
where
    M: Model,
    F: FnMut(&Transaction<'_>, &Recorded<M>) -> Result<(), Failure> + Send + 'static,
{
    type Error = SinkError;

    fn position(&mut self, source: &Source) -> Result<u64, SinkError> {
        self.open = None;
        let row = Row::of(source);
        let mut connection = self.connect()?;
        let place = &self.place;
        let begun = connection.begin(place)?;
        let find = || {
            begun.inner().execute_batch(CREATE)?;
            begun.inner().query_row(SELECT, row.key(), |found| found.get(0)).optional()
        };
        let found: Option<i64> = find().map_err(SinkError::database(place, "read the position"))?;
        let stored = found.map_or(Ok(0), from_column)?;
        if found.is_none() {
            let made = begun.inner().execute_batch(&self.tables);
            made.map_err(SinkError::database(place, "make the tables"))?;
            begun.check(place)?;
            let inserted = begun.inner().execute(INSERT, row.key());
            inserted.map_err(SinkError::database(place, "store the first position"))?;
        }
        begun.commit(place, 0)?;
        self.open = Some(Open { connection, row });
        Ok(stored)
    }

    fn apply_batch(&mut self, batch: &[Recorded<M>]) -> Result<(), SinkError> {
        let Some(Span { first, last }) = Span::of(batch)? else { return Ok(()) };
        let column = to_column(last)?;
        // It comes back only if all went well. Whatever fails or panics, the next call of
        // `position` opens the file anew.
        let mut open = self.open.take().ok_or(SinkError::NoPosition)?;
        let Open { connection, row } = &mut open;
        let place = &self.place;
        let begun = connection.begin(place)?;
        let found: Option<i64> = begun
            .inner()
            .prepare_cached(SELECT)
            .and_then(|mut select| select.query_row(row.key(), |found| found.get(0)).optional())
            .map_err(SinkError::database(place, "read the position"))?;
        row.check(place, found.ok_or_else(|| row.gone(place))?, first)?;
        for recorded in batch {
            (self.write)(begun.inner(), recorded).map_err(|source| {
                let (place, sequence) = (place.clone(), recorded.sequence);
                SinkError::Write { place, sequence, source }
            })?;
            begun.check(place)?;
        }
        let [database, name] = row.key();
        let changed = begun
            .inner()
            .prepare_cached(UPDATE)
            .and_then(|mut update| update.execute((database, name, column)))
            .map_err(SinkError::database(place, "store the position"))?;
        if changed != 1 {
            return Err(row.gone(place));
        }
        begun.commit(place, last)?;
        self.open = Some(open);
        Ok(())
    }
}

impl<M, F> fmt::Debug for SqliteSink<M, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteSink")
            .field("path", &self.path)
            .field("busy_timeout", &self.busy_timeout)
            .finish_non_exhaustive()
    }
}
