//! Owns the only writer: it takes commands from the queue, applies them to the working version, and
//! hands the batch over. Knows nothing of files, and nothing of the thread on which it runs.
//!
//! A batch stays open while the committer is busy, and closes when it is full or the committer is
//! free. So batches grow to the size that the disk needs. If no other command is waiting, the
//! writer commits the batch itself: a single caller then pays for one hand-over instead of two.

use std::sync::Arc;
use std::time::Duration;

use super::batch::Batch;
use super::committer::{SharedCommitter, lock};
use super::pending::Failure;
use super::queue::{Next, Patience, QueueReceiver, Submission};
use super::shared::Shared;
use super::sync::Instant;
use super::sync::atomic::{AtomicU64, Ordering};
use super::sync::channel::{Receiver, Sender};
use super::working_version::Working;
use crate::model::{Model, time_ns};
use crate::storage::Storage;

/// How many commands that were taken from the queue together share one reading of the clock.
const SHARE_A_TIME: u32 = 16;

/// One command in this many is timed, to predict how long a replay takes.
const SAMPLE_EVERY: u32 = 64;

/// When a batch is full, and how long it may wait for that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    pub(crate) commands: u32,
    pub(crate) bytes: usize,
    pub(crate) linger: Duration,
}

/// The writer's ends of the channels to the committer's thread.
pub(crate) struct Lane<M: Model> {
    pub(crate) committer: SharedCommitter<M>,
    pub(crate) batches: Sender<Batch<M>>,
    pub(crate) spare: Receiver<Batch<M>>,
    pub(crate) completed: Arc<AtomicU64>,
}

pub(crate) struct Writer<M: Model> {
    pub(crate) queue: QueueReceiver<M>,
    pub(crate) limits: BatchLimits,
    pub(crate) working: Working<M>,
    pub(crate) lane: Lane<M>,
    pub(crate) shared: Arc<Shared<M>>,
    pub(crate) storage: Arc<dyn Storage>,
    /// How many batches were refused before the working version began.
    pub(crate) refusals: u64,
    /// How many batches the committer's thread has got.
    pub(crate) handed: u64,
    /// An empty batch, so that its buffers can be used again.
    pub(crate) spare: Option<Batch<M>>,
    /// Whether the newest batch may still need a commit marker.
    pub(crate) needs_commit_marker: bool,
    pub(crate) clock: Clock,
    /// Counts down to 0 at the next command that is timed.
    pub(crate) until_sample: u32,
}

/// The time that the newest commands share.
#[derive(Default)]
pub(crate) struct Clock {
    time_ns: u64,
    /// How many more commands may have this time, and with which drain of the queue they came.
    left: u32,
    drain: u64,
}

/// How a turn of the writer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing is left to do until somebody wakes the writer.
    Wait,
    Stop,
}

/// What happened to a batch while it was open.
#[derive(PartialEq)]
enum Filled {
    HandOver,
    Stop,
}

impl<M: Model> Writer<M> {
    /// Applies and commits until nothing is left to do.
    pub(crate) fn work(&mut self, batch: &mut Batch<M>) -> Turn {
        loop {
            match self.queue.next(Patience::None) {
                Next::Command(first) => {
                    batch.refusals = self.refusals;
                    self.apply_queued(first, batch);
                    let filled = self.fill(batch);
                    self.hand_over(batch);
                    if filled == Filled::Stop {
                        return Turn::Stop;
                    }
                }
                Next::Rung => self.reclaim(),
                Next::Stop => return Turn::Stop,
                Next::Nothing => return Turn::Wait,
            }
        }
    }

    /// Applies and commits one command on its caller's thread, if nothing else is to be done before
    /// it. Otherwise it returns the command.
    pub(crate) fn serve(
        &mut self,
        submission: Submission<M>,
        batch: &mut Batch<M>,
    ) -> Option<Submission<M>> {
        // Once the queue has stopped, the writer's thread waits for the seat in order to leave it.
        // A lock is not fair: a caller that took the seat again and again could keep it out for
        // ever.
        let must_queue = !self.queue.is_empty()
            || self.queue.is_stopped()
            || !self.committer_is_idle()
            || !self.limits.linger.is_zero()
            || self.shared.status.poisoned().is_some();
        if must_queue {
            return Some(submission);
        }
        batch.refusals = self.refusals;
        self.clock.left = 0;
        if let Some(too_deep) = self.apply(submission, batch) {
            return Some(too_deep);
        }
        self.hand_over(batch);
        None
    }

    /// Writes the commit marker that the newest batch may still need, if that batch is done.
    pub(crate) fn write_due_marker(&mut self) {
        if self.needs_commit_marker && self.committer_is_idle() {
            lock(&self.lane.committer).write_commit_marker();
            self.needs_commit_marker = false;
        }
    }

    /// Answers every command with `failure`, until no handle can submit any more.
    pub(crate) fn refuse_all(&mut self, failure: &Failure) {
        loop {
            // Commands that were refused no longer take room.
            self.queue.batch_done();
            match self.queue.next(Patience::Endless) {
                Next::Command(submission) => submission.ticket.fail(failure.clone()),
                Next::Rung | Next::Nothing => {}
                Next::Stop => return,
            }
        }
    }

