//! Reads a database beside the program that has it open, or without one: it takes no lock, changes
//! nothing, and shows only what is durable. Knows nothing of running commands.
//!
//! - `handle`: what a program holds
//! - `state`: what the handles share with the thread that reads
//! - `thread`: the thread, its orders and its pauses
//! - `reading`: one look at the files, and how it goes on from the look before
//! - `model_copy`: the model to which the journal is applied
//! - `newest_snapshot`: the snapshot with which reading begins
//! - `progress`: what is told of an open

mod handle;
mod model_copy;
mod newest_snapshot;
mod progress;
mod reading;
mod state;
#[cfg(test)]
mod tests;
mod thread;

pub use handle::ReadOnly;

pub(crate) use handle::open;
