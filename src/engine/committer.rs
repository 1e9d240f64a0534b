//! Finishes a batch: write, sync, publish, answer, in this order. If the disk is full and nothing
//! was written, it refuses the batch (`NotWritten`); if anything is in doubt, it poisons the
//! database. Knows nothing of how the batch was made.

use std::sync::Arc;

use super::batch::Batch;
use super::pending::Failure;
use super::queue::QueueBell;
use super::shared::Shared;
use super::sync::atomic::{AtomicU64, Ordering};
use super::sync::channel::{Receiver, Sender};
use super::sync::{Mutex, MutexGuard};
use crate::engine::CommitLog;
use crate::error::Error;
use crate::files::{ChangeFailure, StoreError};
use crate::model::Model;
use crate::options::Durability;
use crate::process::OpeningProcess;

/// Commits batches. Only the thread that holds the lock around it touches the log.
pub(crate) struct Committer<M: Model> {
    pub(crate) log: Box<dyn CommitLog>,
    durability: Durability,
    shared: Arc<Shared<M>>,
    /// The process that may write. A command's `apply` may fork, and then its child comes here,
    /// too.
    process: OpeningProcess,
    /// Whether the last batch could not be written.
    is_refusing: bool,
    /// Why that batch, or an earlier one, could not be written.
    refused_because: Arc<str>,
}

impl<M: Model> Committer<M> {
    pub(crate) fn new(
        log: Box<dyn CommitLog>,
        durability: Durability,
        shared: Arc<Shared<M>>,
    ) -> Self {
        shared.counters.durable_sequence.set(log.progress().durable_sequence);
        Self {
            log,
            durability,
            shared,
            process: OpeningProcess::this(),
            is_refusing: false,
            refused_because: "".into(),
        }
    }

    /// Commits one batch and answers its callers. After a failure nothing more is acknowledged.
    pub(crate) fn commit(&mut self, batch: &mut Batch<M>) {
        if fault!(AnswerBeforeSync) {
            batch.release();
        }
        if fault!(PublishBeforeSync)
            && let Some(version) = batch.version.clone()
        {
            self.shared.published.publish(version, &mut batch.superseded);
        }
        let payload_bytes = batch.frame.payload_length();
        if let Err(failure) = self.make_durable(batch) {
            // A change of segments may have synced what was written before.
            self.note_durable();
            if matches!(failure, Failure::NotWritten(_)) {
                let commands = crate::files::position(batch.tickets.len());
                self.shared.counters.not_written.add(commands);
            }
            batch.fail(&failure);
            return;
        }
        if let Some(version) = batch.version.take().filter(|_| batch.count > 0) {
            version.set_chain(self.log.progress().chain);
            let payload = batch.frame.payload().get(..payload_bytes).unwrap_or(&[]);
            let first_sequence = version.sequence + 1 - u64::from(batch.count);
            self.shared.recent_batches.push(first_sequence, batch.count, payload);
            // The thread that resets the batch frees the old version, so callers need not wait for
            // that.
            self.shared.published.publish(version, &mut batch.superseded);
        }
        self.count(batch);
        batch.release();
    }

    fn make_durable(&mut self, batch: &mut Batch<M>) -> Result<(), Failure> {
        if self.process.is_forked() {
            return Err(Failure::Forked);
        }
        let status = &self.shared.status;
        if let Some(poisoned) = status.poisoned() {
            return Err(Failure::Poisoned(poisoned.clone()));
        }
        // This batch depends on one that was not written.
        if batch.refusals != status.refusals() && !fault!(RefusedBatchKept) {
            return Err(Failure::NotWritten(self.refused_because.clone()));
        }
        if batch.count == 0 {
            return Ok(()); // only refusals, and what they depend on was committed before
        }
        let time_ns = batch.version.as_ref().map_or(0, |version| version.time_ns);
        match self.log.append(&mut batch.frame, batch.count, time_ns) {
            Ok(()) => {}
            Err(ChangeFailure::NotDone(error)) => return Err(self.refuse(&error)),
            Err(ChangeFailure::InDoubt(error)) => {
                return Err(Failure::Poisoned(self.shared.poison(&error)));
            }
        }
        if self.durability == Durability::Sync {
            let synced = self.log.sync();
            self.shared.counters.syncs.add(1);
            synced.map_err(|error| Failure::Poisoned(self.shared.poison(&error)))?;
        }
        if self.is_refusing {
            self.is_refusing = false;
            self.shared.status.accept();
        }
        Ok(())
    }

    /// Refuses a batch of which nothing was written. What the writer has applied since depends on
    /// it, and is also refused. Then the writer continues from the published version.
    fn refuse(&mut self, error: &StoreError) -> Failure {
        trace_event!(WARN, "a batch could not be written; its commands are refused", error = error);
        self.refused_because = error.to_string().into();
        self.is_refusing = true;
        self.shared.status.refuse(self.refused_because.clone());
        if error.is_disk_full() {
            self.shared.snapshots.want_room();
        }
        Failure::NotWritten(self.refused_because.clone())
    }

