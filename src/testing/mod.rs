//! Helps to test an application: single commands, their determinism, and stored histories.
//!
//! - [`given`] a model, `when` a command is executed, `then` check its output and the model: see
//!   [`Fixture`]. Every command is applied twice, and must do the same both times.
//! - [`assert_history`] verifies that today's code reproduces the snapshots of a stored history.
//! - [`assert_deterministic`] verifies that today's code replays a stored history to the same model
//!   twice.
//!
//! All of them panic with a text that says what is wrong, as `assert!` does. They are meant for
//! tests only.

#![expect(clippy::panic, reason = "a failed test is a panic")]

mod determinism_check;
mod fixture;
mod history_check;

pub use fixture::{Executed, Fixture, given};
pub use history_check::{assert_deterministic, assert_history};
