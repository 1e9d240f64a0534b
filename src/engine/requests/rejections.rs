//! Owns the newest commands that were refused, for those who ask later and for those who listen
//! now. It is bounded, and in memory alone: the journal holds only what was accepted.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use futures_core::Stream;

use super::key::{KeyHasher, RequestKey};
use super::reason::MOST_REASON_BYTES;
use crate::engine::{LONG_WAIT, Wakers, on_engine_thread};
use crate::mutex::lock;
use crate::options::RejectionLimits;
use crate::process::OpeningProcess;

/// All that is kept may take this many bytes for each rejection that may be kept.
const BYTES_PER_REJECTION: usize = 2 * MOST_REASON_BYTES;

/// A command that was refused; see [`Database::rejections`](crate::Database::rejections).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejection {
    /// The command's name in the journal.
    pub command: &'static str,
    /// Who asked; empty if unknown.
    pub actor: String,
    /// The id of the request; empty if it had none.
    pub request_id: String,
    /// Why it was refused, in the words of the rejection's `Display`, or else of its `Debug`; at
    /// most 1,024 bytes.
    pub reason: String,
    /// When it was answered.
    pub time: SystemTime,
}

/// What is kept of one refused command.
struct Kept {
    key: RequestKey,
    command: &'static str,
    reason: String,
    time: SystemTime,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.key.bytes() + self.reason.len()
    }
}

/// The newest rejections.
pub(super) struct RecentRejections {
    limits: RejectionLimits,
    /// In the child of a fork the lock may stay locked for ever, so nothing is noted there.
    process: OpeningProcess,
    /// How many listen. While nobody does, only commands with an id are noted.
    listening: AtomicUsize,
    /// How many requests have a rejection in the ring. While none has, an accepted command takes no
    /// lock.
    requests: AtomicUsize,
    ring: Mutex<Ring>,
    changed: Condvar,
    tasks: Wakers,
}

#[derive(Default)]
struct Ring {
    /// Oldest first.
    kept: VecDeque<Kept>,
    bytes: usize,
    /// The number of the next rejection.
    next: u64,
    /// The number of the newest rejection of each request that is kept.
    by_request: HashMap<RequestKey, u64, KeyHasher>,
    is_closed: bool,
}

impl Ring {
    fn oldest(&self) -> u64 {
        self.next - crate::files::position(self.kept.len())
    }

    fn get(&self, number: u64) -> Option<&Kept> {
        let at = number.checked_sub(self.oldest())?;
        self.kept.get(usize::try_from(at).ok()?)
    }

    fn forget_oldest(&mut self) {
        let number = self.oldest();
        let Some(oldest) = self.kept.pop_front() else { return };
        self.bytes -= oldest.bytes();
        if self.by_request.get(&oldest.key) == Some(&number) {
            self.by_request.remove(&oldest.key);
        }
    }
}

impl RecentRejections {
    pub(super) fn new(limits: RejectionLimits) -> Self {
        Self {
            limits,
            process: OpeningProcess::this(),
            listening: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            ring: Mutex::default(),
            changed: Condvar::new(),
            tasks: Wakers::default(),
        }
    }

    /// Whether anybody wants to know what is refused.
    pub(super) fn is_listened_to(&self) -> bool {
        self.listening.load(Ordering::Relaxed) > 0
    }

    /// Notes a rejection, and tells it to those who listen.
    pub(super) fn note(
        &self,
        key: &RequestKey,
        command: &'static str,
        reason: String,
        time: SystemTime,
    ) {
        if self.process.is_forked() {
            return;
        }
        let kept = Kept { key: key.clone(), command, reason, time };
        let most_bytes = self.limits.most.saturating_mul(BYTES_PER_REJECTION);
        let mut ring = lock(&self.ring);
        ring.bytes += kept.bytes();
        if !kept.key.id().is_empty() {
            let number = ring.next;
            ring.by_request.insert(kept.key.clone(), number);
            self.requests.store(ring.by_request.len(), Ordering::SeqCst);
        }
        ring.kept.push_back(kept);
        ring.next += 1;
        while ring.kept.len() > self.limits.most
            || ring.bytes > most_bytes
            || ring.kept.front().is_some_and(|oldest| self.limits.is_over(oldest.time, time))
        {
            ring.forget_oldest();
        }
        drop(ring);
        self.wake();
    }

    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.is_listened_to() {
            self.changed.notify_all();
            self.tasks.wake_all();
        }
    }

    /// Notes that a request was accepted: its earlier refusal is no longer what became of it.
    pub(super) fn accepted(&self, key: &RequestKey) {
        if self.requests.load(Ordering::SeqCst) > 0 && !self.process.is_forked() {
            let mut ring = lock(&self.ring);
            ring.by_request.remove(key);
            self.requests.store(ring.by_request.len(), Ordering::SeqCst);
        }
    }

    /// Nothing is refused any more.
    pub(super) fn close(&self) {
        if !self.process.is_forked() {
            lock(&self.ring).is_closed = true;
            self.wake();
        }
    }

    /// Returns the newest rejection of a request: its reason and its time.
    pub(super) fn of(&self, key: &RequestKey, now: SystemTime) -> Option<(String, SystemTime)> {
        let ring = lock(&self.ring);
        let kept = ring.get(*ring.by_request.get(key)?)?;
        (!self.limits.is_over(kept.time, now)).then(|| (kept.reason.clone(), kept.time))
    }
}

