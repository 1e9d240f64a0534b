//! Owns how a program follows its database: what every accepted command was and emitted, from
//! history to live without a gap. Knows nothing of how commands are accepted.
//!
//! - `recorded`: one accepted command, as a follower gets it
//! - `derived`: the events of commands that are stored without theirs
//! - `followed`: what a follower needs of an open database
//! - `subscription`: the way from the files to the batches that were just committed
//! - `reached`: futures that wait for a version

mod derived;
mod followed;
mod reached;
mod recorded;
mod subscription;

pub use reached::Reached;
pub use recorded::Recorded;
pub use subscription::{From, Subscription};

pub(crate) use followed::Followed;
