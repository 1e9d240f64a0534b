//! Owns locking a mutex whose holder may have panicked. Knows nothing of what the mutex protects.

#[cfg(not(tsan))]
use std::sync::PoisonError;
use std::sync::{Mutex, MutexGuard, TryLockError};

/// Locks the mutex, even after a thread panicked while it held the lock. What this crate protects
/// with a mutex is consistent between any two statements, and a panic of the engine poisons the
/// database in another way.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    #[cfg(tsan)]
    return spin(mutex);
    #[cfg(not(tsan))]
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks the mutex as [`lock`] does, if no thread holds it.
pub(crate) fn try_lock<T: ?Sized>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Waits for the lock in a build with `--cfg tsan`. ThreadSanitizer sees only what is compiled with
/// it: this, but not the part of std's `lock` that waits.
#[cfg(tsan)]
fn spin<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    loop {
        if let Some(guard) = try_lock(mutex) {
            return guard;
        }
        std::thread::yield_now();
    }
}
