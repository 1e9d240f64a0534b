//! Owns what concerns the process: threads with stacks of known size, and whether the process
//! was forked. Knows nothing of what runs.

mod fork;
pub(crate) mod stack;

pub(crate) use fork::OpeningProcess;
pub(crate) use stack::{Floor, FreedDeep};

/// Returns how many threads can run at the same time.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
