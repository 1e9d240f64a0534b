//! Owns the bounded queue between callers and the writer: a bound on commands and one on bytes.
//! Knows nothing of what the commands do.
//!
//! A mutex and two condition variables, and the writer takes all that waits at once. A channel that
//! yields before it sleeps would be shorter, but on a busy core a yield gives a whole time slice
//! away: measured, commits then wait for 2 to 3 ms beside a snapshot.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::pending::Ticket;
use super::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use super::sync::{Condvar, Instant, Mutex, MutexGuard, hint};
use crate::engine::EncodedRecord;
use crate::model::{Context, Model};

/// Applies one command: decodes it, changes the model, puts the answer into the slot.
pub(crate) type ApplyFn<M> = fn(&dyn std::any::Any, &[u8], &mut M, &mut Context<'_, M>) -> Applied;

/// What became of a command in the working version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Accepted,
    /// The model may have been changed and must be rolled back.
    Rejected,
    /// As `Rejected`, by a panic.
    Panicked,
    /// Never reached the model.
    Undecodable,
}

/// A command on its way to the writer.
pub(crate) struct Submission<M: Model> {
    /// The whole record, but for its time.
    pub(crate) record: EncodedRecord,
    pub(crate) metadata_length: usize,
    pub(crate) apply: ApplyFn<M>,
    /// Refused unless this is the last accepted command's sequence.
    pub(crate) only_at: Option<u64>,
    pub(crate) ticket: Ticket,
}

/// Why a command did not get into the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Stopped,
}

/// So long the writer looks for a command before it sleeps: a caller that was just answered is
/// often back by then, and to be woken takes longer.
const SPIN: Duration = Duration::from_micros(10);

/// The callers' end.
pub(crate) struct QueueSender<M: Model> {
    queue: Arc<Queue<M>>,
}

/// The writer's end. When it goes, whoever waits for room or for an answer is told so.
pub(crate) struct QueueReceiver<M: Model> {
    queue: Arc<Queue<M>>,
    /// Taken out all at once; still counted as queued.
    taken: VecDeque<Submission<M>>,
    takings: u64,
    /// Of commands that were given, and are in the batch that is being filled.
    batch_bytes: usize,
}

/// Wakes the writer.
pub(crate) struct QueueBell<M: Model> {
    queue: Arc<Queue<M>>,
}

/// What the writer gets.
pub(crate) enum Next<M: Model> {
    Command(Submission<M>),
    /// The bell was rung.
    Rung,
    /// The queue has ended, and everything in it was taken.
    Stop,
    /// Nothing came in time.
    Nothing,
}

/// How long the writer waits for something to come.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    None,
    Until(Instant),
    Endless,
}

struct Queue<M: Model> {
    most_commands: usize,
    /// One command larger than this gets through alone.
    most_bytes: usize,
    state: Mutex<State<M>>,
    /// For the writer.
    arrived: Condvar,
    /// For callers.
    room: Condvar,
    /// All that was ever sent, wrapping; raised under the lock.
    sent: Tally,
    /// All of it that takes no room any more; the writer's alone.
    gone: Apart<Tally>,
    /// The state has something else for the writer than commands.
    signalled: AtomicBool,
}

/// Commands and bytes, counted by one thread at a time: an addition that is atomic as a whole would
/// cost each command more than the rest of the queue does.
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

/// On a cache line of its own, so that the writer's counting does not slow callers down.
#[repr(align(128))]
struct Apart<T>(T);

struct State<M: Model> {
    waiting: VecDeque<Submission<M>>,
    /// What callers last saw of `Queue::gone`: they look again only when there seems to be no room.
    gone_seen: (usize, usize),
    /// Nothing more gets in.
    stopped: bool,
    rung: bool,
    writer_sleeps: bool,
    callers_blocked: usize,
}

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
        gone: Apart(Tally::zero()),
        signalled: AtomicBool::new(false),
    });
    (
        QueueSender { queue: queue.clone() },
        QueueReceiver { queue, taken: VecDeque::new(), takings: 0, batch_bytes: 0 },
    )
}

impl<M: Model> Queue<M> {
    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What takes room, as far as was seen.
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
        state.gone_seen = self.gone.0.get();
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

