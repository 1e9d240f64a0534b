//! Owns taking a mutex whose holder may have panicked. Knows nothing of what it guards.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes the mutex, also after a thread panicked while it held it. What this crate guards is whole
/// between any two statements, and a panic of the engine poisons the database by other means.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
