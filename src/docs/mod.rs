//! The documentation that is longer than an item's own: as modules, so that it is where the
//! documentation is.

#[doc = include_str!("determinism.md")]
pub mod determinism {}
