//! Owns the wakers of tasks that wait until the database has changed. Knows nothing of what they
//! wait for: each looks again when it is woken.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::task::Waker;
use std::time::Duration;

use crate::engine::EngineThread;
use crate::mutex::lock;
use crate::panics::unless_it_panics;

/// How long a wait without a deadline lasts before it looks again.
pub(crate) const LONG_WAIT: Duration = Duration::from_secs(3600);

/// At most one waker for each task that waits.
#[derive(Default)]
pub(crate) struct Wakers {
    /// How many wait. While nobody does, waking takes no lock.
    waiting: AtomicUsize,
    next: AtomicU64,
    wakers: Mutex<HashMap<u64, Waker>>,
}

impl Wakers {
    /// Returns the number of a new task.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Sets the waker of a task, until it is woken. The task must look once more after this.
    pub(crate) fn set(&self, number: u64, waker: &Waker) {
        // A waker is its user's code: no lock is held while it runs.
        let waker = waker.clone();
        let mut wakers = lock(&self.wakers);
        let before = wakers.insert(number, waker);
        self.waiting.store(wakers.len(), Ordering::SeqCst);
        drop(wakers);
        drop(before);
        // This pairs with the fence of whoever wakes: either that sees this waker, or the look that
        // follows here sees the change.
        fence(Ordering::SeqCst);
    }

    pub(crate) fn forget(&self, number: u64) {
        let mut wakers = lock(&self.wakers);
        let before = wakers.remove(&number);
        self.waiting.store(wakers.len(), Ordering::SeqCst);
        drop(wakers);
        drop(before);
    }

    /// Wakes all. The caller has made the change visible before, with a fence.
    pub(crate) fn wake_all(&self) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut wakers = lock(&self.wakers);
        let all = std::mem::take(&mut *wakers);
        self.waiting.store(0, Ordering::SeqCst);
        drop(wakers);
        wake(all.into_values());
    }
}

/// Wakes tasks. No lock of the engine may be held.
pub(crate) fn wake(wakers: impl Iterator<Item = Waker>) {
    // A waker may run its task here, and the engine may be in the middle of something.
    let _guard = EngineThread::enter();
    for waker in wakers {
        // A waker is its user's code. If it panics, the panic hook tells its owner, and the next
        // one is woken nevertheless.
        unless_it_panics(|| waker.wake());
    }
}
