//! Owns the bounded queue between callers and the writer: a bound on commands and one on bytes.
//! Knows nothing of what the commands do.
//!
//! The queue is a mutex and two condition variables. The writer takes all waiting commands at once.
//! A channel that yields before it sleeps would be shorter, but on a busy core a yield gives away a
//! whole time slice. Measured beside a snapshot, commits then waited for 2 to 3 ms.
//!
//! # How `next` chooses its answer
//!
//! Commands that were drained before are given first, without the lock. Otherwise `next` takes the
//! lock, and the first row that holds is the answer:
//!
//! | the state           | the answer | does the next call answer the same?         |
//! |---------------------|------------|---------------------------------------------|
//! | commands wait       | `Command`  | yes, until all were given                   |
//! | the queue stopped   | `Stop`     | yes: a stopped queue never runs again       |
//! | the bell was rung   | `Rung`     | no: the answer clears the bell              |
//! | no patience is left | `Nothing`  | if that call has no patience either         |
//!
//! If no row holds, the writer idles and looks again. First it spins, then it sleeps, and after its
//! deadline it gives up:
//!
//! ```text
//! Patience::None ─────────────────────────────────────┐
//!                                                     ▼
//! other patience ──▶ Spin ──▶ Sleep ──(deadline)──▶ GiveUp ──▶ Nothing
//!                               ▲ │
//!                               └─┘ (woken, and no row holds)
//! ```
//!
//! Callers, the committer (which rings the bell) and the shutdown change the state under the lock,
//! so no change is lost between a look and a sleep. While the writer spins it holds no lock: it
//! watches `sent` and `signalled`.
//!
//! - `receiver`: the writer's end
//! - `wait`: how the writer waits, and how it is woken

mod receiver;
mod wait;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::task::{Poll, Waker};

use crossbeam_utils::CachePadded;

use super::pending::Ticket;
use super::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use super::sync::{Condvar, Mutex, MutexGuard, lock};
use crate::engine::{EncodedRecord, wake};
use crate::model::{Context, Model};
pub(crate) use receiver::{Next, QueueReceiver};
pub(crate) use wait::{Patience, QueueBell, QueueWatch};

/// Applies one command: decodes it, changes the model, puts the answer into the slot.
pub(crate) type ApplyFn<M> = fn(&dyn std::any::Any, &[u8], &mut M, &mut Context<'_, M>) -> Applied;

/// What became of a command in the working version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Accepted,
    /// The command may have changed the model, which must be rolled back.
    Rejected,
    /// The command panicked. The model must be rolled back, as after `Rejected`.
    Panicked,
    /// The command could not be decoded and never reached the model.
    Undecodable,
}

/// A command on its way to the writer.
pub(crate) struct Submission<M: Model> {
    /// The whole record. The writer fills in its time.
    pub(crate) record: EncodedRecord,
    pub(crate) metadata_length: usize,
    pub(crate) apply: ApplyFn<M>,
    /// If given, the command is refused unless this is the last accepted command's sequence.
    pub(crate) only_at: Option<u64>,
    pub(crate) ticket: Ticket,
}

/// Why a command did not get into the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Stopped,
}

/// The callers' end of the queue.
pub(crate) struct QueueSender<M: Model> {
    queue: Arc<Queue<M>>,
}

struct Queue<M: Model> {
    most_commands: usize,
    /// A command larger than this passes when no other bytes are queued.
    most_bytes: usize,
    state: Mutex<State<M>>,
    /// Wakes the writer.
    arrived: Condvar,
    /// Wakes callers that wait for room.
    room: Condvar,
    /// All commands that were ever sent, wrapping. It is raised under the lock.
    sent: Tally,
    /// All commands that no longer take room in the queue. Only the writer changes it. It has a
    /// cache line of its own, so that the writer's counting does not slow callers down.
    gone: CachePadded<Tally>,
    /// The state has a stop or a bell for the writer.
    signalled: AtomicBool,
    /// The state has a stop. It can be read without the lock.
    is_stopped: AtomicBool,
}