    /// Takes back batches that the committer's thread has finished.
    fn reclaim(&mut self) {
        while let Ok(mut batch) = self.lane.spare.try_recv() {
            batch.reset();
            self.spare = Some(batch);
        }
    }

    /// Adds commands until the batch is full, or until it has waited long enough and can be
    /// committed.
    fn fill(&mut self, batch: &mut Batch<M>) -> Filled {
        // A deadline beyond the clock's range never comes.
        let until = || Instant::now().checked_add(self.limits.linger);
        let mut lingers = (!self.limits.linger.is_zero())
            .then(|| until().map_or(Patience::Endless, Patience::Until));
        while !self.is_full(batch) {
            // While earlier batches are being committed, this one can only wait.
            let patience = match lingers {
                Some(patience) => patience,
                None if self.committer_is_idle() => Patience::None,
                None => Patience::Endless,
            };
            match (self.queue.next(patience), patience) {
                (Next::Command(submission), _) => self.apply_queued(submission, batch),
                (Next::Stop, _) => return Filled::Stop,
                (Next::Nothing, Patience::None) => return Filled::HandOver,
                (Next::Nothing, _) => lingers = None,
                // Nothing of this batch will be accepted, and its callers must get an answer.
                (Next::Rung, _) if self.shared.status.poisoned().is_some() => lingers = None,
                (Next::Rung, _) if self.rests_on_a_refusal() => lingers = None,
                // The committer may be idle by now; the loop checks that.
                (Next::Rung, _) => {}
            }
        }
        Filled::HandOver
    }

    fn is_full(&self, batch: &Batch<M>) -> bool {
        // Refused commands also count, because they are kept until the batch is done.
        batch.tickets.len() >= self.limits.commands as usize
            || batch.frame.payload_length() >= self.limits.bytes
    }

    fn apply_queued(&mut self, submission: Submission<M>, batch: &mut Batch<M>) {
        if let Some(too_deep) = self.apply(submission, batch) {
            // No other thread has more stack. The answer that it is too deep comes with the batch.
            batch.tickets.push(too_deep.ticket);
        }
    }

    /// Applies one command. Returns it if it nests too deep for this thread's stack.
    fn apply(&mut self, submission: Submission<M>, batch: &mut Batch<M>) -> Option<Submission<M>> {
        if let Some(poisoned) = self.shared.status.poisoned() {
            submission.ticket.fail(Failure::Poisoned(poisoned.clone()));
            return None;
        }
        if self.rests_on_a_refusal() {
            self.start_over(batch);
        }
        let now_ns = self.now_ns();
        self.until_sample = self.until_sample.checked_sub(1).unwrap_or(SAMPLE_EVERY - 1);
        let sampled = (self.until_sample == 0).then(Instant::now);
        let applied = self.working.apply(submission, batch, now_ns);
        if let Some(began) = sampled {
            let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.shared.counters.apply_time.add(took);
        }
        applied.unwrap_or_else(|error| {
            // The working version is lost, so the batch must not be committed.
            let poisoned = self.shared.poison(&error);
            batch.fail(&Failure::Poisoned(poisoned));
            None
        })
    }

    /// Returns whether a batch could not be written since the working version began.
    fn rests_on_a_refusal(&self) -> bool {
        self.refusals != self.shared.status.refusals()
    }

    /// Starts over after an earlier batch could not be written. What was applied since depends on
    /// that batch, so all of it is refused, and the working version becomes the version that
    /// readers see.
    fn start_over(&mut self, batch: &mut Batch<M>) {
        // The order matters: the reason is set before the refusal is counted.
        self.refusals = self.shared.status.refusals();
        let reason = self.shared.status.why_refusing();
        self.shared.counters.not_written.add(crate::files::position(batch.tickets.len()));
        batch.fail(&Failure::NotWritten(reason));
        batch.reset();
        batch.refusals = self.refusals;
        if !fault!(RefusedBatchKept) {
            self.working.restart(self.shared.published.pin());
        }
    }

    fn now_ns(&mut self) -> u64 {
        let drain = self.queue.drain_count();
        if self.clock.left == 0 || self.clock.drain != drain {
            let time_ns = time_ns(self.storage.now());
            self.clock = Clock { time_ns, left: SHARE_A_TIME, drain };
        }
        self.clock.left -= 1;
        self.clock.time_ns
    }

    /// Hands the batch over, and leaves an empty one.
    fn hand_over(&mut self, batch: &mut Batch<M>) {
        self.queue.batch_done();
        self.needs_commit_marker |= batch.count > 0;
        if self.shared.status.poisoned().is_none() {
            batch.version = Some(self.working.end_batch());
        }
        if self.queue.is_empty() && self.committer_is_idle() {
            if batch.count > 0 {
                self.shared.counters.inline_batches.add(1);
            }
            lock(&self.lane.committer).commit(batch);
            batch.reset();
        } else {
            self.handed += 1;
            let batch = std::mem::replace(batch, self.spare.take().unwrap_or_else(Batch::new));
            // The committer's thread lives as long as this end of the channel.
            self.lane.batches.send(batch).ok();
            // This happens while the committer commits that batch.
            self.reclaim();
        }
    }

    /// Returns whether every batch that was handed over is done, or never will be. The ordering is
    /// Acquire, so that their answers were given before.
    fn committer_is_idle(&self) -> bool {
        self.lane.completed.load(Ordering::Acquire) >= self.handed
    }
}
