//! Owns the text of a reason, which is bounded: how a rejection is shown is a user's code.

use std::fmt::{self, Display, Write};

/// The most bytes of a reason. A longer one is cut.
pub(crate) const MOST_REASON_BYTES: usize = 1024;
const CUT: char = '…';

/// Returns as much of a text as its first bytes hold, up to so many.
pub(crate) fn beginning(text: &str, most_bytes: usize) -> &str {
    let most_bytes = most_bytes.min(text.len());
    let end = (0..=most_bytes).rev().find(|&end| text.is_char_boundary(end));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

/// Text that takes no more than its bound while it is written.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left = MOST_REASON_BYTES - CUT.len_utf8() - self.0.len();
        self.0.push_str(beginning(text, left));
        // An error, so that whoever writes stops.
        if text.len() <= left { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Returns how a value is shown, cut if that is long.
pub(crate) fn reason_of(shown: &impl Display) -> String {
    let mut bounded = Bounded(String::new());
    let is_whole = write!(bounded, "{shown}").is_ok();
    let Bounded(mut reason) = bounded;
    if !is_whole {
        reason.push(CUT);
    }
    reason.shrink_to_fit();
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Endless;

    impl Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            loop {
                f.write_str("ab…")?;
            }
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters_while_it_is_written() {
        let reason = reason_of(&Endless);
        assert!(reason.len() <= MOST_REASON_BYTES && reason.len() > MOST_REASON_BYTES - 6);
        assert!(reason.ends_with('…') && reason.starts_with("ab…ab"));
        let whole = "x".repeat(MOST_REASON_BYTES - CUT.len_utf8());
        assert_eq!(reason_of(&whole), whole);
        assert!(reason_of(&format!("{whole}x")).ends_with("x…"));
        assert_eq!(reason_of(&"short"), "short");
    }
}
