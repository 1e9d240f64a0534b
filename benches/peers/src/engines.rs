//! One module for each engine, used in the way that its authors intend.

pub mod airomem;
pub mod fjall;
pub mod floor;
pub mod lmdb;
pub mod okaywal;
pub mod prevalence;
pub mod redb;
pub mod redis;
pub mod sqlite;
