//! What is on disk, and what becomes of it: opening, snapshots, and surroundings that are not as
//! they should be.

#[path = "../common/mod.rs"]
mod common;

mod breaker;
mod intruders;
mod opening;
mod place;
mod recovery;
mod snapshot_policies;
mod snapshots;
mod surroundings;
