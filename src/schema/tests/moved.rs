//! Which names have changed places.

use crate::schema::{Schema, moved_name};

fn moved(stored: &str, present: &str) -> Option<String> {
    let schema = |text: &str| serde_json::from_str::<Schema>(text).unwrap();
    moved_name(&schema(stored), &schema(present))
}

/// A type with these fields, inside of what is around them.
fn fields(around: &str, names: &[&str]) -> String {
    let fields: Vec<_> = names.iter().map(|name| format!(r#"["{name}","u32"]"#)).collect();
    let fields = format!(r#"{{"struct":[{}]}}"#, fields.join(","));
    let types = match around {
        "" => format!(r#""types":[{fields}]"#),
        _ => format!(r#""types":[{},{fields}]"#, around.replace('#', "1")),
    };
    format!(r#"{{"root":0,{types}}}"#)
}

const AROUND: [&str; 8] = [
    "",
    r##"{"option":#}"##,
    r##"{"sequence":#}"##,
    r##"{"map":["u8",#]}"##,
    r##"{"tuple":["u8",#]}"##,
    r##"{"struct":[["x","u8"],["y",#]]}"##,
    r##"{"enum":{"variants":[["A","unit"],["B",{"newtype":#}]]}}"##,
    r##"{"enum":{"variants":[["A",{"struct":[["x",#]]}]],"more":true}}"##,
];

#[test]
fn a_name_in_another_place_is_found_wherever_it_is() {
    for around in AROUND {
        let difference = |stored: &[&str], present: &[&str]| {
            moved(&fields(around, stored), &fields(around, present))
        };
        for (stored, present) in
            [(["from", "to"], ["to", "from"]), (["a", "b"], ["b", "c"]), (["a", "b"], ["x", "a"])]
        {
            assert!(difference(&stored, &present).is_some(), "{around} {stored:?} {present:?}");
        }
        for (stored, present) in [
            (["from", "to"], ["from", "to"]),
            (["from", "to"], ["sender", "to"]),
            (["from", "to"], ["sender", "receiver"]),
            // Names that could not be seen.
            (["0", "1"], ["1", "0"]),
            (["0", "1"], ["from", "to"]),
        ] {
            assert_eq!(difference(&stored, &present), None, "{around} {stored:?} {present:?}");
        }
        // What is not aligned is not compared.
        assert_eq!(difference(&["a", "b"], &["b", "a", "c"]), None);
    }
    assert_eq!(
        moved(&fields("", &["from", "to"]), &fields("", &["to", "from"])).unwrap(),
        "`from` was field number 1 when it was stored, and is number 2 in this program"
    );
}

#[test]
fn variants_keep_their_numbers() {
    let variants = |names: &[&str]| {
        let all: Vec<_> = names.iter().map(|name| format!(r#"["{name}","unit"]"#)).collect();
        format!(r#"{{"root":0,"types":[{{"enum":{{"variants":[{}]}}}}]}}"#, all.join(","))
    };
    let difference =
        |stored: &[&str], present: &[&str]| moved(&variants(stored), &variants(present));
    assert_eq!(difference(&["Buy", "Sell"], &["Buy", "Sell", "Cancel"]), None);
    assert_eq!(difference(&["Buy", "Sell", "Cancel"], &["Buy", "Sell"]), None);
    assert_eq!(difference(&["Buy", "Sell"], &["Bid", "Ask"]), None);
    for (stored, present) in [
        (&["Buy", "Sell"][..], &["Sell", "Buy"][..]),
        (&["Buy", "Sell"], &["New", "Buy", "Sell"]),
        (&["Buy", "Sell"], &["Sell"]),
    ] {
        assert!(difference(stored, present).is_some(), "{stored:?} {present:?}");
    }
}

#[test]
fn a_type_that_contains_itself_is_compared_once() {
    let tree = |names: [&str; 2]| {
        let [a, b] = names;
        format!(
            r#"{{"root":0,"types":[{{"struct":[["{a}","u8"],["{b}","u8"],["inner",1]]}},{{"sequence":0}}]}}"#
        )
    };
    assert_eq!(moved(&tree(["a", "b"]), &tree(["a", "b"])), None);
    assert!(moved(&tree(["a", "b"]), &tree(["b", "a"])).is_some());
    // Numbers that lead nowhere.
    let wild = r#"{"root":7,"types":[]}"#;
    assert_eq!(moved(wild, wild), None);
}
