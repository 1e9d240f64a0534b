//! Owns the bar that says how far a long command is. It is on the standard error, and only if that
//! is a terminal. Knows nothing of what is done.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the bar is drawn at most, each second.
const DRAWN_PER_SECOND: u8 = 10;

/// Makes a bar for so many bytes.
fn bar(total_bytes: u64) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(DRAWN_PER_SECOND);
    let bar = ProgressBar::with_draw_target(Some(total_bytes), target);
    let template = "{bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style); // a bar of another style is good enough
    }
    bar
}

/// Calls `work` with a function that it tells how many bytes are done, and how many there are.
pub fn watched<R>(work: impl FnOnce(&mut dyn FnMut(u64, u64)) -> R) -> R {
    let mut shown = None;
    let result = work(&mut |done_bytes, total_bytes| {
        // A database that grows meanwhile has more than was seen first.
        let total_bytes = total_bytes.max(done_bytes);
        let bar = shown.get_or_insert_with(|| bar(total_bytes));
        bar.set_length(total_bytes);
        bar.set_position(done_bytes);
    });
    if let Some(bar) = shown {
        bar.finish_and_clear();
    }
    result
}
