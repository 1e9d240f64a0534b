//! Owns the synchronisation types of the modules that are compiled a second time: shuttle's types,
//! and a clock that moves only when somebody waits for it. Time-outs then depend on the schedule
//! alone.

use std::cell::Cell;
use std::ops::Add;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LockResult, PoisonError, TryLockError};
use std::time::Duration;

pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};
pub(crate) use shuttle::{thread, thread_local};

/// As `crate::mutex::lock`.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As `crate::mutex::try_lock`.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

pub(crate) mod channel {
    //! Bounded channels under their crossbeam names.
    pub(crate) use shuttle::sync::mpsc::{Receiver, SyncSender as Sender};
}

pub(crate) mod hint {
    //! Spinning, which lets the others run.
    use std::time::Duration;

    pub(crate) fn spin_loop() {
        super::pass_to(super::Instant::now() + Duration::from_micros(4));
        shuttle::hint::spin_loop();
    }
}

std::thread_local! {
    /// Shuttle runs all threads of a test on one real thread, so they share it. It goes on from one
    /// schedule to the next: only differences are ever looked at.
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Self {
        Self(NOW.get())
    }

    pub(crate) fn elapsed(self) -> Duration {
        Self::now().saturating_duration_since(self)
    }

    pub(crate) fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    pub(crate) fn checked_add(self, time: Duration) -> Option<Self> {
        self.0.checked_add(time).map(Self)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0 + time)
    }
}

fn pass_to(instant: Instant) {
    NOW.set(NOW.get().max(instant.0));
}

/// Who waits for so long waits for a wake-up: a time-out must not hide that it was lost.
const ENDLESS: Duration = Duration::from_secs(3600);

/// Shuttle's, with time-outs: its own never come.
pub(crate) struct Condvar {
    condvar: Arc<shuttle::sync::Condvar>,
}

pub(crate) struct WaitTimeoutResult {
    timed_out: bool,
}

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.timed_out
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self { condvar: Arc::new(shuttle::sync::Condvar::new()) }
    }

    pub(crate) fn notify_one(&self) {
        self.condvar.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.condvar.notify_all();
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.condvar.wait(guard)
    }

    /// The time-out is a thread: it comes whenever the schedule lets it, perhaps at once. Others
    /// that wait may be woken by it without cause, as std allows.
    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        longest: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        if longest >= ENDLESS {
            let guard = self.wait(guard).unwrap_or_else(PoisonError::into_inner);
            return Ok((guard, WaitTimeoutResult { timed_out: false }));
        }
        let deadline = Instant::now() + longest;
        let [over, late] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let timer = {
            let (condvar, over, late) = (self.condvar.clone(), over.clone(), late.clone());
            move || {
                // Again and again: the first may come before its thread sleeps.
                while !over.load(Ordering::SeqCst) {
                    pass_to(deadline);
                    late.store(true, Ordering::SeqCst);
                    condvar.notify_all();
                    thread::yield_now();
                }
            }
        };
        thread::spawn(timer);
        let guard = self.wait(guard).unwrap_or_else(PoisonError::into_inner);
        over.store(true, Ordering::SeqCst);
        Ok((guard, WaitTimeoutResult { timed_out: late.load(Ordering::SeqCst) }))
    }
}

/// What the modules use of arc-swap: one atomic pointer. Arc-swap itself is not explored.
pub(crate) struct ArcSwap<T> {
    current: Mutex<Arc<T>>,
}

impl<T> ArcSwap<T> {
    pub(crate) fn new(first: Arc<T>) -> Self {
        Self { current: Mutex::new(first) }
    }

    pub(crate) fn swap(&self, next: Arc<T>) -> Arc<T> {
        std::mem::replace(&mut *self.lock(), next)
    }

    pub(crate) fn load(&self) -> Arc<T> {
        self.lock().clone()
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        self.load()
    }

    fn lock(&self) -> MutexGuard<'_, Arc<T>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
