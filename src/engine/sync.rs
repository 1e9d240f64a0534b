//! Owns the choice of what the commit path synchronises with. Its modules import all of it from
//! `super::sync`, because `super::shuttled` compiles the same files once more, with shuttle's
//! types beside them, to explore how their threads can interleave.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, atomic};
pub(crate) use std::time::Instant;
pub(crate) use std::{hint, thread, thread_local};

pub(crate) use arc_swap::ArcSwap;
pub(crate) use crossbeam_channel as channel;
