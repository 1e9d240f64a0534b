//! The documentation that is longer than an item's own, where the documentation is.

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("determinism.md")]
pub mod determinism {}

#[doc = include_str!("evolution.md")]
pub mod evolution {}

#[doc = include_str!("format.md")]
pub mod format {}

#[doc = include_str!("limitations.md")]
pub mod limitations {}

#[doc = include_str!("performance.md")]
pub mod performance {}

#[doc = include_str!("reliability.md")]
pub mod reliability {}

// No page on docs.rs can point at a file beside it, so the chart is part of this one. Of two
// definitions of a link the first counts: the one in the text is for readers of the repository.
#[doc = "[chart]: #snapshot-intervals-drawn\n"]
#[doc = include_str!("tuning.md")]
#[doc = "\n# Snapshot intervals, drawn\n"]
#[doc = include_str!("snapshot-intervals.svg")]
pub mod tuning {}

/// Keeps the README's example compiling and passing.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub mod readme {}
