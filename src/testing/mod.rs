//! For an application's own tests: single commands by example, that they are deterministic, and
//! that a stored history still means what it meant.
//!
//! - [`given`] a model, `when` a command is executed, `then` this is its output and that the model:
//!   see [`Fixture`]. Every command is applied twice there, and must do the same.
//! - [`assert_history`]: that today's code makes of a stored history what was made of it once.
//! - [`assert_deterministic`]: that it makes the same of it twice.
//!
//! All of them panic with a text that says what is wrong, as `assert!` does, and are of no use in a
//! running program.

#![expect(clippy::panic, reason = "a failed test is a panic")]

mod fixture;
mod stored;
mod twice;

pub use fixture::{Executed, Fixture, given};
pub use stored::{assert_deterministic, assert_history};
