//! Sinks against real databases: exactly once, whatever fails between two of their commits.

mod common;

mod contract;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
