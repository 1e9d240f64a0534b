//! Owns what lasts beside a database and follows it: read models, other databases, side effects,
//! each with a durable position. Knows nothing of how commands are accepted.
//!
//! - `sink`: another database that is fed with every command

mod sink;

pub use sink::{Sink, Source};
