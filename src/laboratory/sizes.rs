//! Owns the choice between the usual and small sizes of the parts and chunks of packed files: see
//! `size!`. With the usual ones, the small models of the tests are one chunk and have no parts. It
//! also counts what was read in parts, so that a test can prove that this happened.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

static ARE_SMALL: AtomicBool = AtomicBool::new(false);
static PARTS_DECODED: AtomicU64 = AtomicU64::new(0);
static CHANGES_DECODED: AtomicU64 = AtomicU64::new(0);
static LOADED_LATE: AtomicU64 = AtomicU64::new(0);

/// How many hold the sizes as they are.
static HOLDERS: Mutex<u64> = Mutex::new(0);
static NOBODY_HOLDS: Condvar = Condvar::new();

/// Keeps the sizes as they are while it lives. The sizes belong to the whole process, so a test
/// that needs other sizes waits. The usual sizes come back when nobody holds small ones.
pub struct Sizes(());

impl Sizes {
    /// Makes the sizes small, for this whole process.
    pub fn small() -> Self {
        Self::hold(true)
    }

    /// Keeps the usual sizes.
    pub fn usual() -> Self {
        Self::hold(false)
    }

    fn hold(small: bool) -> Self {
        let holders = HOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = |holders: &mut u64| *holders > 0 && sizes_are_small() != small;
        let waited = NOBODY_HOLDS.wait_while(holders, is_other);
        *waited.unwrap_or_else(PoisonError::into_inner) += 1;
        ARE_SMALL.store(small, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Sizes {
    fn drop(&mut self) {
        let mut holders = HOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        *holders -= 1;
        if *holders == 0 {
            ARE_SMALL.store(false, Ordering::Relaxed);
            NOBODY_HOLDS.notify_all();
        }
    }
}

#[inline]
pub(crate) fn sizes_are_small() -> bool {
    ARE_SMALL.load(Ordering::Relaxed)
}

/// Notes that a collection was decoded in so many parts.
pub(crate) fn decoded_in_parts(parts: usize) {
    PARTS_DECODED.fetch_add(parts as u64, Ordering::Relaxed);
}

/// Notes that a collection was made of a snapshot and the changes since.
pub(crate) fn decoded_from_changes() {
    CHANGES_DECODED.fetch_add(1, Ordering::Relaxed);
}

/// Notes that some entries were loaded after the open.
pub(crate) fn loaded_late() {
    LOADED_LATE.fetch_add(1, Ordering::Relaxed);
}

/// Returns how often this process has loaded some entries after an open.
pub fn late_loads() -> u64 {
    LOADED_LATE.load(Ordering::Relaxed)
}

/// Returns how many collections this process has made of snapshots and the changes since.
pub fn changes_decoded() -> u64 {
    CHANGES_DECODED.load(Ordering::Relaxed)
}

/// Returns how many parts of collections this process has decoded.
pub fn parts_decoded() -> u64 {
    PARTS_DECODED.load(Ordering::Relaxed)
}
