//! Sinks against real databases: exactly once, whatever fails between two of their commits.

#![cfg_attr(not(all(feature = "sqlite", feature = "postgres")), allow(dead_code))]

mod common;

mod contract;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
