//! The engine on a disk that fails, under users' code that does, and at its limits.

mod durability;
mod endless;
mod failure;
mod pending;
mod queue;
mod refusal;
mod refused_lives;
