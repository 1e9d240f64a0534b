//! Owns what the process gives: threads with stacks of known size, panics that end where they should,
//! and whether it was forked. Knows nothing of what runs.

mod fork;
mod panics;
pub(crate) mod stack;

pub(crate) use fork::OpeningProcess;
pub(crate) use panics::{panic_message, told_of_panics};
pub(crate) use stack::{Floor, FreedDeep};
