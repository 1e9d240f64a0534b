#![doc = include_str!("../README.md")]
#![warn(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may")
)]
#![cfg_attr(not(any(feature = "sqlite", feature = "postgres")), allow(dead_code))]

mod error;
mod position;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "postgres")]
pub use self::postgres::PostgresSink;
pub use error::{Failure, SinkError};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteSink;
