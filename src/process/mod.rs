//! Owns what concerns the process: threads with stacks of known size, the messages of panics, and
//! whether the process was forked. Knows nothing of what runs.

mod fork;
mod panics;
pub(crate) mod stack;

pub(crate) use fork::OpeningProcess;
pub(crate) use panics::{panic_message, told_of_panics};
pub(crate) use stack::{Floor, FreedDeep};
