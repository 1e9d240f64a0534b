//! Long-form documentation.

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("async_service.md")]
pub mod async_service {}

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

// A page on docs.rs cannot link to a file beside it, so the chart is included in this page. When a
// link is defined twice, the first definition counts. The definition in the text is for readers of
// the repository.
#[doc = "[chart]: #snapshot-intervals-drawn\n"]
#[doc = include_str!("tuning.md")]
#[doc = "\n# Snapshot intervals, drawn\n"]
#[doc = include_str!("snapshot-intervals.svg")]
pub mod tuning {}

/// Compiles and runs the README's example as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub mod readme {}