    /// Notes what is durable. If that is more than before, it wakes those who follow the database;
    /// under `Sync`, the publication has woken them.
    fn note_durable(&self) {
        let durable = self.log.progress().durable_sequence;
        let known = &self.shared.counters.durable_sequence;
        if durable > known.get() {
            known.raise_to(durable);
            if self.durability != Durability::Sync {
                self.shared.published.wake_waiting();
            }
        }
    }

    fn count(&self, batch: &Batch<M>) {
        let counters = &self.shared.counters;
        counters.rejected.add(batch.rejected);
        counters.panicked.add(batch.panicked);
        counters.reapplied.add(batch.reapplied);
        counters.stale.add(batch.stale);
        counters.duplicates.add(batch.duplicates);
        counters.requests_full.add(batch.requests_full);
        if batch.count > 0 {
            counters.batches.add(1);
            counters.accepted.add(batch.count.into());
            counters.largest_batch.raise_to(batch.count.into());
            let progress = self.log.progress();
            counters.journal_bytes.set(progress.written_bytes);
            self.note_durable();
            if progress.segments_added != counters.segments_added.get() {
                counters.segments_added.set(progress.segments_added);
                self.shared.snapshots.wake();
            }
            self.shared.snapshots.note(progress.written_sequence, progress.written_bytes);
        }
    }

    /// Writes a commit marker while the journal is idle.
    pub(crate) fn write_commit_marker(&mut self) {
        if self.shared.status.poisoned().is_none()
            && !self.process.is_forked()
            && let Err(error) = self.log.write_commit_marker()
        {
            self.shared.poison(&error);
        }
    }
}

/// A committer that several threads share.
pub(crate) type SharedCommitter<M> = Arc<Mutex<Committer<M>>>;

pub(crate) fn lock<M: Model>(committer: &SharedCommitter<M>) -> MutexGuard<'_, Committer<M>> {
    super::sync::lock(committer)
}

/// Syncs what is written but not yet durable, without blocking commits meanwhile. Returns the
/// sequence that is durable now.
pub(crate) fn sync_outside_lock<M: Model>(committer: &SharedCommitter<M>) -> Result<u64, Error> {
    let guard = lock(committer);
    if let Some(poisoned) = guard.shared.status.poisoned() {
        return Err(poisoned.clone().into());
    }
    let shared = guard.shared.clone();
    let Some(sync) = guard.log.detached_sync() else {
        let durable = guard.log.progress().durable_sequence;
        drop(guard);
        tell_durable(&shared, durable);
        return Ok(durable);
    };
    drop(guard);
    let sequence = sync().map_err(|error| shared.poison(&error))?;
    shared.counters.syncs.add(1);
    let mut guard = lock(committer);
    guard.log.note_synced(sequence);
    // If the marker fails, this is durable nevertheless.
    shared.counters.durable_sequence.raise_to(guard.log.progress().durable_sequence);
    // It may take long until another frame states what is durable now, so this writes a commit
    // marker.
    guard.write_commit_marker();
    let durable = guard.log.progress().durable_sequence;
    drop(guard);
    tell_durable(&shared, durable);
    Ok(durable)
}

/// Notes what is durable, and wakes those who follow the database. No lock may be held: this runs
/// their wakers.
fn tell_durable<M>(shared: &Shared<M>, sequence: u64) {
    shared.counters.durable_sequence.raise_to(sequence);
    shared.published.wake_waiting();
}

/// What the committer's thread needs for its exchange with the writer.
pub(crate) struct CommitterEnds<M: Model> {
    pub(crate) batches: Receiver<Batch<M>>,
    /// Batches that are done. The writer resets and reuses them: its thread allocated what only
    /// such a version holds, and freeing this on another thread made both wait for the allocator
    /// (measured: a ledger of a million accounts took 1.3 times as long).
    pub(crate) spare: Sender<Batch<M>>,
    /// The bell that rings whenever a batch is done.
    pub(crate) bell: QueueBell<M>,
    pub(crate) completed: Arc<AtomicU64>,
}

impl<M: Model> Drop for CommitterEnds<M> {
    fn drop(&mut self) {
        // The writer must not wait for batches that no thread will commit.
        self.completed.store(u64::MAX, Ordering::Release);
        self.bell.ring();
    }
}

/// Runs the committer's thread: it commits batches while the writer already applies the next one.
pub(crate) fn run<M: Model>(committer: &SharedCommitter<M>, ends: CommitterEnds<M>) {
    let shared = lock(committer).shared.clone();
    for mut batch in &ends.batches {
        // The thread must outlive a panic (of a user's `Drop`): callers in a batch behind this one
        // wait for an answer, and crossbeam keeps what stands in a channel.
        let committed = shared.guarded("committer", || lock(committer).commit(&mut batch));
        if let Err(poisoned) = committed {
            batch.fail(&Failure::Poisoned(poisoned));
        }
        ends.completed.fetch_add(1, Ordering::Release);
        if let Err(too_many) = ends.spare.try_send(batch) {
            // This poisons the database if a `Drop` panics.
            shared.guarded("committer", || drop(too_many)).ok();
        }
        ends.bell.ring();
    }
}
