//! **System prevalence**: the whole state of an application is plain Rust values in memory, and
//! still no acknowledged change is lost. A crash does not lose one, and neither does a power cut,
//! on a disk that keeps what it has synced.
//!
//! The state is a [`Model`] whose `clone()` is cheap. Only [`Command`]s change it: small
//! serialisable values with a deterministic `apply`. Accepted commands go to a journal by group
//! commit. A start loads the newest snapshot and replays the journal's tail. Readers take no lock
//! and never wait.
//!
//! ```toml
//! [dependencies]
//! prevalence = "0.1"
//! serde = { version = "1", features = ["derive"] } # models and commands are serde types
//! tempfile = "3" # for this example alone
//! ```
//!
//! ```
//! use prevalence::collections::Map;
//! use prevalence::{Command, Context, Database, Model};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Default, Serialize, Deserialize)]
//! struct Bank {
//!     balances: Map<u32, u64>,
//! }
//!
//! impl Model for Bank {
//!     type Event = ();
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! struct Deposit {
//!     account: u32,
//!     cents: u64,
//! }
//!
//! #[derive(Debug, PartialEq)]
//! struct Overflow;
//!
//! impl Command<Bank> for Deposit {
//!     type Output = u64; // delivered once durable
//!     type Rejection = Overflow; // leaves no trace
//!
//!     fn apply(self, bank: &mut Bank, _cx: &mut Context<'_, Bank>) -> Result<u64, Overflow> {
//!         let before = bank.balances.get(&self.account).copied().unwrap_or(0);
//!         let after = before.checked_add(self.cents).ok_or(Overflow)?;
//!         bank.balances.insert(self.account, after);
//!         Ok(after)
//!     }
//! }
//!
//! // The journal's vocabulary, in one place: a stable tag for each command, for ever.
//! prevalence::commands! { Bank { 1 => Deposit } }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("bank.db");
//! let bank = Database::<Bank>::open(&path)?;
//! let balance = bank.execute(Deposit { account: 7, cents: 250 })?; // durable on return
//! assert_eq!(balance, 250);
//! let view = bank.view(); // pins a version
//! bank.execute(Deposit { account: 7, cents: 50 })?;
//! let total: u64 = bank.query(|bank| bank.balances.values().sum());
//! assert_eq!((total, view.balances[&7]), (300, 250));
//! bank.close()?;
//!
//! let bank = Database::<Bank>::open(&path)?; // replays the journal
//! assert_eq!(bank.query(|bank| bank.balances[&7]), 300);
//! # Ok(())
//! # }
//! ```
//!
//! # Where to go from here
//!
//! - [`Command`] and [`Model`]: the traits that an application implements. [`docs::determinism`]
//!   says what an implementation must not do.
//! - [`Database`]: execute, submit and await, query, view, close. [`Builder`]: the options.
//! - [`ReadOnly`]: a database that another process writes, read beside it.
//! - [`Durability`]: what an answer promises, and what a weaker choice may lose.
//! - [`docs::async_service`]: which calls wait for what, and clients that try again.
//! - [`schema`]: what the files say of the types in them, for programs that do not have these.
//! - [`inspect`] and [`rescue`]: looking into a database without its program's types, and repairs,
//!   restores and backups. The tool `prevalence-cli` has the same as commands.
//! - [`testing`]: for an application's own tests. [`docs::evolution`]: an application through three
//!   releases.
//! - [`docs::architecture`]: how a command travels. [`docs::format`]: every byte on disk.
//! - [`docs::limitations`]: what this crate is not.

#![warn(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::undocumented_unsafe_blocks
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

#[cfg(not(all(unix, target_pointer_width = "64")))]
compile_error!("prevalence needs a 64-bit Unix: positional I/O, directory syncs and 64-bit sizes");

#[macro_use]
mod faults;
#[macro_use]
mod trace;

mod codec;
pub mod collections;
mod database;
mod engine;
mod error;
mod events;
mod execute_error;
mod files;
mod followers;
mod history;
mod import_report;
pub mod inspect;
mod journal;
mod json;
mod model;
mod mutex;
mod options;
mod panics;
mod process;
mod purge;
mod read_only;
mod recovery;
pub mod rescue;
pub mod schema;
mod snapshot;
mod stats;
mod storage;
#[cfg(test)]
mod test_support;

pub mod docs;
#[cfg(any(test, fuzzing, feature = "laboratory"))]
#[doc(hidden)]
pub mod laboratory;
pub mod testing;

pub use database::{
    Builder, Database, FromDefault, Given, InitialModel, ProgressAnswer, Sandbox, Submitting,
};
pub use engine::{
    AtError, FollowerState, FollowerStatus, Health, JsonOutput, Numbered, Pending, PendingNumbered,
    Refused, Rejection, Rejections, RequestStatus, SnapshotInfo, View,
};
pub use error::{Error, TypeChange};
pub use events::{From, Reached, Recorded, Subscription};
pub use execute_error::{
    ExecuteError, FirstAnswer, Poisoned, TrySubmitError, UnreadableOutput, WaitError,
};
pub use files::{DatabaseId, FollowerKind};
pub use followers::{
    DeadLetter, FollowerError, FollowerHandle, FollowerInfo, FollowerOptions, OnFailure,
    Projection, ProjectionHandle, ProjectionView, Reaction, Reactor, Sink, Source,
};
pub use history::{
    Culprit, Divergence, Evidence, History, HistoryRecord, HistoryRecords, HistoryReport,
    verify_against, verify_history,
};
pub use import_report::{ImportReport, RefusedLine};
pub use model::{
    AnyCommand, Command, Context, Listed, Metadata, MigrationError, Model, SnapshotReader,
    StoredEvent,
};
pub use options::{
    ArchivedSnapshots, Durability, Events, LoadModel, RecentVersions, Retention, SnapshotPolicy,
};
pub use purge::{
    PurgeAction, PurgeRecord, PurgeReport, Replacement, purge, purge_records, purge_unverified,
};
pub use read_only::ReadOnly;
pub use recovery::{DamagedSnapshot, Phase, Progress, RecoveryReport, TornTail};
pub use stats::Stats;

/// The items that [`commands!`] expands to. Not for direct use.
#[doc(hidden)]
pub mod __private {
    pub use crate::execute_error::{
        OfRejection, Shown, WithDebug, WithDisplay, WithError, WithNothing,
    };
    pub use crate::model::vocabulary::{
        CommandList, Entry, Includes, Line, Listed, OfOutput, OutputToJson, Vocabulary,
        WithSerialize, WithoutSerialize, assert_included, assert_lines_differ, count, decode_as,
        join,
    };
    pub use serde;
}
