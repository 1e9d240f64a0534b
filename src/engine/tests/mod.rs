//! Tests the engine on a failing disk, with failing code of users, and at its limits.

mod durability;
mod endless;
mod failure;
mod pending;
mod queue;
mod refusal;
mod refused_lives;
mod seat;
