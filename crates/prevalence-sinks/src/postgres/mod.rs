//! Owns a sink that feeds a PostgreSQL database. Knows nothing of what is written there.
//!
//! - `link`: one connection, and the position that is stored behind it

mod link;

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use ::postgres::config::Host;
use ::postgres::{Client, Config, NoTls, Transaction};
use prevalence::{Model, Recorded, Sink, Source};

use self::link::Link;
use crate::position::{Row, Span, from_column, to_column};
use crate::{Failure, SinkError};

type Connector = Box<dyn FnMut() -> Result<Client, Failure> + Send>;

/// Feeds a PostgreSQL database: your closure writes what you want of each command, and the sink
/// stores that and its position in one transaction.
///
/// ```no_run
/// use prevalence_sinks::PostgresSink;
/// # use prevalence::{Command, Context, Model};
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
/// let sink = PostgresSink::<Till, _>::new(
///     "host=/run/postgresql user=till dbname=reports",
///     "CREATE TABLE IF NOT EXISTS payments (command BIGINT, cents BIGINT)",
///     |transaction, recorded| {
///         let sequence = i64::try_from(recorded.sequence)?;
///         for Paid(cents) in &recorded.events {
///             let cents = i64::try_from(*cents)?;
///             transaction.execute("INSERT INTO payments VALUES ($1, $2)", &[&sequence, &cents])?;
///         }
///         Ok(())
///     },
/// )?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The SQL that makes your tables runs once for each source, in the transaction that stores the
/// first position. So it must say `IF NOT EXISTS` if two sources share them. It does not run again
/// later: tables that were dropped are an error then, not empty tables behind an advanced position.
/// To begin anew, drop your tables and delete the row from `prevalence_positions`.
///
/// `prevalence_positions` is made in the first schema of the `search_path`, unless it is there. If
/// the sink's role must not create tables, make it yourself:
///
/// ```sql
/// CREATE TABLE prevalence_positions (
///     database TEXT NOT NULL,
///     name TEXT NOT NULL,
///     position BIGINT NOT NULL CHECK (position >= 0),
///     PRIMARY KEY (database, name)
/// );
/// ```
///
/// The closure must write only in its transaction, without `COMMIT` and `ROLLBACK`. PostgreSQL
/// cannot be kept from them: the sink notices, and [`SinkError::TransactionEnded`] says it. Nested
/// transactions (savepoints) are allowed. What the closure does elsewhere may be done several
/// times.
///
/// A commit whose answer is lost is an error. `position` then connects anew, and waits for the row
/// of the position until the server has decided, so it never answers too early.
///
/// Connect to the server itself, or through a pooler that pools sessions. A pooler that pools
/// transactions mixes up settings and prepared statements.
///
/// Nothing bounds the wait for a server whose machine is alive, but which says nothing at all, for
/// example because a signal has stopped it: the client has no clock of its own.
///
/// The calls block, so they must not run on a thread of an async runtime. The thread that drives a
/// sink is none.
pub struct PostgresSink<M, F> {
    /// How errors name the database. It has no password.
    place: String,
    connect: Connector,
    tables: String,
    write: F,
    statement_timeout: Duration,
    link: Option<Link>,
    model: PhantomData<fn(&M)>,
}

impl<M, F> PostgresSink<M, F>
where
    M: Model,
    F: FnMut(&mut Transaction<'_>, &Recorded<M>) -> Result<(), Failure> + Send + 'static,
{
    /// Makes a sink for the database that a connection string names, without TLS. `tables` is the
    /// SQL that makes your tables, and `write` writes one command. Nothing is connected yet.
    ///
    /// # Errors
    /// [`SinkError::Database`] if the connection string cannot be read.
    pub fn new(connection: &str, tables: impl Into<String>, write: F) -> Result<Self, SinkError> {
        // The string may have a password, so the error does not show it.
        let action = "read the connection string";
        let config = connection
            .parse()
            .map_err(|error: ::postgres::Error| SinkError::database("PostgreSQL", action)(error))?;
        Ok(Self::with_config(config, tables, write))
    }

    /// Is like [`new`](Self::new), with a configuration. What it does not set has bounds: 10 s to
    /// connect, and a minute until a server that is silent is given up.
    pub fn with_config(mut config: Config, tables: impl Into<String>, write: F) -> Self {
        bound(&mut config);
        let place = place_of(&config);
        Self::with_connector(place, move || Ok(config.connect(NoTls)?), tables, write)
    }

    /// Is like [`new`](Self::new), but `connect` makes each connection, for example with TLS.
    /// Errors call the database `place`. Set a `connect_timeout`: the sink cannot.
    pub fn with_connector(
        place: impl Into<String>,
        connect: impl FnMut() -> Result<Client, Failure> + Send + 'static,
        tables: impl Into<String>,
        write: F,
    ) -> Self {
        Self {
            place: place.into(),
            connect: Box::new(connect),
            tables: tables.into(),
            write,
            statement_timeout: Duration::from_secs(60),
            link: None,
            model: PhantomData,
        }
    }

    /// Gives a statement so long, also if it waits for a lock, and gives the closure so long
    /// between two statements. Then it is an error, and the batch comes again. The server keeps the
    /// time. At least 1 ms; the default is 60 s.
    #[must_use]
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }
}

