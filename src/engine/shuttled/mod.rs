//! Owns the exploration of thread interleavings on a command's way from the queue to its answer.
//! Compiles that way's source files a second time, with shuttle's mutexes, condition variables,
//! atomics and threads instead of std's: shuttle then decides at each of them who runs next.
//!
//! - `sync`: what the files find as `super::sync`
//! - `log`: a `CommitLog` without files
//! - `explore`: how many schedules of which kinds
//! - `queue_tests`, `pending_tests`, `published_tests`: each file by itself
//! - `pipeline_tests`: writer, committer and callers together
//!
//! All memory accesses are sequentially consistent here: what a weaker ordering could break is not
//! explored. Nor is `ArcSwap`, which brings its own atomics; a mutex stands in for it.

#![allow(dead_code, reason = "the tests do not use everything that production code does")]
#![allow(clippy::duplicate_mod, reason = "to compile the same source twice is the point")]

#[path = "../batch.rs"]
mod batch;
#[path = "../committer.rs"]
mod committer;
#[path = "../pending.rs"]
mod pending;
#[path = "../published_version.rs"]
mod published_version;
#[path = "../queue/mod.rs"]
mod queue;
#[path = "../seat.rs"]
mod seat;
#[path = "../shared.rs"]
mod shared;
#[path = "../status.rs"]
mod status;
#[path = "../submission.rs"]
mod submission;
#[path = "../working_version.rs"]
mod working_version;
#[path = "../writer.rs"]
mod writer;

mod explore;
mod log;
mod sync;

mod pending_tests;
mod pipeline_tests;
mod published_tests;
mod queue_tests;
