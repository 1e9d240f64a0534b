//! Owns what lasts beside a database and follows it: read models, other databases, side effects,
//! each with a durable position. Knows nothing of how commands are accepted.
//!
//! - `options`: how a follower works
//! - `follower`: what all of them have: seat, files, dead letters
//! - `thread`: the loop in which they work and obey
//! - `gated`: the storage, until the database is closed
//! - `checkpoint`: the value of a projection in a file
//! - `projection`, `keeper`, `resume`: a read model, the thread that keeps it, and where it begins
//! - `sink`, `feeder`: another database, and the thread that feeds it
//! - `reactor`: side effects
//! - `handle`: what a program holds of a follower that runs
//! - `api`: how they are started, listed and removed

mod api;
mod checkpoint;
mod feeder;
mod follower;
mod gated;
mod handle;
mod keeper;
mod options;
mod projection;
mod reactor;
mod resume;
mod sink;
#[cfg(test)]
mod tests;
mod thread;

#[cfg(any(test, fuzzing))]
pub(crate) use checkpoint::{CheckpointOf, decode_checkpoint, write_checkpoint};

pub use api::FollowerInfo;
pub use handle::{DeadLetter, FollowerHandle, ProjectionHandle, ProjectionView};
pub use options::{FollowerOptions, OnFailure};
pub use projection::{FollowerError, Projection};
pub use reactor::{Reaction, Reactor};
pub use sink::{Sink, Source};
