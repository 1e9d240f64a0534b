//! Owns the synchronisation types of the modules that are compiled a second time. They find it as
//! `super::sync`.

use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;

use shuttle::sync::atomic::{AtomicBool, Ordering};

/// Shuttle's, at whose end another thread may run, too.
pub(super) struct Mutex<T> {
    mutex: shuttle::sync::Mutex<T>,
}

pub(super) struct MutexGuard<'a, T> {
    guard: Option<shuttle::sync::MutexGuard<'a, T>>,
}

/// As `crate::mutex::lock`.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    let guard = mutex.mutex.lock().unwrap_or_else(PoisonError::into_inner);
    MutexGuard { guard: Some(guard) }
}

impl<T> Mutex<T> {
    pub(super) fn new(content: T) -> Self {
        Self { mutex: shuttle::sync::Mutex::new(content) }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

const HELD: &str = "the guard holds the lock until it is dropped";

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect(HELD)
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect(HELD)
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.guard = None;
        if !std::thread::panicking() {
            // Shuttle may go on with another thread at any access of an atomic.
            AtomicBool::new(false).load(Ordering::SeqCst);
        }
    }
}
