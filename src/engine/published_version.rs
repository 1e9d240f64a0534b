//! Owns the newest readable version and the way in which readers get it: one atomic pointer, no
//! lock. A version lives as long as a reader, a snapshot or `recent_versions` holds it; the writer
//! frees the rest (see `batch`). Knows nothing of how versions are made.

use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use super::status::Status;
use super::sync::atomic::{AtomicUsize, Ordering, fence};
use super::sync::{ArcSwap, Condvar, Instant, Mutex, lock};
use crate::engine::{AtError, Recent, RequestLog, Wakers};
use crate::execute_error::WaitError;
use crate::model::system_time;
use crate::options::{RecentVersions, RequestLimits};

/// The model at one sequence.
pub(crate) struct Version<M> {
    pub(crate) model: M,
    pub(crate) sequence: u64,
    /// The time of the newest command in it.
    pub(crate) time_ns: u64,
    /// The request ids that are remembered at this sequence.
    pub(crate) requests: RequestLog,
    /// The journal's chain value at `sequence`. It is set when the batch is written.
    chain: OnceLock<u32>,
}

impl<M> Version<M> {
    /// Makes a version whose batch is not written yet.
    pub(crate) fn unwritten(model: M, sequence: u64, time_ns: u64) -> Self {
        let requests = RequestLog::new(RequestLimits::of(0));
        Self { model, sequence, time_ns, requests, chain: OnceLock::new() }
    }

    /// Makes a version whose batch is written and has this chain value.
    pub(crate) fn written(model: M, sequence: u64, time_ns: u64, chain: u32) -> Self {
        let requests = RequestLog::new(RequestLimits::of(0));
        Self { model, sequence, time_ns, requests, chain: OnceLock::from(chain) }
    }

    pub(crate) fn with_requests(self, requests: RequestLog) -> Self {
        Self { requests, ..self }
    }

    /// Sets the chain value. A second call changes nothing; both would give the same value.
    pub(crate) fn set_chain(&self, chain: u32) {
        self.chain.set(chain).ok();
    }

    pub(crate) fn chain(&self) -> u32 {
        *self.chain.get().expect("versions are published only once their batch is written")
    }
}

/// Frees each version by itself. If the `Drop` of one panics, the others are not freed during that
/// panic, because a second panic would end the process. The first panic goes on afterwards.
pub(crate) fn free<V>(versions: impl IntoIterator<Item = V>) {
    let mut first = None;
    for version in versions {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(version))) {
            first.get_or_insert(panic);
        }
    }
    if let Some(panic) = first {
        resume_unwind(panic);
    }
}

/// A version of the model, which does not change while commands go on.
///
/// It is cheap to take and to clone, and it dereferences to the model. While it lives, the memory
/// of its version is not freed, so do not keep it for longer than you need it.
pub struct View<M> {
    version: Arc<Version<M>>,
}

impl<M> View<M> {
    pub(crate) fn of(version: Version<M>) -> Self {
        Self { version: Arc::new(version) }
    }

    /// Returns the sequence of the newest command in this version; 0 for the initial model.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.version.sequence
    }

    /// Returns the chain value of all commands in this version.
    pub(crate) fn chain(&self) -> u32 {
        self.version.chain()
    }

    /// Returns the time of the newest command in this version.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        system_time(self.version.time_ns)
    }
}

impl<M> Deref for View<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.version.model
    }
}

impl<M> Clone for View<M> {
    fn clone(&self) -> Self {
        Self { version: self.version.clone() }
    }
}

impl<M> fmt::Debug for View<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("sequence", &self.sequence()).finish_non_exhaustive()
    }
}

/// The newest version, the recent ones, and the threads that wait for a sequence.
pub(crate) struct Published<M> {
    current: ArcSwap<Version<M>>,
    recent: Recent<Arc<Version<M>>>,
    /// How many threads wait for a sequence. While nobody waits, publishing does not take the lock.
    waiting: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
    /// The tasks that wait for a sequence.
    pub(crate) tasks: Wakers,
}