    /// Tells the writer what no command says.
    fn signal(&self, change: impl FnOnce(&mut State<M>)) {
        let mut state = self.lock();
        change(&mut state);
        self.signalled.store(true, Ordering::SeqCst);
        self.wake_writer(state);
    }

    fn stop(&self) {
        self.signal(|state| state.stopped = true);
        self.room.notify_all();
    }
}

impl<M: Model> QueueSender<M> {
    /// Waits for room.
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

    /// Never waits.
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

    /// Ends the queue behind everything that stands in it.
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
        // In this order: what is gone was sent before.
        let gone = self.queue.gone.0.get();
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

impl<M: Model> QueueReceiver<M> {
    /// The next command, or why there is none.
    pub(crate) fn next(&mut self, patience: Patience) -> Next<M> {
        if let Some(submission) = self.pop() {
            return Next::Command(submission);
        }
        let queue = self.queue.clone();
        let mut state = queue.lock();
        // Not after each command: a caller woken for one place would soon block again.
        if state.callers_blocked > 0 {
            queue.room.notify_all();
        }
        let mut has_spun = false;
        loop {
            if !state.waiting.is_empty() {
                std::mem::swap(&mut state.waiting, &mut self.taken);
                drop(state);
                self.takings += 1;
                return self.pop().map_or(Next::Nothing, Next::Command);
            }
            if state.stopped {
                return Next::Stop;
            }
            queue.signalled.store(false, Ordering::SeqCst);
            if std::mem::take(&mut state.rung) {
                return Next::Rung;
            }
            if matches!(patience, Patience::None) {
                return Next::Nothing;
            }
            if !std::mem::replace(&mut has_spun, true) {
                drop(state);
                queue.spin();
                state = queue.lock();
                continue;
            }
            state.writer_sleeps = true;
            let (awake, late) = queue.sleep(state, patience);
            state = awake;
            state.writer_sleeps = false;
            if late && state.waiting.is_empty() && !state.stopped && !state.rung {
                return Next::Nothing;
            }
        }
    }

    /// How often commands were taken out so far.
    pub(crate) fn takings(&self) -> u64 {
        self.takings
    }

    fn pop(&mut self) -> Option<Submission<M>> {
        let submission = self.taken.pop_front()?;
        self.queue.gone.0.add(1, 0);
        self.batch_bytes += submission.record.len();
        Some(submission)
    }

    /// Notes that the batch is full: its commands no longer take room in the queue.
    pub(crate) fn batch_done(&mut self) {
        let bytes = std::mem::take(&mut self.batch_bytes);
        if bytes == 0 {
            return;
        }
        self.queue.gone.0.add(0, bytes);
        if self.queue.lock().callers_blocked > 0 {
            self.queue.room.notify_all();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.queue.has_commands()
    }

    /// For whoever has something to tell the writer.
    pub(crate) fn bell(&self) -> QueueBell<M> {
        QueueBell { queue: self.queue.clone() }
    }
}

impl<M: Model> Queue<M> {
    /// As the writer sees it.
    fn has_commands(&self) -> bool {
        self.queued(self.gone.0.get()).0 > 0
    }

    fn spin(&self) {
        let began = Instant::now();
        while !self.has_commands()
            && !self.signalled.load(Ordering::Relaxed)
            && began.elapsed() < SPIN
        {
            hint::spin_loop();
        }
    }

    /// Sleeps until somebody wakes the writer, or, `true`, for as long as its patience lasts.
    fn sleep<'a>(
        &'a self,
        state: MutexGuard<'a, State<M>>,
        patience: Patience,
    ) -> (MutexGuard<'a, State<M>>, bool) {
        match patience {
            Patience::Until(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let (state, waited) =
                    self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
                (state, waited.timed_out())
            }
            Patience::None | Patience::Endless => {
                (self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner), false)
            }
        }
    }
}

impl<M: Model> Drop for QueueReceiver<M> {
    fn drop(&mut self) {
        self.queue.stop();
        // Outside the lock: to drop a command answers its caller, whose waker may do anything.
        let waiting = std::mem::take(&mut self.queue.lock().waiting);
        self.taken.extend(waiting);
        while self.pop().is_some() {}
        self.batch_done();
    }
}
