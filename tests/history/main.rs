//! Reading history back, verifying it, and purging from it.

#[path = "../common/mod.rs"]
mod common;

mod files;
mod long_names;
mod mixed;
mod models;
mod purge;
mod purge_refused;
mod purged;
mod reading;
mod verify;
mod walk;
