//! Owns the writer's end of the queue: how commands are taken, and when they no longer take room.
//! Knows nothing of what becomes of them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::sync::atomic::Ordering;
use super::wait::{Idle, Patience, QueueBell, QueueWatch};
use super::{Queue, Submission};
use crate::model::Model;

/// The writer's end of the queue. When it is dropped, callers that wait for room or for an answer
/// are told that the engine has stopped.
pub(crate) struct QueueReceiver<M: Model> {
    pub(super) queue: Arc<Queue<M>>,
    /// Commands that were drained together. They still count as queued.
    pub(super) drained: VecDeque<Submission<M>>,
    pub(super) drain_count: u64,
    /// The bytes of the commands that `next` gave for the batch that is being filled.
    pub(super) batch_bytes: usize,
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
        state = queue.tell_room(state);
        let mut idle = Idle::first(patience, true);
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
            let Some(later) = queue.idle(state, idle, patience) else { return Next::Nothing };
            (state, idle) = later;
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
        drop(self.queue.tell_room(self.queue.lock()));
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