/// Counts commands and bytes. Only one thread at a time adds, so a load and a store are enough: an
/// atomic addition would cost each command more than the rest of the queue does.
struct Tally {
    commands: AtomicUsize,
    bytes: AtomicUsize,
}

impl Tally {
    fn zero() -> Self {
        Self { commands: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }

    fn add(&self, commands: usize, bytes: usize) {
        for (count, more) in [(&self.commands, commands), (&self.bytes, bytes)] {
            let sum = count.load(Ordering::Relaxed).wrapping_add(more);
            count.store(sum, Ordering::SeqCst);
        }
    }

    fn get(&self) -> (usize, usize) {
        (self.commands.load(Ordering::SeqCst), self.bytes.load(Ordering::SeqCst))
    }
}

struct State<M: Model> {
    waiting: VecDeque<Submission<M>>,
    /// The value of `Queue::gone` that callers saw last. They read it again only when there seems
    /// to be no room.
    gone_seen: (usize, usize),
    /// The queue takes no more commands.
    stopped: bool,
    rung: bool,
    writer_sleeps: bool,
    callers_blocked: usize,
    /// The tasks that wait for room, in the order in which they came.
    tasks: BTreeMap<u64, Waker>,
    next_task: u64,
}

/// Makes a queue for at most that many commands and that many bytes.
pub(crate) fn queue<M: Model>(commands: usize, bytes: usize) -> (QueueSender<M>, QueueReceiver<M>) {
    let queue = Arc::new(Queue {
        most_commands: commands,
        most_bytes: bytes,
        state: Mutex::new(State {
            waiting: VecDeque::new(),
            gone_seen: (0, 0),
            stopped: false,
            rung: false,
            writer_sleeps: false,
            callers_blocked: 0,
            tasks: BTreeMap::new(),
            next_task: 0,
        }),
        arrived: Condvar::new(),
        room: Condvar::new(),
        sent: Tally::zero(),
        gone: CachePadded::new(Tally::zero()),
        signalled: AtomicBool::new(false),
        is_stopped: AtomicBool::new(false),
    });
    (
        QueueSender { queue: queue.clone() },
        QueueReceiver { queue, drained: VecDeque::new(), drain_count: 0, batch_bytes: 0 },
    )
}

impl<M: Model> Queue<M> {
    /// Whether commands are queued, as the writer sees it.
    fn has_commands(&self) -> bool {
        self.queued(self.gone.get()).0 > 0
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        lock(&self.state)
    }

    /// Computes what takes room now, from a value of [`gone`](Self::gone).
    fn queued(&self, gone: (usize, usize)) -> (usize, usize) {
        let sent = self.sent.get();
        (sent.0.wrapping_sub(gone.0), sent.1.wrapping_sub(gone.1))
    }

    fn has_room(&self, state: &mut State<M>, bytes: usize) -> bool {
        let fits = |(queued, queued_bytes): (usize, usize)| {
            let in_bytes = queued_bytes.saturating_add(bytes) <= self.most_bytes;
            queued < self.most_commands && (in_bytes || queued_bytes == 0)
        };
        if fits(self.queued(state.gone_seen)) {
            return true;
        }
        state.gone_seen = self.gone.get();
        fits(self.queued(state.gone_seen))
    }

    fn push(&self, mut state: MutexGuard<'_, State<M>>, submission: Submission<M>) {
        self.sent.add(1, submission.record.len());
        state.waiting.push_back(submission);
        self.wake_writer(state);
    }

    fn wake_writer(&self, mut state: MutexGuard<'_, State<M>>) {
        let sleeps = std::mem::take(&mut state.writer_sleeps);
        drop(state);
        if sleeps {
            self.arrived.notify_one();
        }
    }

    /// Gives the writer a signal that is not a command, and wakes it.
    fn signal(&self, change: impl FnOnce(&mut State<M>)) {
        let mut state = self.lock();
        change(&mut state);
        self.signalled.store(true, Ordering::SeqCst);
        self.wake_writer(state);
    }

    fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.signal(|state| state.stopped = true);
        self.room.notify_all();
        let tasks = std::mem::take(&mut self.lock().tasks);
        wake(tasks.into_values());
    }

