//! SQLite through rusqlite.

use std::path::Path;
use std::sync::Mutex;

use rusqlite::{CachedStatement, Connection, OptionalExtension};

use crate::engine::{Caller, Engine, Outcome, Readable, Workload, sum};
use crate::load::{Put, digest};

pub const SETTING: &str = "WAL, `synchronous=FULL`, prepared statements, built with `fdatasync`; \
    one connection behind a mutex; in `values` a \
    transaction per 4,096";

/// Writers wait for each other in any case. The mutex only avoids SQLite's polling for its lock.
struct Sqlite(Mutex<Connection>);

pub fn open(path: &Path, _: Workload) -> Outcome<Box<dyn Engine>> {
    if option_env!("LIBSQLITE3_FLAGS").is_none_or(|flags| !flags.contains("HAVE_FDATASYNC")) {
        return Err("SQLite was built to use fsync: start cargo in benches/peers, whose \
                    .cargo/config.toml has it use fdatasync"
            .into());
    }
    let connection = Connection::open(path.join("entries.sqlite"))?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        return Err(format!("SQLite's journal mode is {mode} instead of wal").into());
    }
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute_batch("CREATE TABLE entries (key INTEGER PRIMARY KEY, value BLOB)")?;
    Ok(Box::new(Sqlite(Mutex::new(connection))))
}

fn insert(connection: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    connection.prepare_cached("INSERT OR REPLACE INTO entries (key, value) VALUES (?1, ?2)")
}

fn select(connection: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    connection.prepare_cached("SELECT value FROM entries WHERE key = ?1")
}

fn read(statement: &mut CachedStatement<'_>, key: u64) -> Outcome<Option<u64>> {
    let value = |row: &rusqlite::Row<'_>| Ok(digest(row.get_ref(0)?.as_blob()?));
    Ok(statement.query_row([key as i64], value).optional()?)
}

impl Engine for Sqlite {
    fn caller(&self) -> Outcome<Box<dyn Caller + '_>> {
        Ok(Box::new(self))
    }

    fn put_stream(&self, puts: &mut dyn Iterator<Item = Put>, window: usize) -> Outcome {
        let mut connection = self.0.lock().expect("no panic holds it");
        let mut puts = puts.peekable();
        while puts.peek().is_some() {
            let transaction = connection.transaction()?;
            let mut statement = insert(&transaction)?;
            for put in puts.by_ref().take(window) {
                statement.execute((put.key as i64, put.value))?;
            }
            drop(statement);
            transaction.commit()?;
        }
        Ok(())
    }

    fn readable(&self) -> Option<&dyn Readable> {
        Some(self)
    }
}

impl Caller for &Sqlite {
    fn put(&mut self, put: Put) -> Outcome {
        let connection = self.0.lock().expect("no panic holds it");
        insert(&connection)?.execute((put.key as i64, put.value))?;
        Ok(())
    }
}

impl Readable for Sqlite {
    fn read_each(&self, keys: &[u64]) -> Outcome<u64> {
        let connection = self.0.lock().expect("no panic holds it");
        let mut statement = select(&connection)?;
        sum(keys, |key| read(&mut statement, key))
    }

    fn read_pinned(&self, keys: &[u64]) -> Outcome<Option<u64>> {
        let mut connection = self.0.lock().expect("no panic holds it");
        let transaction = connection.transaction()?;
        let mut statement = select(&transaction)?;
        sum(keys, |key| read(&mut statement, key)).map(Some)
    }
}
