//! Owns the traits that a user implements: the model and its commands. Knows nothing of how they
//! are stored.

mod context;
mod described;
mod events;
mod metadata;
mod migration;
mod random;
mod time;
pub(crate) mod vocabulary;

pub use context::Context;
pub use events::StoredEvent;
pub use metadata::Metadata;
pub use migration::{MigrationError, SnapshotReader};
pub use vocabulary::{AnyCommand, Listed};

pub(crate) use described::{GivenSchemas, ProgramSchemas, program_schemas};
pub(crate) use events::{
    EVENTS_TAG, LARGEST_EVENTS_BYTES, check_count as check_event_count, decode as decode_events,
    encode as encode_events, split as split_events,
};
pub(crate) use metadata::{LARGEST_METADATA_BYTES, asked};
pub(crate) use random::RandomSeed;
pub(crate) use time::{system_time, time_ns};
pub(crate) use vocabulary::{
    CommandTable, Entry, NoJson, NotApplied, REDACTED_NAME, REDACTED_TAG, Vocabulary, model_name,
    same_name,
};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The whole state of an application, as a plain value in memory.
///
/// `clone()` must be O(1), or at least cheap. The engine clones the model once per batch of
/// commands, so that readers and rollback have their own version. Build it from the
/// [`collections`](crate::collections) of this crate, from other persistent collections such as
/// those of [imbl](https://docs.rs/imbl), or wrap rarely changing parts in an `Arc`.
///
/// List the commands that may change a model once, with [`commands!`](crate::commands!).
/// [`docs::determinism`](crate::docs::determinism) says what a model and its commands must not do.
///
/// ```
/// use prevalence::collections::Map;
/// use prevalence::Model;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Bank {
///     balances: Map<u32, u64>,
/// }
///
/// impl Model for Bank {
///     type Event = ();
/// }
///
/// prevalence::commands! { Bank {} }
/// ```
pub trait Model: Vocabulary + Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The type of the events that commands may [`emit`](Context::emit). Use `()` if they emit
    /// none. Otherwise they are stored with the command that emitted them, unless
    /// [`Builder::events`](crate::Builder::events) says something else.
    type Event: Clone + Serialize + DeserializeOwned + Send + Sync + 'static;

    /// The version of the model's encoded shape. Raise it whenever a change of the type changes
    /// what serde writes. An older snapshot is then not misread: it is an error that names both
    /// versions ([`Error::WrongVersion`](crate::Error::WrongVersion)), unless
    /// [`migrate`](Self::migrate) knows its version.
    ///
    /// Every snapshot also states the shape of the type that wrote it. So most changes for which
    /// this was forgotten are an error, too ([`Error::ModelChanged`](crate::Error::ModelChanged)).
    /// To find the shape, the first open in a process deserialises the type from made-up values.
    /// [`docs::evolution`](crate::docs::evolution) says what is noticed in this way.
    const VERSION: u32 = 1;

    /// The version of the events' encoded shape. Raise it whenever a change of
    /// [`Event`](Self::Event) changes what serde writes, and read the events of older versions in
    /// [`read_event`](Self::read_event).
    const EVENT_VERSION: u32 = 1;

    /// Makes an event from one that a program with event version `version` has stored, which is not
    /// [`EVENT_VERSION`](Self::EVENT_VERSION). An implementation decodes the old type and converts
    /// it. Keep it for as long as such events are stored.
    ///
    /// ```
    /// # use prevalence::{MigrationError, Model, StoredEvent};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Default, Serialize, Deserialize)]
    /// # struct Till;
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Paid {
    ///     cents: u64,
    /// }
    ///
    /// /// What version 1 looked like.
    /// #[derive(Deserialize)]
    /// struct PaidV1 {
    ///     euros: u32,
    /// }
    ///
    /// impl Model for Till {
    ///     type Event = Paid;
    ///     const EVENT_VERSION: u32 = 2;
    ///
    ///     fn read_event(version: u32, event: StoredEvent<'_>) -> Result<Paid, MigrationError> {
    ///         match version {
    ///             1 => {
    ///                 let PaidV1 { euros } = event.decode()?;
    ///                 Ok(Paid { cents: u64::from(euros) * 100 })
    ///             }
    ///             _ => Err(MigrationError::Unsupported),
    ///         }
    ///     }
    /// }
    /// # prevalence::commands! { Till {} }
    /// ```
    ///
    /// # Errors
    /// [`MigrationError::Unsupported`] for a version that this program does not know (the default
    /// for all versions); [`MigrationError::Failed`] if the conversion fails. Whoever reads the
    /// event gets this as an error.
    fn read_event(version: u32, event: StoredEvent<'_>) -> Result<Self::Event, MigrationError> {
        let _ = (version, event);
        Err(MigrationError::Unsupported)
    }

    /// Makes a model from a snapshot that version `from_version` of this type wrote. An
    /// implementation decodes the old type and converts it. An open calls this when a snapshot's
    /// version is not [`VERSION`], and then replays the journal after that snapshot onto the
    /// result. The conversion must be deterministic. Keep it for as long as a snapshot of that
    /// version is kept.
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
    /// [`MigrationError::Unsupported`] for a version that this program does not know (the default
    /// for all versions); [`MigrationError::Failed`] if the conversion fails. Either error makes
    /// the open fail.
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

/// A change to the model: a small serialisable value with a deterministic [`apply`](Self::apply).
///
/// A command is encoded when it is submitted, and the engine applies the value that it decodes from
/// that encoding. This is the same when the command is executed and when it is replayed. So a field
/// that serde skips is missing at once, and not only after the next start.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a command of `{M}`",
    note = "implement `prevalence::Command<{M}> for {Self}` and add a line `N => {Self}` with a \
            tag N of its own to `prevalence::commands! {{ {M} {{ … }} }}`",
    note = "or, where `{Self}` is a type parameter, bound it by `prevalence::Listed<{M}>`"
)]
pub trait Command<M: Model>: Serialize + DeserializeOwned + 'static {
    /// The result that the caller gets once the command is durable.
    type Output: Send + 'static;
    /// The reason why the command may refuse. Use [`std::convert::Infallible`] if it never refuses.
    type Rejection: Send + 'static;

    /// Changes the model, or refuses.
    ///
    /// If it returns `Err` or panics, its changes to the model are rolled back. A rollback has a
    /// cost: the engine restores a checkpoint and applies the accepted commands of the batch again.
    /// A command that checks first and changes afterwards avoids this cost and is easier to read.
    ///
    /// It must be deterministic: the same command on an equal model with an equal context must do
    /// the same on every machine and in every process, for as long as the journal is kept. Take
    /// time, random numbers and ids only from `cx`.
    ///
    /// # Errors
    /// The command's own refusal.
    fn apply(self, model: &mut M, cx: &mut Context<'_, M>)
    -> Result<Self::Output, Self::Rejection>;
}
