//! What follows the book with `--follow`: two projections, a table in SQLite, and a reactor.
//!
//! Each has a thread and a durable position of its own. Wherever the program is killed, each goes
//! on from its position, and at the end all of them are as if nothing had happened.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use prevalence::{
    Database, FollowerError, FollowerHandle, FollowerOptions, From, ProjectionHandle, Reaction,
    Reactor, Recorded, Sink,
};
use prevalence_sinks::SqliteSink;

use crate::book::Book;
use crate::commands::Audit;
use crate::minutes::{TradesPerMinute, clock};
use crate::options::Options;
use crate::top::{Best, TopOfBook};
use crate::trade::Trade;

/// The reactor asks for an audit of every trade whose number this divides, unless the options say
/// something else.
const AUDITED: u64 = 1_000;
/// So long may a follower take for what is left at the end of the input.
const LONG: Duration = Duration::from_secs(600);

/// No column is unique. That each trade is in one row is what the sink promises.
const TABLE: &str = "CREATE TABLE trades (
    trade INTEGER NOT NULL,
    message INTEGER NOT NULL,
    time INTEGER NOT NULL,
    \"order\" INTEGER,
    price INTEGER NOT NULL,
    shares INTEGER NOT NULL
)";
const ROW: &str = "INSERT INTO trades VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// The followers that run.
pub struct Followers {
    minutes: ProjectionHandle<Book, TradesPerMinute>,
    top: ProjectionHandle<Book, TopOfBook>,
    table: FollowerHandle<Book>,
    auditor: FollowerHandle<Book>,
}

impl Followers {
    /// Starts all of them. Each goes on behind its position, or begins with the first command.
    pub fn start(
        db: &Database<Book>,
        sqlite: &Path,
        wanted: &Options,
    ) -> Result<Followers, Box<dyn Error>> {
        let mut options = FollowerOptions::new();
        if let Some(every) = wanted.checkpoint_every {
            options = options.checkpoint_every(every);
        }
        let minutes = TradesPerMinute::default();
        let auditor = Auditor { every: wanted.audit_every.unwrap_or(AUDITED) };
        let from_the_first = options.clone().begin(From::Beginning);
        Ok(Followers {
            minutes: db.projection("trades-per-minute", minutes, options.clone())?,
            top: db.projection("top-of-book", TopOfBook::default(), options.clone())?,
            auditor: db.reactor("auditor", auditor, from_the_first)?,
            table: db.sink("trades", trades_to(sqlite)?, options)?,
        })
    }

    /// Waits until all of them have worked on all commands, also on those of the reactor.
    pub fn catch_up(&self, db: &Database<Book>) -> Result<(), Box<dyn Error>> {
        self.wait(&self.auditor, db.sequence())?;
        // No trade is among what the reactor has executed, so it adds nothing more.
        for follower in [&*self.minutes, &*self.top, &self.table] {
            self.wait(follower, db.sequence())?;
        }
        Ok(())
    }

    fn wait(&self, follower: &FollowerHandle<Book>, sequence: u64) -> Result<(), Box<dyn Error>> {
        let waited = follower.wait_for(sequence, LONG);
        waited.map(drop).map_err(|error| format!("{}: {error}", follower.name()).into())
    }

    /// Ends them, and makes their positions durable.
    pub fn close(self) -> Result<(), prevalence::Error> {
        self.minutes.close()?;
        self.top.close()?;
        self.table.close()?;
        self.auditor.close()
    }

    /// Describes each of them in one line.
    pub fn summary(&self, db: &Database<Book>) -> Result<String, Box<dyn Error>> {
        let (minutes, top, audits) = (self.minutes.view(), self.top.view(), db.view());
        let (at, most) = minutes.busiest().unwrap_or_default();
        let (bid, ask) = top.top();
        let last = audits.audits().last().map_or(0, |trade| trade.number);
        Ok([
            format!(
                "trades-per-minute: minutes={} trades={} busiest={} with={}",
                minutes.iter().count(),
                minutes.trades(),
                clock(at),
                most.trades
            ),
            format!(
                "top-of-book: changes={} bid={} ask={} digest={:016x}",
                top.changes(),
                shown(bid),
                shown(ask),
                top.digest()
            ),
            format!("trades: in SQLite up to command {}", self.table.status()?.position),
            format!("auditor: audits={} last={last}", audits.audits().len()),
        ]
        .join("\n"))
    }

    /// Lists all that the projections and the reactor have made, a line for each minute, for the
    /// top and for each audit.
    pub fn report(&self, db: &Database<Book>) -> String {
        let mut text = String::new();
        let mut line = |line: std::fmt::Arguments<'_>| {
            writeln!(text, "{line}").expect("a String takes all");
        };
        for (at, it) in self.minutes.view().iter() {
            let at = clock(*at);
            line(format_args!("minute,{at},{},{},{}", it.trades, it.shares, it.turnover));
        }
        let top = self.top.view();
        let (bid, ask) = top.top();
        let (changes, digest) = (top.changes(), top.digest());
        line(format_args!("top,{changes},{digest:016x},{},{}", shown(bid), shown(ask)));
        for trade in db.view().audits() {
            let Trade { number, message, time, price, shares, .. } = trade;
            let order = trade.order.unwrap_or(0);
            line(format_args!("audit,{number},{message},{time},{order},{price},{shares}"));
        }
        text
    }
}

/// Describes the best price of a side as shares@price.
fn shown(best: Best) -> String {
    best.map_or("none".to_owned(), |(price, shares)| format!("{shares}@{price}"))
}

/// Makes the sink that writes each trade into a row.
fn trades_to(sqlite: &Path) -> Result<impl Sink<Book>, Box<dyn Error>> {
    let sink = SqliteSink::new(sqlite, TABLE, |transaction, recorded: &Recorded<Book>| {
        let mut insert = transaction.prepare_cached(ROW)?;
        for trade in &recorded.events {
            let number = i64::try_from(trade.number)?;
            let message = i64::try_from(trade.message)?;
            let time = i64::try_from(trade.time)?;
            let order = trade.order.map(i64::try_from).transpose()?;
            let shares = i64::try_from(trade.shares)?;
            insert.execute((number, message, time, order, trade.price, shares))?;
        }
        Ok(())
    })?;
    Ok(sink)
}

/// The reactor. It counts nothing itself, because each trade has its number.
struct Auditor {
    every: u64,
}

impl Reactor<Book> for Auditor {
    fn react(
        &mut self,
        recorded: &Recorded<Book>,
        reaction: &mut Reaction<'_, Book>,
    ) -> Result<(), FollowerError> {
        for trade in &recorded.events {
            if trade.number.is_multiple_of(self.every) {
                // If the program was killed behind this, the next try finds it executed.
                reaction.execute(Audit { trade: trade.clone() })?;
            }
        }
        Ok(())
    }
}
