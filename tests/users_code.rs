//! Users' code that does not do what it must: types that do not mirror themselves, values nested
//! without end, panics in `Clone`, `Drop`, `Serialize` and `Deserialize`. Nothing acknowledged is
//! lost, everybody hears why, and no process ends.
//!
//! - `mirror`: a model that encodes and does not decode
//! - `deep`: models and commands that are nested deep
//! - `panics`: panics where nobody expects them

mod common;
mod users;
