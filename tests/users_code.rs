//! Tests of wrong users' code: types whose `Serialize` and `Deserialize` do not mirror each other,
//! values that are nested too deep, panics in `Clone`, `Drop`, `Serialize` and `Deserialize`. No
//! acknowledged command is lost, every caller gets the reason, and no process ends.
//!
//! - `mirror`: a model that encodes but does not decode
//! - `deep`: models and commands that are nested deep
//! - `panics`: panics in unexpected places

mod common;
mod users;
