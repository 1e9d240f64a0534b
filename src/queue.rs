//! Owns the bounded queue between callers and the writer: a bound on commands and one on bytes.
//! Knows nothing of what the commands do.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::context::Context;
use crate::model::Model;
use crate::pending::Ticket;

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
    pub(crate) record: Vec<u8>,
    pub(crate) metadata_length: usize,
    pub(crate) apply: ApplyFn<M>,
    pub(crate) ticket: Ticket,
}

pub(crate) enum Message<M: Model> {
    Command(Submission<M>),
    /// Nothing behind this is taken.
    Stop,
}

/// Why a command did not get into the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Stopped,
}

/// The callers' end.
pub(crate) struct QueueSender<M: Model> {
    messages: Sender<Message<M>>,
    /// For what was sent while the writer went: crossbeam keeps the messages of a bounded channel
    /// when its receiver is dropped (crossbeam issue 1102), and their callers would wait for ever.
    leftover: Receiver<Message<M>>,
    budget: Arc<ByteBudget>,
}

/// The writer's end. When it goes, whoever waits for room or for an answer is told so.
pub(crate) struct QueueReceiver<M: Model> {
    pub(crate) messages: Receiver<Message<M>>,
    budget: Arc<ByteBudget>,
}

pub(crate) fn queue<M: Model>(commands: usize, bytes: usize) -> (QueueSender<M>, QueueReceiver<M>) {
    let (sender, receiver) = bounded(commands);
    let budget = Arc::new(ByteBudget::new(bytes));
    let leftover = receiver.clone();
    (
        QueueSender { messages: sender, leftover, budget: budget.clone() },
        QueueReceiver { messages: receiver, budget },
    )
}

impl<M: Model> QueueSender<M> {
    /// Waits for room.
    pub(crate) fn send(&self, submission: Submission<M>) -> Result<(), Refusal> {
        let bytes = submission.record.len();
        if !self.budget.acquire(bytes) {
            return Err(Refusal::Stopped);
        }
        let sent = self.messages.send(Message::Command(submission));
        self.after_send(bytes, sent.map_err(|_| Refusal::Stopped))
    }

    /// Never waits.
    pub(crate) fn try_send(&self, submission: Submission<M>) -> Result<(), Refusal> {
        let bytes = submission.record.len();
        if !self.budget.try_acquire(bytes) {
            return Err(Refusal::Full);
        }
        let sent = self.messages.try_send(Message::Command(submission));
        let sent = sent.map_err(|error| match error {
            TrySendError::Full(_) => Refusal::Full,
            TrySendError::Disconnected(_) => Refusal::Stopped,
        });
        self.after_send(bytes, sent)
    }

    /// Ends the queue behind everything that stands in it.
    pub(crate) fn stop(&self) {
        let sent = self.messages.send(Message::Stop).map_err(|_| Refusal::Stopped);
        // Nobody listening is an end as well.
        self.after_send(0, sent).ok();
    }

    /// Either the writer's last look at the queue came after this message, or the writer had said
    /// before it that it closes: then this side empties the queue.
    fn after_send(&self, bytes: usize, sent: Result<(), Refusal>) -> Result<(), Refusal> {
        if sent.is_err() {
            self.budget.give_back(bytes);
        } else if self.budget.is_closed() {
            drain(&self.leftover, &self.budget);
        }
        sent
    }

    pub(crate) fn commands(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.budget.used.load(Ordering::Relaxed)
    }
}

impl<M: Model> QueueReceiver<M> {
    /// Notes that commands of that many bytes were taken out.
    pub(crate) fn taken(&self, bytes: usize) {
        self.budget.give_back(bytes);
    }
}

impl<M: Model> Drop for QueueReceiver<M> {
    fn drop(&mut self) {
        self.budget.close();
        drain(&self.messages, &self.budget);
    }
}

/// Drops what is in the queue, which answers its callers.
fn drain<M: Model>(messages: &Receiver<Message<M>>, budget: &ByteBudget) {
    while let Ok(message) = messages.try_recv() {
        if let Message::Command(submission) = message {
            budget.give_back(submission.record.len());
        }
    }
}

/// Bounds the bytes in the queue. One command larger than the whole budget gets through alone.
struct ByteBudget {
    limit: usize,
    used: AtomicUsize,
    waiting: AtomicUsize,
    closed: AtomicBool,
    lock: Mutex<()>,
    freed: Condvar,
}

impl ByteBudget {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            lock: Mutex::new(()),
            freed: Condvar::new(),
        }
    }

    fn try_acquire(&self, bytes: usize) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::SeqCst);
        if before == 0 || before.saturating_add(bytes) <= self.limit {
            return true;
        }
        self.give_back(bytes);
        false
    }

    /// Waits for room; `false` when the queue is closed.
    fn acquire(&self, bytes: usize) -> bool {
        if self.try_acquire(bytes) {
            return true;
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let acquired = loop {
            if self.is_closed() {
                break false;
            }
            let used = self.used.load(Ordering::SeqCst);
            let fits = used == 0 || used.saturating_add(bytes) <= self.limit;
            let claimed = || {
                let next = used.saturating_add(bytes);
                self.used.compare_exchange(used, next, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            };
            if fits {
                if claimed() {
                    break true;
                }
                continue; // somebody else changed it: look again
            }
            guard = self.freed.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        drop(guard);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        acquired
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        self.wake();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.freed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_command_larger_than_the_budget_passes_alone() {
        let budget = ByteBudget::new(10);
        assert!(budget.try_acquire(100));
        assert!(!budget.try_acquire(1));
        budget.give_back(100);
        assert!(budget.try_acquire(6));
        assert!(!budget.try_acquire(5));
        assert!(budget.try_acquire(4));
    }

    #[test]
    fn waiting_ends_with_room_or_with_the_queue() {
        let budget = ByteBudget::new(10);
        assert!(budget.acquire(8));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| budget.acquire(8));
            while budget.waiting.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            budget.give_back(8);
            assert!(waiting.join().unwrap());
            let waiting = scope.spawn(|| budget.acquire(8));
            while budget.waiting.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            budget.close();
            assert!(!waiting.join().unwrap());
        });
        assert_eq!(budget.used.load(Ordering::SeqCst), 8);
    }
}
