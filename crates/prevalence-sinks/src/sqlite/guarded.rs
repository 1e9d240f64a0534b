//! Owns transactions that only the sink can end. Knows nothing of positions.
//!
//! A closure could run `COMMIT`, and its rows would be stored without the position. Or a statement
//! of it could fail in a way that makes SQLite roll back all (`INSERT OR ROLLBACK`, a full disk):
//! if the closure goes on, each further statement would be a transaction of its own. So SQLite asks
//! us at each commit, and every commit that the sink did not begin becomes a rollback.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::SinkError;

pub(super) struct Guarded {
    connection: Connection,
    /// Set while the sink itself commits.
    may_commit: Arc<AtomicBool>,
    /// What was written before it is not stored.
    was_rolled_back: Arc<AtomicBool>,
}

impl Guarded {
    pub(super) fn new(mut connection: Connection) -> rusqlite::Result<Self> {
        let may_commit = Arc::new(AtomicBool::new(false));
        let was_rolled_back = Arc::new(AtomicBool::new(false));
        let asked = may_commit.clone();
        connection.commit_hook(Some(move || !asked.load(Ordering::Relaxed)))?;
        let told = was_rolled_back.clone();
        connection.rollback_hook(Some(move || told.store(true, Ordering::Relaxed)))?;
        Ok(Self { connection, may_commit, was_rolled_back })
    }

    /// Begins a transaction that has the right to write at once: so nobody else can write between
    /// a read and a write of it. If it is dropped, also by a panic, all is taken back.
    pub(super) fn begin(&mut self, place: &str) -> Result<Begun<'_>, SinkError> {
        let Self { connection, may_commit, was_rolled_back } = self;
        may_commit.store(false, Ordering::Relaxed);
        was_rolled_back.store(false, Ordering::Relaxed);
        let inner = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(SinkError::database(place, "begin a transaction"))?;
        Ok(Begun { inner, may_commit, was_rolled_back })
    }
}

/// A transaction of the sink.
pub(super) struct Begun<'a> {
    inner: Transaction<'a>,
    may_commit: &'a AtomicBool,
    was_rolled_back: &'a AtomicBool,
}

impl<'a> Begun<'a> {
    pub(super) fn inner(&self) -> &Transaction<'a> {
        &self.inner
    }

    /// Returns an error if what was written up to now is no longer a part of the transaction.
    pub(super) fn check(&self, place: &str) -> Result<(), SinkError> {
        if self.was_rolled_back.load(Ordering::Relaxed) || self.inner.is_autocommit() {
            return Err(SinkError::TransactionEnded { place: place.to_owned() });
        }
        Ok(())
    }

    /// Stores all, up to this command.
    pub(super) fn commit(self, place: &str, last: u64) -> Result<(), SinkError> {
        self.check(place)?;
        self.may_commit.store(true, Ordering::Relaxed);
        let committed = self.inner.commit().map_err(SinkError::commit(place, last));
        self.may_commit.store(false, Ordering::Relaxed);
        committed
    }
}
