//! Owns the compiler's messages about lines of [`commands!`](crate::commands!) that conflict. Runs
//! in the compiler, so it uses loops instead of iterators, and does not allocate.

use super::super::events::EVENTS_TAG;
use super::{REDACTED_TAG, same_name};

/// The most bytes of one line that a message shows.
const LONGEST_TOLD_BYTES: usize = 200;

/// The most bytes of a message: the two lines, what they share, and what to do about it.
const LONGEST_MESSAGE_BYTES: usize = 1024;

/// One line of the vocabulary.
#[derive(Clone, Copy)]
pub struct Line {
    /// The command's tag.
    pub tag: u16,
    /// The command's name in new segments.
    pub name: &'static str,
    /// The source text of the line.
    pub text: &'static str,
}

impl Line {
    /// Any line; see [`join`](super::join).
    pub const FILLER: Self = Self { tag: 0, name: "", text: "" };
}

/// Stops compilation if two lines of [`commands!`](crate::commands!) share a tag or a name.
#[expect(clippy::indexing_slicing, reason = "runs in the compiler, where iterators cannot")]
#[expect(clippy::panic, reason = "a panic is the way in which a constant refuses to compile")]
pub const fn assert_lines_differ(lines: &[Line]) {
    let mut later = 0;
    while later < lines.len() {
        if lines[later].tag == REDACTED_TAG {
            panic!("{}", reserved(&lines[later]).text());
        }
        if lines[later].tag == EVENTS_TAG {
            panic!("{}", of_events(&lines[later]).text());
        }
        let mut earlier = 0;
        while earlier < later {
            if lines[earlier].tag == lines[later].tag {
                panic!("{}", shared_tag(&lines[earlier], &lines[later]).text());
            }
            if same_name(lines[earlier].name, lines[later].name) {
                panic!("{}", shared_name(&lines[earlier], &lines[later]).text());
            }
            earlier += 1;
        }
        later += 1;
    }
}

const fn reserved(line: &Line) -> Message {
    Message::new("commands!: tag 65535 is reserved for commands that were erased; use another in ")
        .told(line.text)
}

const fn of_events(line: &Line) -> Message {
    Message::new("commands!: tag 65534 is reserved for events; use another in ").told(line.text)
}

const fn shared_tag(earlier: &Line, later: &Line) -> Message {
    Message::new("commands!: two commands share one tag, ")
        .number(later.tag)
        .and(": ")
        .told(earlier.text)
        .and(" and ")
        .told(later.text)
        .and("; give each a tag of its own, for ever")
}

const fn shared_name(earlier: &Line, later: &Line) -> Message {
    Message::new("commands!: two commands share one name in the journal, ")
        .told(later.name)
        .and(": ")
        .told(earlier.text)
        .and(" and ")
        .told(later.text)
        .and("; a mix-up of their tags would go unnoticed, so give one of them another name: ")
        .told("tag => Type = \"Name\"")
}

/// A text that is built in the compiler.
struct Message {
    bytes: [u8; LONGEST_MESSAGE_BYTES],
    length: usize,
}

impl Message {
    const fn new(text: &str) -> Self {
        Self { bytes: [0; LONGEST_MESSAGE_BYTES], length: 0 }.and(text)
    }

    /// Appends at most `most` bytes of a text, as far as the message has room. Marks the place if
    /// the text is cut.
    const fn cut(self, text: &str, most: usize) -> Self {
        const CUT: &str = "… (cut)";
        let room = LONGEST_MESSAGE_BYTES - self.length;
        let most = if most < room { most } else { room };
        if text.len() <= most {
            return self.append(text, text.len());
        }
        // The mark itself needs room, or the message ends here.
        let mut end = most.saturating_sub(CUT.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let cut = self.append(text, end);
        if LONGEST_MESSAGE_BYTES - cut.length < CUT.len() {
            return cut;
        }
        cut.append(CUT, CUT.len())
    }

    #[expect(clippy::indexing_slicing, reason = "runs in the compiler, where iterators cannot")]
    const fn append(mut self, text: &str, end: usize) -> Self {
        let mut at = 0;
        while at < end {
            self.bytes[self.length] = text.as_bytes()[at];
            self.length += 1;
            at += 1;
        }
        self
    }

    const fn and(self, text: &str) -> Self {
        self.cut(text, LONGEST_MESSAGE_BYTES)
    }

    /// Appends a piece of source text in backquotes.
    const fn told(self, source: &str) -> Self {
        self.and("`").cut(source, LONGEST_TOLD_BYTES).and("`")
    }

    const fn number(self, number: u16) -> Self {
        let digits = "0123456789";
        let mut power = 10_000;
        let mut message = self;
        while power > 0 {
            if number >= power || power == 1 {
                let digit = (number / power % 10) as usize;
                message = message.append(digits.split_at(digit).1, 1);
            }
            power /= 10;
        }
        message
    }

    const fn text(&self) -> &str {
        match core::str::from_utf8(self.bytes.split_at(self.length).0) {
            Ok(text) => text,
            Err(_) => "commands!: two lines share a tag or a name",
        }
    }
}

#[cfg(test)]
#[path = "tests/conflicts.rs"]
mod tests;
