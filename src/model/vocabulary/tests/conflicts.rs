//! Lines of a vocabulary that share a tag or a name.

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
#[should_panic(expected = "tag 65535 is reserved for commands that were erased; use another in \
                           `65535 => A`")]
fn the_tag_of_erased_commands_is_taken() {
    assert_lines_differ(&[line(65_535, "A", "65535 => A")]);
}

#[test]
#[should_panic(expected = "tag 65534 is reserved for events; use another in `65534 => A`")]
fn the_tag_of_events_is_taken() {
    assert_lines_differ(&[line(65_534, "A", "65534 => A")]);
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
