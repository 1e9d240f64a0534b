//! The SQLite sink.

mod files;
mod killed;

use std::path::{Path, PathBuf};

use prevalence_sinks::SqliteSink;
use rusqlite::Connection;

use crate::common::{Boxed, Manner, Other, Paid, Payment};
use crate::contract;

/// A file that is fed.
pub struct File {
    pub path: PathBuf,
    _directory: Option<tempfile::TempDir>,
}

impl File {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("payments.sqlite");
        Self { path, _directory: Some(directory) }
    }

    pub fn at(path: &Path) -> Self {
        Self { path: path.to_path_buf(), _directory: None }
    }

    pub fn connect(&self) -> Connection {
        Connection::open(&self.path).unwrap()
    }
}

impl Other for File {
    fn sink_of(&self, tables: &str, name: &'static str, mut manner: Manner) -> Boxed {
        let sink = SqliteSink::new(&self.path, tables, move |transaction, recorded| {
            let sequence = i64::try_from(recorded.sequence)?;
            let mut insert =
                transaction.prepare_cached("INSERT INTO payments VALUES (?1, ?2, ?3)")?;
            for Paid(cents) in &recorded.events {
                insert.execute((name, sequence, i64::try_from(*cents)?))?;
            }
            // Behind the rows, so that something must be taken back.
            match manner.at(recorded.sequence)? {
                Some((sql, true)) => Ok(transaction.execute_batch(sql)?),
                Some((sql, false)) => {
                    let _: rusqlite::Result<()> = transaction.execute_batch(sql);
                    Ok(transaction.execute("INSERT INTO kinds VALUES (77)", []).map(drop)?)
                }
                None => Ok(()),
            }
        });
        Box::new(sink.unwrap())
    }

    fn payments(&self) -> Vec<Payment> {
        let connection = self.connect();
        let mut select =
            connection.prepare("SELECT name, command, cents FROM payments ORDER BY 2, 3").unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }

    fn run(&self, sql: &str) {
        self.connect().execute_batch(sql).unwrap();
    }
}

macro_rules! contract {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            contract::$name(&File::new());
        }
    )*};
}

contract! {
    each_command_once_over_restarts
    a_closure_that_fails_leaves_nothing
    a_statement_that_fails_leaves_nothing
    of_two_agents_one_is_refused
    agents_at_the_same_time_double_nothing
    sources_are_apart
    many_begin_at_once
    tables_come_with_the_first_position
    impossible_batches_are_refused
}
