//! Owns a journal without files, which fails when told to. What is durable can be looked at
//! without giving the scheduler a chance to run somebody else: a test's oracle.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::sync::thread;
use crate::files::{ChangeFailure, StoreError};
use crate::journal::FrameBuffer;

pub(crate) struct Journal {
    written: u64,
    durable: Arc<AtomicU64>,
    /// The append that would go beyond it fails.
    fails_after: u64,
    /// The append that would go beyond it is refused, once.
    pub(crate) refuses_after: u64,
}

/// A sync outside the committer's lock.
pub(crate) struct SyncTarget {
    sequence: u64,
}

impl SyncTarget {
    pub(crate) fn sync(self) -> Result<u64, StoreError> {
        thread::yield_now();
        Ok(self.sequence)
    }
}

impl Journal {
    pub(crate) fn new(fails_after: u64) -> (Self, Arc<AtomicU64>) {
        let durable = Arc::new(AtomicU64::new(0));
        let refuses_after = u64::MAX;
        (Self { written: 0, durable: durable.clone(), fails_after, refuses_after }, durable)
    }

    pub(crate) fn append(
        &mut self,
        _frame: &mut FrameBuffer,
        count: u32,
        _time_ns: u64,
    ) -> Result<(), ChangeFailure> {
        thread::yield_now();
        if self.written + u64::from(count) > self.refuses_after {
            self.refuses_after = u64::MAX;
            return Err(ChangeFailure::NotDone(failure()));
        }
        if self.written + u64::from(count) > self.fails_after {
            return Err(ChangeFailure::InDoubt(failure()));
        }
        self.written += u64::from(count);
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> Result<(), StoreError> {
        thread::yield_now();
        self.note_synced(self.written);
        Ok(())
    }

    pub(crate) fn mark(&mut self) -> Result<(), StoreError> {
        thread::yield_now();
        Ok(())
    }

    pub(crate) fn sync_target(&self) -> Option<SyncTarget> {
        (self.written > self.durable_sequence()).then_some(SyncTarget { sequence: self.written })
    }

    pub(crate) fn note_synced(&mut self, sequence: u64) {
        self.durable.fetch_max(sequence, Ordering::SeqCst);
    }

    pub(crate) fn written_sequence(&self) -> u64 {
        self.written
    }

    pub(crate) fn durable_sequence(&self) -> u64 {
        self.durable.load(Ordering::SeqCst)
    }

    pub(crate) fn written_bytes(&self) -> u64 {
        self.written
    }

    pub(crate) fn segments_added(&self) -> u64 {
        0
    }

    pub(crate) fn chain(&self) -> u32 {
        0
    }
}

fn failure() -> StoreError {
    StoreError::io("write", Path::new("journal"))(io::Error::other("told to fail"))
}
