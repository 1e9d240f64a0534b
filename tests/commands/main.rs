//! Executing commands: answers, order, limits, what is refused and what it leaves; users' code that
//! does not do what it must; more than one process.

#[path = "../common/mod.rs"]
mod common;

mod batches;
mod caller;
mod deciding;
mod engine;
mod exchange_example;
mod exchange_follow;
mod exchange_oracle;
mod feedback;
mod modes;
mod processes;
mod recent;
mod requests;
mod traces;
mod users;
