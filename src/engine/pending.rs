//! Brings a result from the engine to its caller: where the engine puts it, and how the caller gets
//! it. Knows nothing of batches.

use std::any::Any;
use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use super::sync::thread::{self, Thread};
use super::sync::{Mutex, MutexGuard, lock, thread_local};
use crate::engine::{MemoryFull, Output, RequestKey, Tracked, reason_of};
use crate::execute_error::{ExecuteError, FirstAnswer, Poisoned, Reason};
use crate::model::{Entry, Model};
use crate::panics::unless_it_panics;
use crate::process::OpeningProcess;

thread_local! {
    static ON_ENGINE_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Marks the calling thread as one of the engine's threads, which must not wait for the engine.
pub(crate) fn enter_engine_thread() {
    ON_ENGINE_THREAD.with(|on_engine| on_engine.set(true));
}

/// Marks the calling thread as one of the engine's threads for as long as this value lives.
pub(crate) struct EngineThread {
    before: bool,
}

impl EngineThread {
    pub(crate) fn enter() -> Self {
        Self { before: ON_ENGINE_THREAD.with(|on| on.replace(true)) }
    }
}

impl Drop for EngineThread {
    fn drop(&mut self) {
        ON_ENGINE_THREAD.with(|on| on.set(self.before));
    }
}

pub(crate) fn on_engine_thread() -> bool {
    ON_ENGINE_THREAD.with(Cell::get)
}

/// The future result of a submitted command.
///
/// Call [`wait`](Self::wait) on a thread, or `.await` it: no runtime is needed. Dropping it does
/// not cancel the command. The command goes on, and its result is lost.
///
/// # Panics
/// Polling it again after it was ready panics, as with every future.
#[must_use = "whether the command was accepted is known only from its result"]
pub struct Pending<O, R> {
    slot: Arc<Slot<O, R>>,
    /// The process that submitted the command. In a child of a fork the answer never comes.
    process: OpeningProcess,
}

impl<O, R> Pending<O, R> {
    /// Makes the caller's end of `slot`. `process` is the process that runs the engine.
    pub(crate) fn new(slot: Arc<Slot<O, R>>, process: OpeningProcess) -> Self {
        Self { slot, process }
    }

    fn is_forked(&self) -> bool {
        self.process.is_forked()
    }

    /// Waits until the command is durable (as [`Durability`](crate::Durability) defines it), or
    /// refused.
    ///
    /// # Errors
    /// The same as [`Database::execute`](crate::Database::execute), and [`ExecuteError::Reentrant`]
    /// if it would have to wait inside a command's `apply`. In that case the command goes on and
    /// may be accepted, and its answer is lost.
    pub fn wait(self) -> Result<O, ExecuteError<R>> {
        self.wait_numbered().map(|numbered| numbered.output)
    }

    /// Waits as [`wait`](Self::wait), and returns also the command's sequence: with it, another
    /// caller can [wait](crate::Database::wait_for) until it sees the command's effect, or ask the
    /// history.
    ///
    /// # Errors
    /// Those of [`wait`](Self::wait).
    pub fn wait_numbered(self) -> Result<Numbered<O>, ExecuteError<R>> {
        if self.is_forked() {
            return Err(ExecuteError::Forked);
        }
        let mut inner = self.slot.lock();
        loop {
            if inner.released {
                return inner.take();
            }
            if on_engine_thread() {
                return Err(ExecuteError::Reentrant);
            }
            Slot::wait_as(inner, Waiter::Thread(thread::current()));
            thread::park();
            inner = self.slot.lock();
        }
    }

    /// Makes a future that gives the command's sequence beside its output.
    pub fn numbered(self) -> PendingNumbered<O, R> {
        PendingNumbered { pending: self }
    }

    fn poll_numbered(&self, cx: &TaskContext<'_>) -> Poll<Result<Numbered<O>, ExecuteError<R>>> {
        if self.is_forked() {
            return Poll::Ready(Err(ExecuteError::Forked));
        }
        // A waker is its user's code: no lock is held while it is cloned.
        let waiter = Waiter::Task(cx.waker().clone());
        let mut inner = self.slot.lock();
        if inner.released {
            return Poll::Ready(inner.take());
        }
        Slot::wait_as(inner, waiter);
        Poll::Pending
    }

    /// Whether [`wait`](Self::wait) would return at once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_forked() || self.slot.lock().released
    }
}

