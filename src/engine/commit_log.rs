//! Owns what the committer needs from a log: to append the bytes of a batch, to make them durable,
//! and to report progress. The journal on the local disk is one such log. Knows nothing of what is
//! in the bytes, and of callers.

use crate::files::{ChangeFailure, StoreError};
use crate::journal::{FrameBuffer, Journal};

/// A sync that may run while batches are appended. It returns the sequence that is durable then.
pub(crate) type DetachedSync = Box<dyn FnOnce() -> Result<u64, StoreError> + Send>;

/// The progress of a log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogProgress {
    /// The sequence of the newest command that was written.
    pub(crate) written_sequence: u64,
    /// The newest sequence that is known durable.
    pub(crate) durable_sequence: u64,
    /// The chain value after the newest command.
    pub(crate) chain: u32,
    /// How many bytes this run has written.
    pub(crate) written_bytes: u64,
    /// How many segments this run has added.
    pub(crate) segments_added: u64,
}

/// What the committer appends to and syncs. Only one thread uses it at a time.
pub(crate) trait CommitLog: Send {
    /// Writes one batch of `count` commands; `time_ns` is the time of its last command. The batch
    /// is durable after a sync. After [`ChangeFailure::InDoubt`], the log must not be used any
    /// more.
    fn append(
        &mut self,
        frame: &mut FrameBuffer,
        count: u32,
        time_ns: u64,
    ) -> Result<(), ChangeFailure>;

    /// Makes everything that was written durable.
    fn sync(&mut self) -> Result<(), StoreError>;

    /// Returns a sync that runs without borrowing the log. After it, the caller calls
    /// [`note_synced`](Self::note_synced). Returns `None` when everything is durable already.
    fn detached_sync(&self) -> Option<DetachedSync>;

    /// Notes that a detached sync has made everything up to `sequence` durable.
    fn note_synced(&mut self, sequence: u64);

    /// Writes a commit marker while the log is idle: it states that everything before it is
    /// durable.
    fn write_commit_marker(&mut self) -> Result<(), StoreError>;

    /// Returns the progress of the log.
    fn progress(&self) -> LogProgress;

    /// Ends threads of the log, and removes files that were prepared and never used.
    fn stop_preparing(&mut self);

    /// States durably that the log ends exactly here.
    fn close(&mut self) -> Result<(), StoreError>;

    /// Checks that what was written can still be found. If it cannot, it would be lost with this
    /// process.
    fn check_stands(&self) -> Result<(), StoreError>;
}

impl CommitLog for Journal {
    fn append(
        &mut self,
        frame: &mut FrameBuffer,
        count: u32,
        time_ns: u64,
    ) -> Result<(), ChangeFailure> {
        self.append(frame, count, time_ns)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.sync()
    }

    fn detached_sync(&self) -> Option<DetachedSync> {
        let target = self.sync_target()?;
        Some(Box::new(|| target.sync()))
    }

    fn note_synced(&mut self, sequence: u64) {
        self.note_synced(sequence);
    }

    fn write_commit_marker(&mut self) -> Result<(), StoreError> {
        self.write_commit_marker()
    }

    fn progress(&self) -> LogProgress {
        LogProgress {
            written_sequence: self.written_sequence(),
            durable_sequence: self.durable_sequence(),
            chain: self.chain(),
            written_bytes: self.written_bytes(),
            segments_added: self.segments_added(),
        }
    }

    fn stop_preparing(&mut self) {
        self.stop_preparing();
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.close()
    }

    fn check_stands(&self) -> Result<(), StoreError> {
        self.check_stands()
    }
}