impl<M> Published<M> {
    pub(crate) fn new(first: Arc<Version<M>>, limits: RecentVersions) -> Self {
        Self {
            recent: Recent::new(limits, first.sequence, first.clone()),
            current: ArcSwap::new(first),
            waiting: AtomicUsize::new(0),
            lock: Mutex::new(()),
            changed: Condvar::new(),
            tasks: Wakers::default(),
        }
    }

    /// Makes `version` the newest. Adds the versions that are no longer kept to `superseded`, so
    /// that the caller chooses when to free them.
    pub(crate) fn publish(&self, version: Arc<Version<M>>, superseded: &mut Vec<Arc<Version<M>>>) {
        superseded.push(self.current.swap(version.clone()));
        self.wake_waiting();
        let now = std::time::Instant::now();
        self.recent.push(version.sequence, version, now, superseded);
    }

    /// Frees the versions that have become too old.
    pub(crate) fn forget_old(&self) {
        free(self.recent.forget_old(std::time::Instant::now()));
    }

    /// Frees every version but the newest.
    pub(crate) fn forget_all_but_newest(&self) {
        free(self.recent.forget_all());
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn recent(&self) -> &Recent<Arc<Version<M>>> {
        &self.recent
    }

    /// Returns the version at a sequence, if it is the newest or still kept.
    pub(crate) fn at(&self, wanted: u64) -> Result<View<M>, AtError> {
        let newest = self.pin();
        let current = newest.sequence;
        if wanted > current {
            return Err(AtError::NotYet { wanted, newest: current });
        }
        let version = if wanted == current {
            newest
        } else {
            self.recent.at(wanted, current, std::time::Instant::now())?
        };
        Ok(View { version })
    }

    /// Wakes waiting threads, which then look at the version and the status again.
    pub(crate) fn wake_waiting(&self) {
        // This fence pairs with the fence in `wait_for`: either this thread sees the waiter, or the
        // waiter sees what was changed before.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            drop(lock(&self.lock));
            self.changed.notify_all();
        }
        self.tasks.wake_all();
    }

    pub(crate) fn read<R>(&self, reader: impl FnOnce(&Version<M>) -> R) -> R {
        reader(&self.current.load())
    }

    pub(crate) fn view(&self) -> View<M> {
        View { version: self.pin() }
    }

    pub(crate) fn pin(&self) -> Arc<Version<M>> {
        self.current.load_full()
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.read(|version| version.sequence)
    }

    pub(crate) fn wait_for(
        &self,
        wanted: u64,
        timeout: Duration,
        status: &Status,
    ) -> Result<(), WaitError> {
        self.wait_until_reached(wanted, &|| self.sequence(), timeout, status)
    }

    /// Waits as [`wait_for`](Self::wait_for), until `reached` returns `wanted` or more. It is asked
    /// again whenever waiting threads are woken.
    pub(crate) fn wait_until_reached(
        &self,
        wanted: u64,
        reached: &dyn Fn() -> u64,
        timeout: Duration,
        status: &Status,
    ) -> Result<(), WaitError> {
        if reached() >= wanted {
            return Ok(());
        }
        let deadline = Instant::now().checked_add(timeout);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let result = self.wait_until((wanted, reached), deadline, status);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        result
    }

    fn wait_until(
        &self,
        (wanted, reached): (u64, &dyn Fn() -> u64),
        deadline: Option<Instant>,
        status: &Status,
    ) -> Result<(), WaitError> {
        let mut guard = lock(&self.lock);
        loop {
            // The status is read before the sequence: a version that was published before the
            // status changed must still count.
            let (poisoned, stopped) = (status.poisoned().cloned(), status.is_stopped());
            let reached = reached();
            if reached >= wanted {
                return Ok(());
            }
            if let Some(poisoned) = poisoned {
                return Err(WaitError::Poisoned(poisoned));
            }
            if stopped {
                return Err(WaitError::Stopped { wanted, reached });
            }
            // A deadline beyond the clock's range is the same as no deadline.
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(WaitError::TimedOut { wanted, reached });
            }
            let pause = left.unwrap_or(Duration::from_secs(3600));
            guard =
                self.changed.wait_timeout(guard, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