impl<O, R> Future for Pending<O, R> {
    type Output = Result<O, ExecuteError<R>>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.poll_numbered(cx).map_ok(|numbered| numbered.output)
    }
}

/// The future of [`Pending::numbered`].
#[must_use = "it does nothing until it is awaited"]
pub struct PendingNumbered<O, R> {
    pending: Pending<O, R>,
}

impl<O, R> Future for PendingNumbered<O, R> {
    type Output = Result<Numbered<O>, ExecuteError<R>>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.pending.poll_numbered(cx)
    }
}

impl<O, R> fmt::Debug for PendingNumbered<O, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pending.fmt(f)
    }
}

/// A command's output with its sequence; see [`Pending::wait_numbered`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Numbered<O> {
    /// The command's sequence: its number among all accepted commands, beginning with 1.
    pub sequence: u64,
    /// What the command returned.
    pub output: O,
}

impl<O, R> fmt::Debug for Pending<O, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("ready", &self.is_ready()).finish()
    }
}

/// The place where the engine puts a command's result. The [`Pending`] shares it.
pub(crate) struct Slot<O, R> {
    inner: Mutex<SlotInner<O, R>>,
}

struct SlotInner<O, R> {
    answer: Option<Result<Numbered<O>, ExecuteError<R>>>,
    /// The caller may have the answer: everything that it depends on is durable.
    released: bool,
    waiter: Waiter,
}

enum Waiter {
    Nobody,
    Thread(Thread),
    Task(Waker),
}

impl Waiter {
    fn wake(self) {
        match self {
            Self::Nobody => {}
            Self::Thread(thread) => thread.unpark(),
            Self::Task(waker) => waker.wake(),
        }
    }
}

impl<O, R> SlotInner<O, R> {
    fn take(&mut self) -> Result<Numbered<O>, ExecuteError<R>> {
        self.answer.take().expect("a Pending must not be polled again once it was ready")
    }
}

impl<O, R> Slot<O, R> {
    pub(crate) fn new() -> Arc<Self> {
        let inner = SlotInner { answer: None, released: false, waiter: Waiter::Nobody };
        Arc::new(Self { inner: Mutex::new(inner) })
    }

    /// Puts the answer. The caller does not see it before it is released.
    pub(crate) fn put(&self, sequence: u64, answer: Result<O, ExecuteError<R>>) {
        let answer = answer.map(|output| Numbered { sequence, output });
        self.lock().answer = Some(answer);
    }

    fn put_error(&self, error: ExecuteError<R>) {
        self.lock().answer = Some(Err(error));
    }

