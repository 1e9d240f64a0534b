//! Owns what a read model must offer: a value that every command changes. Knows nothing of how it
//! is kept.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::events::Recorded;
use crate::model::Model;

/// Why a follower could not work on a command.
pub type FollowerError = Box<dyn std::error::Error + Send + Sync>;

/// A read model: a value that every accepted command changes, in order, on a thread of its own.
///
/// Readers see a whole number of commands, and never wait. `clone()` must be cheap, as that of a
/// [`Model`]: a clone is made each time when readers get a new version, so use the
/// [`collections`](crate::collections) of this crate. The value is written to a checkpoint now and
/// then, so that the next start goes on from there.
///
/// Start it with [`Database::projection`](crate::Database::projection).
pub trait Projection<M: Model>:
    Clone + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The version of the projection's code. Raise it when a change of the type changes what serde
    /// writes, or when `apply` makes something else of a command. Then the projection is built
    /// anew, beside the checkpoint of the old version. That one is removed when the new one has
    /// caught up.
    const VERSION: u32 = 1;

    /// Works on a command and its events. It must not depend on anything else, such as the time or
    /// another database: after a crash, commands behind the last checkpoint are given again.
    ///
    /// # Errors
    /// Any error, or a panic, stops the projection before this command, as if `apply` had changed
    /// nothing. The database goes on.
    fn apply(&mut self, recorded: &Recorded<M>) -> Result<(), FollowerError>;

    /// Makes the projection of a whole model, if that is possible. It is used when the projection
    /// must be built anew, and history no longer reaches back to the first command. The default
    /// says that it is not possible.
    #[must_use]
    fn from_model(_model: &M) -> Option<Self> {
        None
    }
}
