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

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::pending::Ticket;
use super::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use super::sync::{Condvar, Instant, Mutex, MutexGuard, hint, lock};
use crate::engine::EncodedRecord;
use crate::model::{Context, Model};

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

/// How long the writer spins before sleeping. A caller that was just answered often sends its next
/// command within this time, and waking a thread takes longer.
const SPIN: Duration = Duration::from_micros(10);

/// The callers' end of the queue.
pub(crate) struct QueueSender<M: Model> {
    queue: Arc<Queue<M>>,
}

/// The writer's end of the queue. When it is dropped, callers that wait for room or for an answer
/// are told that the engine has stopped.
pub(crate) struct QueueReceiver<M: Model> {
    queue: Arc<Queue<M>>,
    /// Commands that were drained together. They still count as queued.
    drained: VecDeque<Submission<M>>,
    drain_count: u64,
    /// The bytes of the commands that `next` gave for the batch that is being filled.
    batch_bytes: usize,
}

/// The place where the writer's thread waits while it is not the writer.
pub(crate) struct QueueWatch<M: Model> {
    queue: Arc<Queue<M>>,
}

/// Wakes the writer.
pub(crate) struct QueueBell<M: Model> {
    queue: Arc<Queue<M>>,
}

/// The answer of [`QueueReceiver::next`].
pub(crate) enum Next<M: Model> {
    Command(Submission<M>),
    /// The bell was rung.
    Rung,
    /// The queue has stopped, and everything in it was taken.
    Stop,
    /// Nothing came in time.
    Nothing,
}

/// How long the writer waits for a command or a signal.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    None,
    Until(Instant),
    Endless,
}

/// What the writer does while the state has nothing for it.
enum Idle {
    /// Look again and again for a short while, without the lock.
    Spin,
    /// Sleep until somebody wakes the writer, or until its deadline.
    Sleep,
    /// Answer `Nothing`.
    GiveUp,
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

impl<M: Model> QueueBell<M> {
    pub(crate) fn ring(&self) {
        self.queue.signal(|state| state.rung = true);
    }
}

impl<M: Model> QueueWatch<M> {
    /// Waits until [`QueueReceiver::next`] has an answer other than `Nothing`, or until the end of
    /// the patience. Returns whether it has. Takes nothing. It spins first if it `expects`
    /// something soon.
    pub(crate) fn wait(&self, patience: Patience, expects: bool) -> bool {
        let queue = &*self.queue;
        let mut state = queue.lock();
        let mut idle = match patience {
            Patience::None => Idle::GiveUp,
            Patience::Until(_) | Patience::Endless if expects => Idle::Spin,
            Patience::Until(_) | Patience::Endless => Idle::Sleep,
        };
        loop {
            if !state.waiting.is_empty() || state.stopped || state.rung {
                return true;
            }
            queue.signalled.store(false, Ordering::SeqCst);
            (state, idle) = match idle {
                Idle::Spin => {
                    drop(state);
                    queue.spin();
                    (queue.lock(), Idle::Sleep)
                }
                Idle::Sleep => queue.sleep(state, patience),
                Idle::GiveUp => return false,
            };
        }
    }
}

impl<M: Model> QueueReceiver<M> {
    /// Makes a watch for the thread that waits outside.
    pub(crate) fn watch(&self) -> QueueWatch<M> {
        QueueWatch { queue: self.queue.clone() }
    }

    /// Gives the next command, or says why there is none. The module's table shows what it answers
    /// when.
    pub(crate) fn next(&mut self, patience: Patience) -> Next<M> {
        if let Some(submission) = self.pop() {
            return Next::Command(submission);
        }
        let queue = self.queue.clone();
        let mut state = queue.lock();
        // Blocked callers are not woken after each command: a caller that is woken for one place
        // would soon block again.
        if state.callers_blocked > 0 {
            queue.room.notify_all();
        }
        let mut idle = match patience {
            Patience::None => Idle::GiveUp,
            Patience::Until(_) | Patience::Endless => Idle::Spin,
        };
        loop {
            if !state.waiting.is_empty() {
                std::mem::swap(&mut state.waiting, &mut self.drained);
                drop(state);
                self.drain_count += 1;
                return self.pop().map_or(Next::Nothing, Next::Command);
            }
            if state.stopped {
                return Next::Stop;
            }
            queue.signalled.store(false, Ordering::SeqCst);
            if std::mem::take(&mut state.rung) {
                return Next::Rung;
            }
            (state, idle) = match idle {
                Idle::Spin => {
                    drop(state);
                    queue.spin();
                    (queue.lock(), Idle::Sleep)
                }
                Idle::Sleep => queue.sleep(state, patience),
                Idle::GiveUp => return Next::Nothing,
            };
        }
    }

    /// How often the writer has drained the queue so far.
    pub(crate) fn drain_count(&self) -> u64 {
        self.drain_count
    }

    fn pop(&mut self) -> Option<Submission<M>> {
        let submission = self.drained.pop_front()?;
        self.queue.gone.add(1, 0);
        self.batch_bytes += submission.record.len();
        Some(submission)
    }

    /// Notes that the batch takes no more commands: its bytes no longer take room in the queue.
    pub(crate) fn batch_done(&mut self) {
        let bytes = std::mem::take(&mut self.batch_bytes);
        if bytes == 0 {
            return;
        }
        self.queue.gone.add(0, bytes);
        if self.queue.lock().callers_blocked > 0 {
            self.queue.room.notify_all();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.queue.has_commands()
    }

    /// Whether the queue takes no more commands.
    pub(crate) fn is_stopped(&self) -> bool {
        self.queue.is_stopped.load(Ordering::SeqCst)
    }

    /// Makes a bell for a thread that has something to tell the writer.
    pub(crate) fn bell(&self) -> QueueBell<M> {
        QueueBell { queue: self.queue.clone() }
    }
}

impl<M: Model> Queue<M> {
    /// Whether commands are queued, as the writer sees it.
    fn has_commands(&self) -> bool {
        self.queued(self.gone.get()).0 > 0
    }

    /// Waits for [`SPIN`] at most, until there is a command or a signal.
    fn spin(&self) {
        let began = Instant::now();
        while !self.has_commands()
            && !self.signalled.load(Ordering::Relaxed)
            && began.elapsed() < SPIN
        {
            hint::spin_loop();
        }
    }

    /// Sleeps until somebody wakes the writer, or until its deadline. Says what the writer does if
    /// the state still has nothing for it.
    fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<M>>,
        patience: Patience,
    ) -> (MutexGuard<'a, State<M>>, Idle) {
        state.writer_sleeps = true;
        let (mut state, late) = match patience {
            Patience::Until(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let (state, waited) =
                    self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
                (state, waited.timed_out())
            }
            Patience::None | Patience::Endless => {
                (self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner), false)
            }
        };
        state.writer_sleeps = false;
        (state, if late { Idle::GiveUp } else { Idle::Sleep })
    }
}

impl<M: Model> Drop for QueueReceiver<M> {
    fn drop(&mut self) {
        self.queue.stop();
        // The commands are dropped outside the lock: a drop answers the command's caller, whose
        // waker may do anything.
        let waiting = std::mem::take(&mut self.queue.lock().waiting);
        self.drained.extend(waiting);
        while self.pop().is_some() {}
        self.batch_done();
    }
}
