//! Owns a disk in memory that can crash: [`Storage`] with a fault model and an operation log. The
//! log gives every image that a power cut or a process kill may leave. Knows nothing of formats.
//!
//! The fault model:
//! 1. At a power cut each unsynced write splits into pieces of 512 bytes; each is independently
//!    old, new, zero or (rarely) garbage. Bytes outside a written range are safe. Only the file's
//!    own completed sync orders anything: it covers what was written before it began.
//! 2. A file's length and its data are separate. A sync persists both, but not the name.
//! 3. Names are durable only after their directory's sync. Any subset of the changes may survive; a
//!    rename survives as a whole.
//! 4. A failed sync is reported once. Its pieces can then never persist; reads show new or old.
//! 5. Writes may be short or fail after some bytes; space may run out at a sync; reads may fail.
//! 6. A process kill keeps completed operations, and a prefix of the write in flight.
//! 7. Clocks jump; the order of listings is random.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a laboratory stops at the first surprise"
)]

mod crash;
mod disk;
mod faults;
mod random;
mod state;
#[cfg(test)]
mod tests;
mod world;

pub(crate) use crash::{Fate, PIECE_BYTES, choices};
pub(crate) use disk::SimulatedDisk;
pub(crate) use faults::Fault;
#[cfg(test)]
pub(crate) use faults::{FaultKind, Target};
pub(crate) use random::Random;
pub(crate) use state::{Operation, State};
