//! TODO front page
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

mod batch;
mod codec;
mod commands;
mod committer;
mod context;
mod database;
mod directory;
mod engine;
mod error;
mod fields;
mod header;
mod journal;
mod manifest;
mod metadata;
mod model;
mod options;
mod pending;
mod published;
mod queue;
mod recovery;
mod replay;
mod shared;
mod snapshot;
mod stats;
mod status;
mod storage;
mod syncer;
mod working;
mod writer;

#[cfg(test)]
mod failure_tests;

pub mod docs;

pub use context::Context;
pub use database::Database;
pub use error::{DatabaseId, Error, ExecuteError, Poisoned, TrySubmitError, WaitError};
pub use metadata::Metadata;
pub use model::{Command, Model};
pub use options::{Builder, Durability, FromDefault, Given, InitialModel};
pub use pending::Pending;
pub use published::View;
pub use recovery::{Phase, Progress, RecoveryReport};
pub use replay::TornTail;
pub use stats::Stats;
pub use status::Health;

/// What [`commands!`] expands to; not for direct use.
#[doc(hidden)]
pub mod __private {
    pub use crate::commands::{Entry, Registered, Vocabulary, assert_tags_differ};
}
