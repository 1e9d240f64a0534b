//! What a user of the crate writes and reads: the vocabulary of commands over the years, tests of
//! models, JSON, what `tracing` and `metrics` are told, and the code of the documentation; and that the tree stays
//! one.

#[path = "../common/mod.rs"]
mod common;

mod compile_fail;
mod evolution;
mod import;
mod json;
mod lists;
mod metrics;
mod readme;
mod shown;
mod testing;
mod trace;
mod tree;
mod vocabulary;
