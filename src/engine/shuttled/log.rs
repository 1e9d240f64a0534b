//! Owns a log without files, which fails when told to. A test can look at what is durable without
//! giving the scheduler a chance to run another thread.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::sync::thread;
use crate::engine::{CommitLog, DetachedSync, LogProgress};
use crate::files::{ChangeFailure, StoreError};
use crate::journal::FrameBuffer;

/// What a test sees of the log, and tells it.
pub(super) struct LogControl {
    /// The newest sequence that is durable.
    pub(super) durable: AtomicU64,
    /// The append that would go beyond this sequence fails.
    pub(super) fails_after: u64,
    /// The append that would go beyond this sequence is refused, once.
    pub(super) refuses_after: AtomicU64,
}

/// The log; each call lets other threads run.
pub(super) struct LogWithoutFiles {
    written: u64,
    control: Arc<LogControl>,
}

impl LogWithoutFiles {
    pub(super) fn new(fails_after: u64) -> (Self, Arc<LogControl>) {
        let (durable, refuses_after) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
        let control = Arc::new(LogControl { durable, fails_after, refuses_after });
        (Self { written: 0, control: control.clone() }, control)
    }

    fn durable(&self) -> u64 {
        self.control.durable.load(Ordering::SeqCst)
    }
}

impl CommitLog for LogWithoutFiles {
    fn append(
        &mut self,
        _frame: &mut FrameBuffer,
        count: u32,
        _time_ns: u64,
    ) -> Result<(), ChangeFailure> {
        thread::yield_now();
        let (control, end) = (&self.control, self.written + u64::from(count));
        if end > control.refuses_after.load(Ordering::SeqCst) {
            control.refuses_after.store(u64::MAX, Ordering::SeqCst);
            return Err(ChangeFailure::NotDone(failure()));
        }
        if end > control.fails_after {
            return Err(ChangeFailure::InDoubt(failure()));
        }
        self.written = end;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        thread::yield_now();
        self.note_synced(self.written);
        Ok(())
    }

    fn detached_sync(&self) -> Option<DetachedSync> {
        let sequence = self.written;
        (sequence > self.durable()).then(|| {
            let sync = move || {
                thread::yield_now();
                Ok(sequence)
            };
            Box::new(sync) as DetachedSync
        })
    }

    fn note_synced(&mut self, sequence: u64) {
        self.control.durable.fetch_max(sequence, Ordering::SeqCst);
    }

    fn write_commit_marker(&mut self) -> Result<(), StoreError> {
        thread::yield_now();
        Ok(())
    }

    fn progress(&self) -> LogProgress {
        LogProgress {
            written_sequence: self.written,
            durable_sequence: self.durable(),
            chain: 0,
            written_bytes: self.written,
            segments_added: 0,
        }
    }

    fn stop_preparing(&mut self) {}

    fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn check_stands(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn failure() -> StoreError {
    StoreError::io("write", Path::new("journal"))(io::Error::other("told to fail"))
}
