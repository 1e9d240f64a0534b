//! Owns one connection, and the position that is stored behind it. Knows nothing of batches.

use std::time::Duration;

use ::postgres::{Client, Error, IsolationLevel, Statement, Transaction};

use crate::SinkError;
use crate::position::Row;

/// The schema's quoted name, if there is the table. Later statements name it: a `search_path` that
/// the user's SQL sets must not lead them to another table.
const FIND: &str = "SELECT quote_ident(n.nspname) FROM pg_class c \
    JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.oid = to_regclass('prevalence_positions')";

const CREATE: &str = "CREATE TABLE prevalence_positions (
    database TEXT NOT NULL,
    name TEXT NOT NULL,
    position BIGINT NOT NULL CHECK (position >= 0),
    PRIMARY KEY (database, name)
)";

/// One sink at a time makes tables: two `CREATE TABLE IF NOT EXISTS` at once can both fail. The
/// number is ours; it only has to be the same for all sinks.
const LOCK: &str = "SELECT pg_advisory_xact_lock(730543210917)";

pub(super) struct Link {
    client: Client,
    row: Row,
    select: Statement,
    update: Statement,
}

impl Link {
    /// Returns it with the stored position, which is 0 at the first time.
    pub(super) fn new(
        mut client: Client,
        row: Row,
        place: &str,
        tables: &str,
        timeout: Duration,
    ) -> Result<(Self, i64), SinkError> {
        set_up(&mut client, timeout).map_err(SinkError::database(place, "set up the session"))?;
        let mut transaction =
            begin(&mut client).map_err(SinkError::database(place, "begin a transaction"))?;
        let read = SinkError::database(place, "read the position");
        let (schema, stored) = find(&mut transaction, &row).map_err(read)?;
        let (schema, stored) = match (schema, stored) {
            (Some(schema), Some(stored)) => (schema, stored),
            _ => begin_at_zero(&mut transaction, &row, place, tables)?,
        };
        let mut prepare = || {
            let select = transaction.prepare(&select(&schema))?;
            Ok((select, transaction.prepare(&update(&schema))?))
        };
        let (select, update) =
            prepare().map_err(SinkError::database::<Error>(place, "prepare statements"))?;
        transaction.commit().map_err(SinkError::commit(place, 0))?;
        Ok((Self { client, row, select, update }, stored))
    }

    /// Begins the transaction of a batch whose first command is this one.
    pub(super) fn begin(&mut self, place: &str, first: u64) -> Result<Batch<'_>, SinkError> {
        let Self { client, row, select, update } = self;
        let mut inner = begin(client).map_err(SinkError::database(place, "begin a transaction"))?;
        let mut read = || {
            let Some(found) = inner.query_opt(&*select, &[&row.database, &row.name])? else {
                return Ok(None);
            };
            Ok(Some((found.try_get(0)?, found.try_get(1)?)))
        };
        let found = read().map_err(SinkError::database::<Error>(place, "read the position"))?;
        let (stored, transaction): (i64, i64) = found.ok_or_else(|| row.gone(place))?;
        row.check(place, stored, first)?;
        Ok(Batch { inner, row, update, transaction })
    }
}

/// The transaction of a batch.
pub(super) struct Batch<'a> {
    inner: Transaction<'a>,
    row: &'a Row,
    update: &'a Statement,
    /// The number that the server gave the transaction.
    transaction: i64,
}

impl<'a> Batch<'a> {
    pub(super) fn inner(&mut self) -> &mut Transaction<'a> {
        &mut self.inner
    }

    pub(super) fn finish(mut self, place: &str, last: u64, column: i64) -> Result<(), SinkError> {
        // If a statement failed and the closure went on, the server refuses this one. It changes
        // nothing in another transaction than the one that holds the rows.
        let changed = self
            .inner
            .execute(self.update, &[&self.row.database, &self.row.name, &column, &self.transaction])
            .map_err(SinkError::database(place, "store the position"))?;
        if changed != 1 {
            return Err(SinkError::TransactionEnded { place: place.to_owned() });
        }
        self.inner.commit().map_err(SinkError::commit(place, last))
    }
}

/// Locks the row. So who reads a position waits for a commit that is still on its way, perhaps of a
/// connection that its client has already given up.
fn select(schema: &str) -> String {
    format!(
        "SELECT position, txid_current() FROM {schema}.prevalence_positions \
         WHERE database = $1 AND name = $2 FOR UPDATE"
    )
}

fn update(schema: &str) -> String {
    format!(
        "UPDATE {schema}.prevalence_positions SET position = $3 \
         WHERE database = $1 AND name = $2 AND txid_current() = $4"
    )
}

/// The server ends what takes too long, and what a client that is gone has left open.
fn set_up(client: &mut Client, timeout: Duration) -> Result<(), Error> {
    // The server's own bound is that of an `int`.
    let most = u128::from(i32::MAX.unsigned_abs());
    let timeout_ms = timeout.as_millis().clamp(1, most);
    client.batch_execute(&format!(
        "SET statement_timeout = {timeout_ms};
         SET idle_in_transaction_session_timeout = {timeout_ms};
         SELECT set_config('synchronous_commit', 'local', false)
         WHERE current_setting('synchronous_commit') = 'off'"
    ))
}

/// The defaults of the server, of the database and of the role do not count.
fn begin(client: &mut Client) -> Result<Transaction<'_>, Error> {
    client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .read_only(false)
        .start()
}

/// Returns the schema of the table, and the position, as far as they are there.
fn find(
    transaction: &mut Transaction<'_>,
    row: &Row,
) -> Result<(Option<String>, Option<i64>), Error> {
    let Some(found) = transaction.query_opt(FIND, &[])? else { return Ok((None, None)) };
    let schema: String = found.try_get(0)?;
    let stored = transaction.query_opt(&select(&schema), &[&row.database, &row.name])?;
    let stored = stored.map(|found| found.try_get(0)).transpose()?;
    Ok((Some(schema), stored))
}

/// Makes what is missing, and stores the first position, unless another sink has just done so.
fn begin_at_zero(
    transaction: &mut Transaction<'_>,
    row: &Row,
    place: &str,
    tables: &str,
) -> Result<(String, i64), SinkError> {
    let first = |error: Error| SinkError::database(place, "store the first position")(error);
    transaction.batch_execute(LOCK).map_err(first)?;
    let (schema, stored) = find(transaction, row).map_err(first)?;
    let schema = match (schema, stored) {
        (Some(schema), Some(stored)) => return Ok((schema, stored)),
        (Some(schema), None) => schema,
        (None, _) => {
            transaction.batch_execute(CREATE).map_err(first)?;
            let found = transaction.query_one(FIND, &[]).map_err(first)?;
            found.try_get(0).map_err(first)?
        }
    };
    let insert = format!(
        "INSERT INTO {schema}.prevalence_positions (database, name, position) VALUES ($1, $2, 0)"
    );
    transaction.execute(&insert, &[&row.database, &row.name]).map_err(first)?;
    let key = transaction.query_one(&select(&schema), &[&row.database, &row.name]);
    let before: i64 = key.and_then(|found| found.try_get(1)).map_err(first)?;
    let made = SinkError::database(place, "make the tables");
    transaction.batch_execute(tables).map_err(made)?;
    let key = transaction.query_opt(&select(&schema), &[&row.database, &row.name]);
    let after = key.and_then(|found| found.map(|found| found.try_get(1)).transpose());
    if after.map_err(first)? != Some(before) {
        return Err(SinkError::TransactionEnded { place: place.to_owned() });
    }
    Ok((schema, 0))
}
