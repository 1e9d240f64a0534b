//! Owns the counters of a running database. Knows nothing of the parts that count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// What a database has done since it was opened; see [`Database::stats`](crate::Database::stats).
/// Each figure is exact by itself, but the figures are not all read at the same instant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// The newest readable version's sequence.
    pub sequence: u64,
    /// The highest sequence known to be on stable storage. Equal to `sequence` under
    /// [`Durability::Sync`](crate::Durability::Sync), except for an instant.
    pub durable_sequence: u64,
    /// Commands accepted since the open.
    pub accepted: u64,
    /// Commands that were rejected by their own rules.
    pub rejected: u64,
    /// Commands that panicked.
    pub panicked: u64,
    /// Commands of [`execute_if`](crate::Database::execute_if) that were not applied because
    /// another command had been accepted first.
    pub stale: u64,
    /// Commands that were not applied because their request id had been accepted before.
    pub duplicates: u64,
    /// Commands that were not applied because their request id could not be remembered: all others
    /// are promised for some time yet.
    pub requests_full: u64,
    /// Request ids of accepted commands that are remembered now.
    pub remembered_requests: u64,
    /// The age of the oldest of them, by the database's clock; zero if there is none.
    pub oldest_request_age: Duration,
    /// Commands that were not accepted because their batch could not be written.
    pub not_written: u64,
    /// Bytes that the database has reserved for itself, for use when the disk is full. 0 while the
    /// reserve is released.
    pub reserve_bytes: u64,
    /// Accepted commands that were applied again because a later command of their batch failed.
    pub reapplied: u64,
    /// Frames written, one for each batch with an accepted command.
    pub batches: u64,
    /// Batches that the writer wrote and synced itself because it had nothing else to do.
    pub inline_batches: u64,
    /// The most accepted commands in one frame.
    pub largest_batch: u64,
    /// Journal syncs.
    pub syncs: u64,
    /// Bytes of frames written to the journal.
    pub journal_bytes: u64,
    /// Bytes of journal frames written after the newest snapshot.
    pub journal_bytes_since_snapshot: u64,
    /// Journal segments that the next open reads.
    pub segments_since_snapshot: u64,
    /// Commands accepted after the newest snapshot.
    pub commands_since_snapshot: u64,
    /// Snapshots taken since the open.
    pub snapshots_taken: u64,
    /// Snapshot attempts that failed; [`Health`](crate::Health) says why.
    pub snapshots_failed: u64,
    /// The newest snapshot's sequence.
    pub snapshot_sequence: u64,
    /// How long the newest snapshot took. Zero if it existed already at the open.
    pub snapshot_duration: Duration,
    /// Bytes that a start decodes of the newest snapshot: the size of the model's encoding, and of
    /// the changes since, if the snapshot holds only these.
    pub snapshot_raw_bytes: u64,
    /// Size of the newest snapshot's file in bytes: so much it wrote.
    pub snapshot_file_bytes: u64,
    /// Size of the earlier snapshots' files that the newest one rests on: so much it shared. 0 if
    /// it is whole.
    pub snapshot_shared_bytes: u64,
    /// How long the next open would take, predicted from the rates that this machine has shown so
    /// far.
    pub predicted_startup: Duration,
    /// Versions kept for [`Database::at`](crate::Database::at), besides the newest.
    pub recent_versions: u64,
    /// The sequence of the oldest version that is kept.
    pub recent_oldest_sequence: u64,
    /// Commands since the oldest version that is kept. They determine the memory cost: each command
    /// keeps alive the parts of the model that it replaced.
    pub recent_commands: u64,
    /// Durable followers that run: projections, sinks and reactors.
    pub followers: u64,
    /// Durable followers that are lost, whether they run or not:
    /// [`Database::followers`](crate::Database::followers) says which.
    pub followers_lost: u64,
    /// Bytes of journal segments that are kept for durable followers alone, as of the last clean-up
    /// after a snapshot.
    pub followers_held_bytes: u64,
    /// Commands waiting in the queue now.
    pub queued_commands: u64,
    /// Encoded bytes of the commands waiting in the queue now.
    pub queued_bytes: u64,
}

/// The counters behind [`Stats`].
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) durable_sequence: Counter,
    pub(crate) accepted: Counter,
    pub(crate) rejected: Counter,
    pub(crate) panicked: Counter,
    pub(crate) reapplied: Counter,
    pub(crate) stale: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) requests_full: Counter,
    pub(crate) not_written: Counter,
    pub(crate) batches: Counter,
    pub(crate) inline_batches: Counter,
    pub(crate) largest_batch: Counter,
    pub(crate) syncs: Counter,
    pub(crate) journal_bytes: Counter,
    pub(crate) segments_added: Counter,
    pub(crate) apply_time: ApplyTime,
}

/// One figure. Only statistics depend on it, so it needs no ordering with other memory accesses.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn raise_to(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The number of samples that count as early.
const EARLY_SAMPLES: u64 = 64;

/// How long sampled commands took to apply. Only the writer writes it.
#[derive(Default)]
pub(crate) struct ApplyTime {
    total_ns: Counter,
    early_total_ns: Counter,
    samples: Counter,
}

/// Averages of [`ApplyTime`]; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LiveApply {
    pub(crate) average_ns: u64,
    /// The average of the first samples.
    pub(crate) early_ns: u64,
}

impl ApplyTime {
    pub(crate) fn add(&self, took_ns: u64) {
        self.total_ns.add(took_ns);
        if self.samples.get() < EARLY_SAMPLES {
            self.early_total_ns.add(took_ns);
        }
        self.samples.add(1);
    }

    /// Returns the averages, or `None` before the first sample.
    pub(crate) fn get(&self) -> Option<LiveApply> {
        let samples = self.samples.get();
        if samples == 0 {
            return None;
        }
        let average_ns = (self.total_ns.get() / samples).max(1);
        let early_ns = (self.early_total_ns.get() / samples.min(EARLY_SAMPLES)).max(1);
        Some(LiveApply { average_ns, early_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_samples_are_kept_apart() {
        let time = ApplyTime::default();
        assert_eq!(time.get(), None);
        for sample in 0..2 * EARLY_SAMPLES {
            time.add(if sample < EARLY_SAMPLES { 10 } else { 30 });
        }
        assert_eq!(time.get(), Some(LiveApply { average_ns: 20, early_ns: 10 }));
    }
}
