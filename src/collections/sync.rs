//! Owns the choice of the types with which the handles of a family synchronise: `family`, `pool`
//! and `tree` import them from here. `shuttled` compiles these modules a second time with shuttle's
//! types.

pub(super) use std::sync::{Mutex, MutexGuard};

pub(super) use crate::mutex::lock;
