//! Owns panics in a user's code: they are caught, and their message is kept. Knows nothing of that
//! code.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Returns the message of a panic, if it is text, and frees what it was raised with.
pub(crate) fn panic_message(panic: Box<dyn Any + Send>) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    free(panic);
    message
}

/// Runs a user's code; `None` if it panics. The panic hook has told its owner.
pub(crate) fn unless_it_panics<R>(run: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(run)).map_err(free).ok()
}

/// Frees what a panic was raised with. It is a user's value, and its `Drop` may panic, too: then
/// what the second panic was raised with is never freed.
fn free(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}

/// Runs a user's code. A panic there becomes the reason of an error.
pub(crate) fn told_of_panics<R>(whose: &str, run: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(run))
        .map_err(|panic| format!("its {whose} panicked: {}", panic_message(panic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("again"));
        }
    }

    #[test]
    fn what_a_panic_was_raised_with_may_panic_when_it_is_freed() {
        let raise = || -> () { std::panic::resume_unwind(Box::new(Bomb)) };
        assert_eq!(unless_it_panics(raise), None);
        assert!(told_of_panics("code", raise).unwrap_err().contains("without a message"));
        assert_eq!(unless_it_panics(|| 5), Some(5));
    }
}