impl<M, F> Sink<M> for PostgresSink<M, F>
where
    M: Model,
    F: FnMut(&mut Transaction<'_>, &Recorded<M>) -> Result<(), Failure> + Send + 'static,
{
    type Error = SinkError;

    fn position(&mut self, source: &Source) -> Result<u64, SinkError> {
        // The old connection goes first: the server may still hold its locks.
        self.link = None;
        let place = &self.place;
        let client = (self.connect)().map_err(SinkError::database(place, "connect"))?;
        let row = Row::of(source);
        let (link, stored) = Link::new(client, row, place, &self.tables, self.statement_timeout)?;
        let stored = from_column(stored)?;
        self.link = Some(link);
        Ok(stored)
    }

    fn apply_batch(&mut self, batch: &[Recorded<M>]) -> Result<(), SinkError> {
        let Some(Span { first, last }) = Span::of(batch)? else { return Ok(()) };
        let column = to_column(last)?;
        // It comes back only if all went well. Whatever fails or panics, the next call of
        // `position` connects anew.
        let mut link = self.link.take().ok_or(SinkError::NoPosition)?;
        let (place, write) = (&self.place, &mut self.write);
        let mut transaction = link.begin(place, first)?;
        for recorded in batch {
            write(transaction.inner(), recorded).map_err(|source| {
                let (place, sequence) = (place.clone(), recorded.sequence);
                SinkError::Write { place, sequence, source }
            })?;
        }
        transaction.finish(place, last, column)?;
        self.link = Some(link);
        Ok(())
    }
}

/// Bounds what nobody has bounded.
fn bound(config: &mut Config) {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(10));
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(60));
    }
    if config.get_keepalives_interval().is_none() {
        // Two hours are the default of `keepalives_idle`, which nobody chooses.
        config.keepalives_interval(Duration::from_secs(10));
        if config.get_keepalives_idle() >= Duration::from_secs(7200) {
            config.keepalives_idle(Duration::from_secs(30));
        }
    }
}

/// Names the database without a password.
fn place_of(config: &Config) -> String {
    let named = |host: &Host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(directory) => directory.display().to_string(),
    };
    let mut hosts: Vec<_> = config.get_hosts().iter().map(named).collect();
    if hosts.is_empty() {
        hosts = config.get_hostaddrs().iter().map(ToString::to_string).collect();
    }
    let ports: Vec<_> = config.get_ports().iter().map(|port| format!(" port {port}")).collect();
    let name = config.get_dbname().or(config.get_user()).unwrap_or("of the user's name");
    format!("PostgreSQL database {name} on {}{}", hosts.join(", "), ports.join(","))
}

impl<M, F> fmt::Debug for PostgresSink<M, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSink")
            .field("place", &self.place)
            .field("statement_timeout", &self.statement_timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_bounded_is_bounded() {
        let mut config: Config = "host=localhost".parse().unwrap();
        bound(&mut config);
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(10)));
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_secs(60)));
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(30));

        let own = "host=localhost connect_timeout=3 tcp_user_timeout=4 keepalives_interval=5";
        let mut config: Config = own.parse().unwrap();
        bound(&mut config);
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_secs(4)));
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(7200));
    }

    #[test]
    fn a_database_is_named_without_its_password() {
        let text = "host=/run/pg,10.0.0.1 port=5,6 user=u password=secret dbname=reports";
        let config: Config = text.parse().unwrap();
        let place = place_of(&config);
        assert_eq!(place, "PostgreSQL database reports on /run/pg, 10.0.0.1 port 5, port 6");
    }
}
