//! The documentation that is longer than an item's own, where the documentation is.

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("determinism.md")]
pub mod determinism {}

#[doc = include_str!("format.md")]
pub mod format {}

#[doc = include_str!("limitations.md")]
pub mod limitations {}

#[doc = include_str!("performance.md")]
pub mod performance {}

#[doc = include_str!("reliability.md")]
pub mod reliability {}

#[doc = include_str!("tuning.md")]
pub mod tuning {}

/// Keeps the README's example compiling and passing.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub mod readme {}