    /// Tells all who wait for room that there may be some. Whoever finds none waits again.
    fn tell_room<'a>(&'a self, mut state: MutexGuard<'a, State<M>>) -> MutexGuard<'a, State<M>> {
        if state.callers_blocked > 0 {
            self.room.notify_all();
        }
        if state.tasks.is_empty() {
            return state;
        }
        let tasks = std::mem::take(&mut state.tasks);
        drop(state); // a waker is its user's code
        wake(tasks.into_values());
        self.lock()
    }
}

impl<M: Model> QueueSender<M> {
    /// Whether the queue takes no more commands.
    #[cfg(test)]
    pub(crate) fn is_stopped(&self) -> bool {
        self.queue.lock().stopped
    }

    /// Waits for room, and puts the command into the queue.
    pub(crate) fn send(&self, submission: Submission<M>) -> Result<(), Refusal> {
        let queue = &*self.queue;
        let mut state = queue.lock();
        while !state.stopped {
            if queue.has_room(&mut state, submission.record.len()) {
                queue.push(state, submission);
                return Ok(());
            }
            state.callers_blocked += 1;
            state = queue.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.callers_blocked -= 1;
        }
        Err(Refusal::Stopped)
    }

    /// Puts the command into the queue if there is room now.
    pub(crate) fn try_send(&self, submission: Submission<M>) -> Result<(), Refusal> {
        let mut state = self.queue.lock();
        if state.stopped {
            return Err(Refusal::Stopped);
        }
        if !self.queue.has_room(&mut state, submission.record.len()) {
            return Err(Refusal::Full);
        }
        self.queue.push(state, submission);
        Ok(())
    }

    /// Puts the command into the queue if there is room now. If there is none, it keeps the
    /// command, and the task is woken when there may be some: `task` is its place among those who
    /// wait.
    pub(crate) fn poll_send(
        &self,
        submission: &mut Option<Submission<M>>,
        task: &mut Option<u64>,
        waker: &Waker,
    ) -> Poll<Result<(), Refusal>> {
        // A waker's `clone` and `drop` are its user's code, so they run outside the lock.
        let waker = waker.clone();
        let mut state = self.queue.lock();
        let Some(bytes) = submission.as_ref().map(|submission| submission.record.len()) else {
            return Poll::Ready(Ok(())); // it was sent before
        };
        if state.stopped {
            return Poll::Ready(Err(Refusal::Stopped));
        }
        if self.queue.has_room(&mut state, bytes) {
            let before = task.take().and_then(|number| state.tasks.remove(&number));
            if let Some(submission) = submission.take() {
                self.queue.push(state, submission);
            }
            drop((before, waker));
            return Poll::Ready(Ok(()));
        }
        let number = *task.get_or_insert_with(|| {
            state.next_task += 1;
            state.next_task
        });
        let before = state.tasks.insert(number, waker);
        drop(state);
        drop(before);
        Poll::Pending
    }

    /// Forgets a task that no longer waits for room.
    pub(crate) fn forget(&self, task: u64) {
        let before = self.queue.lock().tasks.remove(&task);
        drop(before);
    }

    /// Stops the queue. The writer still gets all commands that are in it.
    pub(crate) fn stop(&self) {
        self.queue.stop();
    }

    pub(crate) fn commands(&self) -> usize {
        self.queued().0
    }

    pub(crate) fn bytes(&self) -> usize {
        self.queued().1
    }

    fn queued(&self) -> (usize, usize) {
        // `gone` is read before `sent`: the other order could give a difference below zero.
        let gone = self.queue.gone.get();
        self.queue.queued(gone)
    }

    #[cfg(test)]
    pub(crate) fn callers_blocked(&self) -> usize {
        self.queue.lock().callers_blocked
    }

    #[cfg(test)]
    pub(crate) fn writer_sleeps(&self) -> bool {
        self.queue.lock().writer_sleeps
    }
}

impl<M: Model> Drop for QueueSender<M> {
    fn drop(&mut self) {
        self.queue.stop();
    }
}