    /// Shows the answer that was put to a user's code, while no lock is held. If that panics, the
    /// answer is still there afterwards.
    fn look_at_answer<A>(
        &self,
        look: impl FnOnce(&Result<Numbered<O>, ExecuteError<R>>) -> A,
    ) -> Option<A> {
        let answer = self.lock().answer.take()?;
        let looked = catch_unwind(AssertUnwindSafe(|| look(&answer)));
        self.lock().answer = Some(answer);
        match looked {
            Ok(looked) => Some(looked),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Puts another answer in the place of one. The `Drop` of the first one may panic.
    fn put_instead(&self, answer: ExecuteError<R>) {
        let before = self.lock().answer.replace(Err(answer));
        unless_it_panics(|| drop(before));
    }

    #[cfg(test)]
    pub(crate) fn is_waited_for(&self) -> bool {
        !matches!(self.lock().waiter, Waiter::Nobody)
    }

    fn lock(&self) -> MutexGuard<'_, SlotInner<O, R>> {
        lock(&self.inner)
    }

    fn release_with(&self, replacement: Option<ExecuteError<R>>) {
        let mut inner = self.lock();
        if inner.released {
            return;
        }
        let replaced = replacement.and_then(|error| inner.answer.replace(Err(error)));
        inner.released = true;
        let waiter = std::mem::replace(&mut inner.waiter, Waiter::Nobody);
        // What follows is a user's code, so it runs without the lock; and the caller is woken
        // first, because the `Drop` of what was replaced may panic.
        drop(inner);
        waiter.wake();
        drop(replaced);
    }

    /// Sets who waits. The waker of an earlier task is freed without the lock.
    fn wait_as(mut inner: MutexGuard<'_, SlotInner<O, R>>, waiter: Waiter) {
        let before = std::mem::replace(&mut inner.waiter, waiter);
        drop(inner);
        drop(before);
    }
}

/// A [`Slot`] without its types, which the engine does not know.
pub(crate) trait AnySlot: Send + Sync {
    /// Gives the slot to the one function that knows the types.
    fn as_any(&self) -> &dyn Any;
    /// Gives the answer that was put, and wakes the caller.
    fn release(&self);
    /// Puts the answer that the command's condition does not hold.
    fn put_stale(&self, expected: u64, found: u64);
    /// Puts the answer that a command with this request id was accepted before.
    fn put_duplicate(&self, sequence: u64, first: Box<FirstAnswer>);
    /// Puts the answer that no further request id can be remembered.
    fn put_requests_full(&self, full: MemoryFull);
    /// Shows the output that was put, if there is one.
    fn show_output(&self, show: &mut dyn FnMut(&dyn Any));
    /// Returns why the answer that was put is a refusal: not for a duplicate, which was accepted.
    fn refusal(&self) -> Option<String>;
    /// Puts the answer that the command's events cannot be stored.
    fn put_events_refused(&self, reason: String);
    /// Gives an error instead of the answer that was put.
    fn release_error(&self, failure: Failure);
}

/// Why a command gets an error from the engine instead of its own answer.
#[derive(Clone)]
pub(crate) enum Failure {
    Stopped,
    /// This process was forked from the one that opened the database.
    Forked,
    /// Its batch could not be written, and it is certain that nothing of it was written.
    NotWritten(Arc<str>),
    Poisoned(Poisoned),
}

impl<O: Send + 'static, R: Send + 'static> AnySlot for Slot<O, R> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn release(&self) {
        self.release_with(None);
    }

    fn put_stale(&self, expected: u64, found: u64) {
        self.put_error(ExecuteError::Stale { expected, found });
    }

    fn put_duplicate(&self, sequence: u64, first: Box<FirstAnswer>) {
        self.put_error(ExecuteError::Duplicate { sequence, first });
    }

    fn put_requests_full(&self, MemoryFull { remembered, still_ns }: MemoryFull) {
        let frees_in = Duration::from_nanos(still_ns);
        self.put_error(ExecuteError::RequestsFull { remembered, frees_in });
    }

    fn show_output(&self, show: &mut dyn FnMut(&dyn Any)) {
        self.look_at_answer(|answer| {
            if let Ok(numbered) = answer {
                show(&numbered.output);
            }
        });
    }

    fn refusal(&self) -> Option<String> {
        self.look_at_answer(|answer| match answer {
            Ok(_) | Err(ExecuteError::Duplicate { .. }) => None,
            Err(error) => Some(reason_of(&Reason(error))),
        })
        .flatten()
    }

    fn put_events_refused(&self, reason: String) {
        self.put_instead(ExecuteError::EventsRefused { reason });
    }

    fn release_error(&self, failure: Failure) {
        self.release_with(Some(match failure {
            Failure::Stopped => ExecuteError::Stopped,
            Failure::Forked => ExecuteError::Forked,
            Failure::NotWritten(reason) => ExecuteError::NotWritten { reason },
            Failure::Poisoned(poisoned) => ExecuteError::Poisoned(poisoned),
        }));
    }
}

