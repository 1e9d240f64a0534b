//! Owns the text of a reason, which is bounded: how a rejection is shown is a user's code.

use std::fmt::{self, Display, Write};

/// The most bytes of a reason. A longer one is cut.
pub(crate) const MOST_REASON_BYTES: usize = 1024;
const CUT: char = '…';

/// Text that takes no more than its bound while it is written.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left = MOST_REASON_BYTES - CUT.len_utf8() - self.0.len();
        if text.len() <= left {
            self.0.push_str(text);
            return Ok(());
        }
        let end = (0..=left).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
        self.0.push_str(text.get(..end).unwrap_or_default());
        Err(fmt::Error) // so that whoever writes stops
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
