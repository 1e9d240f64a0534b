//! Owns what another database must offer to be fed from this one. Knows nothing of what it stores.

use std::fmt;

use crate::events::Recorded;
use crate::files::DatabaseId;
use crate::model::Model;

/// Another database that stores what it wants of every accepted command, each exactly once.
///
/// It stores the data and its position in *one* transaction. So after a crash at any moment,
/// [`position`](Self::position) says exactly which commands its data holds, and the next batch
/// begins behind them. The crate `prevalence-sinks` has sinks for SQLite and PostgreSQL.
///
/// All calls come from one thread, which the sink has for itself. If a call fails or panics, the
/// sink must not hold a part of the batch; then `position` is called again, later, before the next
/// batch. So `position` may connect anew.
pub trait Sink<M: Model>: Send + 'static {
    /// Why the other database could not be read or written.
    type Error: fmt::Display;

    /// Returns the sequence of the last command that is stored; 0 if none is. It is called before
    /// the first batch, and again after each failure. The position belongs to `source`: the same
    /// tables may be fed from several databases.
    ///
    /// # Errors
    /// Any failure. The call is repeated later.
    fn position(&mut self, source: &Source) -> Result<u64, Self::Error>;

    /// Stores what it wants of these commands, and the last one's sequence as its position, in one
    /// transaction. The batch is not empty, begins right behind the position, and has no gap. There
    /// is no other batch at the same time.
    ///
    /// # Errors
    /// Any failure. Then nothing of the batch may be stored, or all of it: `position` tells which.
    fn apply_batch(&mut self, batch: &[Recorded<M>]) -> Result<(), Self::Error>;
}

/// From where a [`Sink`] is fed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Source {
    /// The database that is followed. A backup that was restored has the same id.
    pub database: DatabaseId,
    /// The name under which it is followed.
    pub name: String,
}

impl Source {
    /// Makes one. The engine does so; tests of a [`Sink`] need it too.
    pub fn new(database: DatabaseId, name: impl Into<String>) -> Self {
        Self { database, name: name.into() }
    }
}