/// The commands that are refused from now on, one by one; see
/// [`Database::rejections`](crate::Database::rejections).
///
/// It is an iterator that waits for the next one, and a [`Stream`] that needs no runtime. It ends
/// after the database was closed or has failed; at once in the child of a fork; and where it would
/// have to wait inside a command's `apply`.
pub struct Rejections {
    shared: Arc<super::Requests>,
    process: OpeningProcess,
    next: u64,
    missed: u64,
    task: u64,
    has_ended: bool,
}

impl Rejections {
    pub(crate) fn new(shared: Arc<super::Requests>, process: OpeningProcess) -> Self {
        let (mut next, mut task) = (0, 0);
        let is_forked = process.is_forked();
        if !is_forked {
            let recent = &shared.rejections;
            recent.listening.fetch_add(1, Ordering::SeqCst);
            (next, task) = (lock(&recent.ring).next, recent.tasks.number());
        }
        Self { shared, process, next, missed: 0, task, has_ended: is_forked }
    }

    /// Returns how many rejections it has missed so far: only the newest are kept, so many and so
    /// much of them; see
    /// [`Builder::remembered_rejections`](crate::Builder::remembered_rejections).
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Returns whether no rejection will come any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns the next rejection if there is one already.
    pub fn try_next(&mut self) -> Option<Rejection> {
        if self.has_ended || self.process.is_forked() {
            self.has_ended = true;
            return None;
        }
        let shared = self.shared.clone();
        let ring = lock(&shared.rejections.ring);
        self.take(&ring)
    }

    /// Returns the next rejection, and waits for it at most so long. `None` says that the time has
    /// passed, or, if [`has_ended`](Self::has_ended), that none will come.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Rejection> {
        // A deadline beyond the clock's range is none.
        let deadline = Instant::now().checked_add(timeout);
        let shared = self.shared.clone();
        if self.has_ended || self.process.is_forked() {
            self.has_ended = true;
            return None;
        }
        let mut ring = lock(&shared.rejections.ring);
        loop {
            let taken = self.take(&ring);
            let left =
                deadline.map_or(LONG_WAIT, |at| at.saturating_duration_since(Instant::now()));
            if taken.is_some() || self.has_ended || left.is_zero() {
                return taken;
            }
            if on_engine_thread() {
                self.has_ended = true;
                return None;
            }
            let waited = shared.rejections.changed.wait_timeout(ring, left);
            ring = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn take(&mut self, ring: &Ring) -> Option<Rejection> {
        let missed = ring.oldest().saturating_sub(self.next);
        self.missed += missed;
        self.next += missed;
        let Some(kept) = ring.get(self.next) else {
            self.has_ended = ring.is_closed;
            return None;
        };
        self.next += 1;
        let Kept { key, command, reason, time } = kept;
        Some(Rejection {
            command,
            actor: key.actor().to_owned(),
            request_id: key.id().to_owned(),
            reason: reason.clone(),
            time: *time,
        })
    }
}

impl Iterator for Rejections {
    type Item = Rejection;

    /// Waits for the next rejection.
    fn next(&mut self) -> Option<Rejection> {
        loop {
            let next = self.next_timeout(Duration::MAX);
            if next.is_some() || self.has_ended {
                return next;
            }
        }
    }
}

impl Stream for Rejections {
    type Item = Rejection;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Rejection>> {
        let next = self.try_next();
        if next.is_some() || self.has_ended {
            return Poll::Ready(next);
        }
        self.shared.rejections.tasks.set(self.task, cx.waker());
        // It looks once more, because something may have come before the waker was set.
        let next = self.try_next();
        if next.is_some() || self.has_ended { Poll::Ready(next) } else { Poll::Pending }
    }
}

impl Drop for Rejections {
    fn drop(&mut self) {
        if self.process.is_forked() {
            return; // a thread of the parent may have held these locks
        }
        self.shared.rejections.listening.fetch_sub(1, Ordering::SeqCst);
        self.shared.rejections.tasks.forget(self.task);
    }
}

impl fmt::Debug for Rejections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejections")
            .field("missed", &self.missed)
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}
