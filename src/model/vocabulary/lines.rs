//! Owns the compiler's messages about lines of [`commands!`](crate::commands!) that conflict. Runs
//! in the compiler, so it uses loops instead of iterators, and does not allocate.

use super::{REDACTED_TAG, same_name};

/// The most bytes of one line that a message shows.
const LONGEST_TOLD_BYTES: usize = 200;

/// The most bytes of a message: the two lines, what they share, and what to do about it.
const LONGEST_MESSAGE_BYTES: usize = 1024;

/// One line of the vocabulary.
pub struct Line {
    /// The command's tag.
    pub tag: u16,
    /// The command's name in new segments.
    pub name: &'static str,
    /// The source text of the line.
    pub text: &'static str,
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
mod tests {
    use super::*;

    const fn line(tag: u16, name: &'static str, text: &'static str) -> Line {
        Line { tag, name, text }
    }

    #[test]
    #[should_panic(expected = "share one tag, 2: `2 => B` and `2 => D`; give each")]
    fn shared_tags_are_noticed() {
        assert_lines_differ(&[
            line(1, "A", "1 => A"),
            line(2, "B", "2 => B"),
            line(3, "C", "3 => C"),
            line(2, "D", "2 => D"),
        ]);
    }

    #[test]
    #[should_panic(expected = "share one name in the journal, `debit :: Put`: \
                               `1 => credit::Put` and `2 => debit :: Put`; a mix-up")]
    fn shared_names_are_noticed_wherever_the_types_live() {
        assert_lines_differ(&[
            line(1, "credit::Put", "1 => credit::Put"),
            line(2, "debit :: Put", "2 => debit :: Put"),
        ]);
    }

    #[test]
    #[should_panic(
        expected = "tag 65535 is reserved for commands that were erased; use another in \
                               `65535 => A`"
    )]
    fn the_tag_of_erased_commands_is_taken() {
        assert_lines_differ(&[line(65_535, "A", "65535 => A")]);
    }

    #[test]
    fn numbers_are_told_as_they_are() {
        for number in [0, 1, 9, 10, 105, 9_999, 10_000, 65_534] {
            assert_eq!(Message::new("").number(number).text(), number.to_string());
        }
    }

    #[test]
    fn long_lines_are_cut_between_letters_and_that_is_told() {
        for length in 180..220 {
            let source = format!("1 => {}", "ü".repeat(length / 2));
            let message = Message::new("").told(&source);
            let told = message.text();
            assert!(told.len() <= LONGEST_TOLD_BYTES + 2, "{told}");
            assert_eq!(told == format!("`{source}`"), source.len() <= LONGEST_TOLD_BYTES);
            assert_eq!(told.ends_with("… (cut)`"), source.len() > LONGEST_TOLD_BYTES, "{told}");
        }
        let long: &str = "x".repeat(500).leak();
        let message = shared_name(&line(1, long, long), &line(2, long, long));
        assert!(message.text().ends_with("`tag => Type = \"Name\"`"), "{}", message.text());
        let full = "ü".repeat(600);
        let message = Message::new("a").and(&full).and("more").and("`");
        assert!(message.length <= LONGEST_MESSAGE_BYTES && message.text().contains("… (cut)"));
    }
}
