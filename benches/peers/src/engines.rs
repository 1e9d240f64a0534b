//! One module for each engine: how its authors would have it used.

pub mod airomem;
pub mod fjall;
pub mod floor;
pub mod lmdb;
pub mod okaywal;
pub mod prevalence;
pub mod redb;
pub mod redis;
pub mod sqlite;
