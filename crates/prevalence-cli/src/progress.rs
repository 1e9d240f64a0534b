//! Owns the bar that says how far a long command is. It is on the standard error, and only if that
//! is a terminal. Knows nothing of what is done.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the bar is drawn at most, each second.
const DRAWN_PER_SECOND: u8 = 10;

/// Makes a bar for so many bytes.
pub fn bar(total_bytes: u64) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(DRAWN_PER_SECOND);
    let bar = ProgressBar::with_draw_target(Some(total_bytes), target);
    let template = "{bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style); // a bar of another style is good enough
    }
    bar
}
