//! Owns the exploration of what handles of one family do at once on several threads. Compiles the
//! modules below `map` a second time, with shuttle's mutexes: at each of them shuttle decides which
//! thread runs next. The audit is the judge of each schedule.
//!
//! All that handles share is behind a mutex, or does not change, so there are no other places at
//! which the order of threads counts.

#![allow(dead_code, unused_imports, reason = "the tests do not use all that maps use")]
#![allow(clippy::duplicate_mod, reason = "to compile the same source twice is the point")]

#[path = "../../engine/shuttled/explore.rs"]
mod explore;
#[path = "../family/mod.rs"]
mod family;
#[path = "../pool.rs"]
mod pool;
#[path = "../shape/mod.rs"]
mod shape;
#[path = "../tree/mod.rs"]
mod tree;

mod family_tests;

mod sync;
