//! Which shapes can be read as which.

use super::*;

fn difference(stored: &str, present: &str) -> Option<String> {
    let parse = |text: &str| parse(&format!("1{text}")).unwrap();
    compare(&parse(stored), &parse(present)).err()
}

#[test]
fn what_is_equal_on_disk_is_equal() {
    for (stored, present) in [
        ("us(u)", "us(u)"),
        ("s", "y"),
        ("[1]", "s"),
        ("y", "[1]"),
        ("{us}", "[us]"),
        ("(u)", "<|u>"),
        ("(u)", "<|u|s>"),
        ("<|u>", "(u)"),
        ("<u|s>", "<u|s|>"),
        ("<u|s>", "<u|s|<|>>"),
        ("[<u>]u", "[<u|1>]u"),
        ("<u|s>", "<u>"),
        ("<|u|>", "(u)"),
    ] {
        assert_eq!(difference(stored, present), None, "{stored} {present}");
    }
}

#[test]
fn what_is_written_in_another_way_differs() {
    for (stored, present) in [
        ("u", ""),
        ("", "u"),
        ("u", "i"),
        ("u", "1"),
        ("1", "-"),
        ("1", "t"),
        ("f", "d"),
        ("s", "c"),
        ("u", "(u)"),
        ("u", "[u]"),
        ("us", "su"),
        ("us", "usu"),
        ("[u]", "[uu]"),
        ("{us}", "{ss}"),
        ("[-]", "s"),
        ("[[us]]", "{us}"),
        ("<u|s>", "<s|u>"),
        ("<u|s>", "<u||s>"),
        ("<u|s>", "<u|(s)>"),
        ("u*", "s*"),
        ("*u", "*s"),
        ("u*s", "uu*1"),
        ("u", "u*u"),
        ("", "*u"),
    ] {
        assert!(difference(stored, present).is_some(), "{stored} {present}");
    }
}

#[test]
fn what_is_unknown_is_equal_to_all() {
    for (stored, present) in [
        ("*", ""),
        ("*", "us"),
        ("us", "*"),
        ("u*", "us"),
        ("us", "us*"),
        ("u*s", "u*1s"),
        ("u*s", "us"),
        ("*u", "1*"),
        ("<u|*>", "<u|s>"),
        ("<u|s>", "<u~>"),
        ("<u~>", "<u|s>"),
        ("[*]u", "[us]u"),
    ] {
        assert_eq!(difference(stored, present), None, "{stored} {present}");
    }
}

#[test]
fn a_difference_names_its_place() {
    #[derive(Deserialize)]
    struct Shop {
        _name: String,
        _stock: BTreeMap<u32, (Newtype, Status)>,
    }
    let reason = |stored: &str| Shape::of(&trace::<Shop>()).difference_to(stored).unwrap();
    assert_eq!(
        reason("1c{uus(s)<|ut|us(s)|<s||1>>}"),
        "the file has a char where this program has a string, at `_name`"
    );
    assert_eq!(
        reason("1s{uus(u)<|ut|us(s)|<s||1>>}"),
        "the file has an unsigned integer (u16 to u128) where this program has a string, at \
         value 1 of `Some` of `0.note` of each entry of `_stock`"
    );
    assert_eq!(
        reason("1s{uus(s)<|ut|us(s)|<s|f|1>>}"),
        "the file has an f32 where this program has no further value, at value 1 of `Second` \
         of value 1 of variant 4 of `1` of each entry of `_stock`"
    );
    assert_eq!(
        reason("1s"),
        "the file has no further value where this program has a map, at `_stock`"
    );
}
