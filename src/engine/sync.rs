//! Owns the choice of the types with which the threads of the commit path synchronise. The modules
//! of that path import these types from `super::sync`. `super::shuttled` compiles the same files a
//! second time with shuttle's types, to explore how the threads can interleave.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, atomic};
pub(crate) use std::time::Instant;
pub(crate) use std::{hint, thread, thread_local};

pub(crate) use arc_swap::ArcSwap;
pub(crate) use crossbeam_channel as channel;

pub(crate) use crate::mutex::{lock, try_lock};
