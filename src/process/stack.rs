//! Owns threads whose stack has a known size, and the bound on how much of a stack encoding and
//! decoding may use. Knows nothing of what runs there.
//!
//! serde recurses once for each level of a nested value and has no bound. A stack overflow ends the
//! process. If a stored value causes it, that happens again at every start. So each encoding and
//! each decoding gets a *floor*, an address below which the stack must not grow. At every primitive
//! value, the encoder or decoder compares the floor with the address of a local variable. This is
//! much cheaper than counting levels, and it measures the stack itself.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

use crossbeam_channel::bounded;

/// The stack of every thread that encodes, decodes, applies or frees a user's values. It is address
/// space: only pages that were touched take memory.
const STACK_BYTES: usize = 32 << 20;

/// How much of such a stack decoding leaves free: for the frames of one level, for the system, and
/// for functions that are called from there.
const LEFT_BYTES: usize = 4 << 20;

/// How much of such a stack encoding may use. Decoding takes more for each level, several times as
/// much in a debug build, and every encoded value must be decodable.
const ENCODING_BYTES: usize = 1 << 20;

/// How much encoding and decoding may use of a stack whose size is not known.
const UNKNOWN_BYTES: usize = 256 << 10;

thread_local! {
    /// The lowest address to which this thread's stack may be used; `None` if its size is not
    /// known.
    static FLOOR: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The lowest address to which a stack may grow.
#[derive(Clone, Copy)]
pub(crate) struct Floor(usize);

impl Floor {
    /// Computes the floor for an encoding that begins here.
    pub(crate) fn of_encoding() -> Self {
        let bytes = if is_known() { ENCODING_BYTES } else { UNKNOWN_BYTES };
        Self::below(bytes)
    }

    /// Computes the floor for a decoding that begins here.
    pub(crate) fn of_decoding() -> Self {
        FLOOR.get().map_or_else(|| Self::below(UNKNOWN_BYTES), Self)
    }

    fn below(bytes: usize) -> Self {
        Self(here().saturating_sub(bytes))
    }

    /// Whether the stack has grown down to the floor.
    #[inline(always)]
    pub(crate) fn is_reached(self) -> bool {
        here() < self.0
    }
}

/// Returns roughly the address where the stack ends at present.
#[inline(always)]
fn here() -> usize {
    // With a fuzzer's sanitizer, local variables may be on the heap.
    if cfg!(any(fuzzing, miri)) {
        return usize::MAX;
    }
    let local = MaybeUninit::<u8>::uninit();
    std::ptr::from_ref(&local).addr()
}

/// Whether the calling thread's stack has a known size.
#[inline]
pub(crate) fn is_known() -> bool {
    FLOOR.get().is_some()
}

/// Starts a thread whose stack has a known size.
pub(crate) fn spawn<R: Send + 'static>(
    name: String,
    body: impl FnOnce() -> R + Send + 'static,
) -> io::Result<JoinHandle<R>> {
    builder(name).spawn(|| noted(body))
}

/// Starts such a thread for the time of `scope`.
pub(crate) fn spawn_scoped<'scope, R: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    body: impl FnOnce() -> R + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, R>> {
    builder("prevalence-reader".to_owned()).spawn_scoped(scope, || noted(body))
}

fn builder(name: String) -> Builder {
    Builder::new().name(name).stack_size(STACK_BYTES)
}

/// Runs the body of a thread that [`builder`] made, and notes the thread's floor before.
fn noted<R>(body: impl FnOnce() -> R) -> R {
    FLOOR.set(Some(here().saturating_sub(STACK_BYTES - LEFT_BYTES)));
    body()
}

/// Runs `body` on a stack of known size: on this thread if it has one, else on a new thread.
/// Returns when `body` has ended.
///
/// # Panics
/// If `body` panics.
pub(crate) fn run<R: Send>(body: impl FnOnce() -> R + Send) -> io::Result<R> {
    run_telling(|_: &dyn Fn(())| body(), |()| {})
}

/// Does the same as [`run`]. Meanwhile `body` can send values, which `told` gets on the calling
/// thread.
///
/// # Panics
/// If `body` or `told` panics.
pub(crate) fn run_telling<T: Send, R: Send>(
    body: impl FnOnce(&dyn Fn(T)) -> R + Send,
    told: impl FnMut(T),
) -> io::Result<R> {
    if is_known() {
        let told = std::cell::RefCell::new(told);
        return Ok(body(&|telling| (told.borrow_mut())(telling)));
    }
    std::thread::scope(|scope| {
        let (outbox, inbox) = bounded(0);
        let thread = spawn_scoped(scope, move || {
            // If `told` has panicked, nobody receives any more; `body` still runs to its end.
            body(&|telling| drop(outbox.send(telling)))
        })?;
        inbox.into_iter().for_each(told);
        match thread.join() {
            Ok(result) => Ok(result),
            Err(panic) => resume_unwind(panic),
        }
    })
}

/// Runs `attempt` on this thread. If it fails, a value may be nested too deep for this thread's
/// stack, so `attempt` runs again on a stack of known size.
#[inline]
pub(crate) fn try_here_first<R: Send, E: Send>(
    attempt: impl Fn() -> Result<R, E> + Sync,
) -> Result<R, E> {
    attempt()
        .or_else(|error| if is_known() { Err(error) } else { run(&attempt).unwrap_or(Err(error)) })
}

/// A value that is freed on a stack of known size, because freeing a nested value recurses too.
pub(crate) struct FreedDeep<T: Send + Sync + 'static>(Option<Arc<T>>);

impl<T: Send + Sync + 'static> FreedDeep<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self(Some(value))
    }
}

impl<T: Send + Sync + 'static> Deref for FreedDeep<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        self.0.as_ref().expect("taken only when this is dropped")
    }
}

impl<T: Send + Sync + 'static> Drop for FreedDeep<T> {
    fn drop(&mut self) {
        let Some(value) = self.0.take().filter(|value| Arc::strong_count(value) == 1) else {
            return;
        };
        if is_known() {
            return drop(value);
        }
        // If no thread can be started, the value is freed here. A panic of a user's `Drop` does not
        // leave the new thread, because this thread may be unwinding already.
        if let Ok(thread) = spawn("prevalence-freer".to_owned(), move || drop(value)) {
            thread.join().ok();
        }
    }
}

#[cfg(test)]
#[path = "tests/stack.rs"]
mod tests;
