//! Owns what a user implements: the model and its commands. Knows nothing of how they are stored.

mod context;
mod metadata;
mod migration;
mod random;
mod time;
pub(crate) mod vocabulary;

pub use context::Context;
pub use metadata::Metadata;
pub use migration::{MigrationError, SnapshotReader};
pub use vocabulary::Registered;

pub(crate) use metadata::{LARGEST_METADATA_BYTES, request_id};
pub(crate) use random::RandomSeed;
pub(crate) use time::{system_time, time_ns};
pub(crate) use vocabulary::{
    CommandTable, Entry, NoJson, REDACTED_NAME, REDACTED_TAG, Vocabulary, model_name, same_name,
};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The whole state of an application, as a plain value in memory.
///
/// `clone()` must be O(1), or at least cheap: the engine clones the model once per batch of
/// commands, so that readers and rollback have a version of their own. Build it from persistent
/// (copy-on-write) collections such as [imbl](https://docs.rs/imbl)'s `OrdMap` and `Vector`, or
/// wrap rarely changing parts in an `Arc`.
///
/// The commands that may change a model are listed once, with [`commands!`](crate::commands!).
/// What a model and its commands must not do is in
/// [`docs::determinism`](crate::docs::determinism).
///
/// ```
/// use imbl::OrdMap;
/// use prevalence::Model;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Bank {
///     balances: OrdMap<u32, u64>,
/// }
///
/// impl Model for Bank {
///     type Event = ();
/// }
///
/// prevalence::commands! { Bank {} }
/// ```
pub trait Model: Vocabulary + Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What commands may [`emit`](Context::emit); `()` when that is not used.
    type Event: Clone + Send + Sync + 'static;

    /// The version of the model's encoded shape. Raise it whenever a change of the type changes
    /// what serde writes: an older snapshot is then an error that names both versions
    /// ([`Error::WrongVersion`](crate::Error::WrongVersion)) instead of a misread, unless
    /// [`migrate`](Self::migrate) knows that version.
    const VERSION: u32 = 1;

    /// Makes a model of a snapshot that version `from_version` of this type wrote: decode the old
    /// type and convert it. Called at open, when a snapshot's version is not [`VERSION`]; the
    /// journal behind that snapshot is then replayed onto the result. Must be deterministic, and
    /// must be kept for as long as a snapshot of that version is.
    ///
    /// ```
    /// # use prevalence::{MigrationError, Model, SnapshotReader};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Clone, Default, Serialize, Deserialize)]
    /// struct Till {
    ///     cents: u64,
    ///     currency: String,
    /// }
    ///
    /// /// What version 1 looked like.
    /// #[derive(Deserialize)]
    /// struct TillV1 {
    ///     cents: u32,
    /// }
    ///
    /// impl Model for Till {
    ///     type Event = ();
    ///     const VERSION: u32 = 2;
    ///
    ///     fn migrate(
    ///         from_version: u32,
    ///         snapshot: &mut SnapshotReader<'_>,
    ///     ) -> Result<Self, MigrationError> {
    ///         match from_version {
    ///             1 => {
    ///                 let TillV1 { cents } = snapshot.decode()?;
    ///                 Ok(Self { cents: cents.into(), currency: "EUR".to_owned() })
    ///             }
    ///             _ => Err(MigrationError::Unsupported),
    ///         }
    ///     }
    /// }
    /// # prevalence::commands! { Till {} }
    /// ```
    ///
    /// # Errors
    /// [`MigrationError::Unsupported`] for a version this program does not know (the default for
    /// all), [`MigrationError::Failed`] when the conversion fails; either fails the open.
    ///
    /// [`VERSION`]: Self::VERSION
    fn migrate(
        from_version: u32,
        snapshot: &mut SnapshotReader<'_>,
    ) -> Result<Self, MigrationError> {
        let _ = (from_version, snapshot);
        Err(MigrationError::Unsupported)
    }
}

/// A change of the model: a small serialisable value with a deterministic [`apply`](Self::apply).
///
/// A command is encoded where it is submitted, and what is applied is what comes out of that
/// encoding, live just as on replay: a field that serde skips is skipped from the start, not only
/// after the next start.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a command of `{M}`",
    note = "implement `prevalence::Command<{M}> for {Self}` and add a line `N => {Self}` with a \
            tag N of its own to `prevalence::commands! {{ {M} {{ … }} }}`",
    note = "or, where `{Self}` is a type parameter, bound it by `prevalence::Registered<{M}>`"
)]
pub trait Command<M: Model>: Serialize + DeserializeOwned + 'static {
    /// What the caller gets once the command is durable.
    type Output: Send + 'static;
    /// Why the command may refuse. Use [`std::convert::Infallible`] when it never does.
    type Rejection: Send + 'static;

    /// Changes the model, or refuses.
    ///
    /// Whatever it did to the model before it returned `Err` or panicked is rolled back. That
    /// costs: the engine restores a checkpoint and applies again the accepted commands of the
    /// batch so far. A command that checks first and changes afterwards reads better anyway.
    ///
    /// Must be deterministic: the same command on an equal model with an equal context does the
    /// same on every machine and in every process, for as long as the journal is kept. Time,
    /// randomness and ids come from `cx` only.
    ///
    /// # Errors
    /// The command's own refusal.
    fn apply(self, model: &mut M, cx: &mut Context<'_, M>)
    -> Result<Self::Output, Self::Rejection>;
}
