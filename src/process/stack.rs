//! Owns threads whose stack is of known size, and the bound on how much of a stack encoding and
//! decoding may use. Knows nothing of what runs there.
//!
//! serde recurses once for each level of a nested value and knows no bound. Overflowing a stack ends
//! the process, at every start anew if it is a stored value that does it. So each encoding and each
//! decoding gets a *floor*, an address that the stack may not grow down to, and compares it with
//! that of a local at every primitive: much cheaper than counting levels, and it measures what
//! matters.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

use crossbeam_channel::bounded;

/// The stack of every thread that encodes, decodes, applies or frees what is a user's. It is address
/// space: memory is taken only for what was ever touched.
const STACK_BYTES: usize = 32 << 20;

/// What decoding leaves of such a stack: for the frames of one level, for what the system keeps
/// there, and for what runs beneath.
const LEFT_BYTES: usize = 4 << 20;

/// What encoding may use of such a stack. Decoding takes more for each level, several times as much
/// in a debug build, and what was encoded must be decodable.
const ENCODING_BYTES: usize = 1 << 20;

/// What either may use of a stack of which nothing is known.
const UNKNOWN_BYTES: usize = 256 << 10;

thread_local! {
    /// How far down this thread's stack may be used; `None` where its size is not known.
    static FLOOR: Cell<Option<usize>> = const { Cell::new(None) };
}

/// How far down a stack may grow.
#[derive(Clone, Copy)]
pub(crate) struct Floor(usize);

impl Floor {
    /// For an encoding that begins here.
    pub(crate) fn of_encoding() -> Self {
        let bytes = if is_known() { ENCODING_BYTES } else { UNKNOWN_BYTES };
        Self::below(bytes)
    }

    /// For a decoding that begins here.
    pub(crate) fn of_decoding() -> Self {
        FLOOR.get().map_or_else(|| Self::below(UNKNOWN_BYTES), Self)
    }

    fn below(bytes: usize) -> Self {
        Self(here().saturating_sub(bytes))
    }

    /// Whether the stack has grown down to here.
    #[inline(always)]
    pub(crate) fn is_reached(self) -> bool {
        here() < self.0
    }
}

/// Roughly where the stack ends at present.
#[inline(always)]
fn here() -> usize {
    // Under a fuzzer's sanitizer, locals may stand on the heap.
    if cfg!(any(fuzzing, miri)) {
        return usize::MAX;
    }
    let local = MaybeUninit::<u8>::uninit();
    std::ptr::from_ref(&local).addr()
}

/// Whether the calling thread's stack is of known size.
pub(crate) fn is_known() -> bool {
    FLOOR.get().is_some()
}

/// Starts a thread whose stack is of known size.
pub(crate) fn spawn<R: Send + 'static>(
    name: String,
    body: impl FnOnce() -> R + Send + 'static,
) -> io::Result<JoinHandle<R>> {
    builder(name).spawn(|| noted(body))
}

fn spawn_scoped<'scope, R: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    body: impl FnOnce() -> R + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, R>> {
    builder("prevalence-reader".to_owned()).spawn_scoped(scope, || noted(body))
}

fn builder(name: String) -> Builder {
    Builder::new().name(name).stack_size(STACK_BYTES)
}

/// Runs the body of a thread that [`builder`] made.
fn noted<R>(body: impl FnOnce() -> R) -> R {
    FLOOR.set(Some(here().saturating_sub(STACK_BYTES - LEFT_BYTES)));
    body()
}

/// Runs `body` where the stack is of known size: here, or on a thread of its own for which the
/// caller waits.
///
/// # Panics
/// As `body` does.
pub(crate) fn run<R: Send>(body: impl FnOnce() -> R + Send) -> io::Result<R> {
    run_telling(|_: &dyn Fn(())| body(), |()| {})
}

/// As [`run`]. What `body` tells meanwhile is given to `told` on the calling thread.
///
/// # Panics
/// As either does.
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
            // Should nobody listen any more, the body still comes to its own end.
            body(&|telling| drop(outbox.send(telling)))
        })?;
        inbox.into_iter().for_each(told);
        match thread.join() {
            Ok(result) => Ok(result),
            Err(panic) => resume_unwind(panic),
        }
    })
}

/// Runs `attempt` here, and once more where the stack is of known size should it fail: the reason may
/// be that a value is nested too deep for this one.
pub(crate) fn try_here_first<R: Send, E: Send>(
    attempt: impl Fn() -> Result<R, E> + Sync,
) -> Result<R, E> {
    attempt()
        .or_else(|error| if is_known() { Err(error) } else { run(&attempt).unwrap_or(Err(error)) })
}

/// What is freed where the stack is of known size, since freeing recurses, too.
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
        // Where no thread can be had, it is freed here. A panic of a user's `Drop` ends there: this
        // thread may be unwinding already.
        if let Ok(thread) = spawn("prevalence-freer".to_owned(), move || drop(value)) {
            thread.join().ok();
        }
    }
}

#[cfg(test)]
#[path = "tests/stack.rs"]
mod tests;