/// The engine's end of a slot. If the engine drops it, the caller gets an answer nevertheless.
pub(crate) struct Ticket {
    slot: Option<Arc<dyn AnySlot>>,
    /// `None` if nobody may ask for the command while it is on its way.
    tracked: Option<Box<Tracked>>,
}

impl Ticket {
    pub(crate) fn new(slot: Arc<dyn AnySlot>, tracked: Option<Box<Tracked>>) -> Self {
        Self { slot: Some(slot), tracked }
    }

    /// Returns the request, if the command has an id.
    pub(crate) fn request(&self) -> Option<&RequestKey> {
        self.tracked.as_ref()?.request()
    }

    pub(crate) fn slot(&self) -> &dyn Any {
        self.slot.as_ref().expect("taken only by release and fail, which consume").as_any()
    }

    /// Puts the answer that the command's condition does not hold.
    pub(crate) fn put_stale(&self, expected: u64, found: u64) {
        if let Some(slot) = &self.slot {
            slot.put_stale(expected, found);
        }
    }

    /// Puts the answer that a command with this request id was accepted before.
    pub(crate) fn put_duplicate(&self, sequence: u64, first: Box<FirstAnswer>) {
        if let Some(slot) = &self.slot {
            slot.put_duplicate(sequence, first);
        }
    }

    /// Puts the answer that no further request id can be remembered.
    pub(crate) fn put_requests_full(&self, full: MemoryFull) {
        if let Some(slot) = &self.slot {
            slot.put_requests_full(full);
        }
    }

    /// Returns the output that was put as JSON, if it takes at most so many bytes. `entry` is that
    /// of its command.
    pub(crate) fn output<M: Model>(&self, entry: &Entry<M>, most_bytes: usize) -> Output {
        let slot = self.slot.as_ref().filter(|_| most_bytes > 0)?;
        let mut json = None;
        slot.show_output(&mut |output| json = entry.output_to_json(output, most_bytes));
        json.map(Arc::from)
    }

    /// Puts the answer that the command's events cannot be stored.
    pub(crate) fn put_events_refused(&self, reason: String) {
        if let Some(slot) = &self.slot {
            slot.put_events_refused(reason);
        }
    }

    pub(crate) fn release(mut self) {
        if let (Some(tracked), Some(slot)) = (self.tracked.take(), &self.slot) {
            // How a rejection is shown is a user's code. If it panics, the panic hook tells its
            // owner, and the caller is answered nevertheless.
            match unless_it_panics(|| slot.refusal()) {
                Some(Some(reason)) => tracked.refused(reason),
                Some(None) => tracked.accepted(),
                None => tracked.refused("it cannot be shown, because that panics".to_owned()),
            }
        }
        self.answer(|slot| slot.release());
    }

    pub(crate) fn fail(mut self, failure: Failure) {
        match (self.tracked.take(), &failure) {
            (Some(tracked), Failure::NotWritten(reason)) => {
                let reason = reason.clone();
                let told: ExecuteError<Infallible> = ExecuteError::NotWritten { reason };
                tracked.refused(reason_of(&told));
            }
            // It was not taken, or nobody knows.
            (_, Failure::Stopped | Failure::Forked | Failure::Poisoned(_)) | (None, _) => {}
        }
        self.answer(|slot| slot.release_error(failure));
    }

    /// Answers, unless the answer was given already. A caller's waker or the `Drop` of an output
    /// may panic. The panic hook reports that panic to its owner. It is caught here so that the
    /// next caller still gets an answer.
    fn answer(&mut self, give: impl FnOnce(&dyn AnySlot)) {
        if let Some(slot) = self.slot.take() {
            unless_it_panics(move || give(&*slot));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.answer(|slot| slot.release_error(Failure::Stopped));
    }
}
