//! Owns how a program follows its database: what every accepted command was and emitted, from
//! history to live without a gap. Knows nothing of how commands are accepted.
//!
//! - `recorded`: one accepted command, as a follower gets it
//! - `subscription`: the way from the files to the batches that were just committed

mod recorded;
mod subscription;

pub use recorded::Recorded;
pub use subscription::{From, Reached, Subscription};

pub(crate) use subscription::Followed;
