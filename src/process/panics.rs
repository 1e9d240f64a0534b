//! Owns the message of a panic in a user's code. Knows nothing of that code.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Returns the message of a panic, if it is text.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

/// Runs a user's code. A panic there becomes the reason of an error.
pub(crate) fn told_of_panics<R>(whose: &str, run: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(run))
        .map_err(|panic| format!("its {whose} panicked: {}", panic_message(&*panic)))
}
