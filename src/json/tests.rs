//! Tests that a value that JSON cannot represent is refused with the path to it, however it is
//! wrapped, and that any other value is written.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::{SerializeMap as _, SerializeSeq as _, SerializeStruct as _, Serializer};

use super::{DEEPEST_LEVEL, text};

#[derive(Clone, Default, Serialize)]
struct Rates {
    by_currency: BTreeMap<String, Vec<Kind>>,
    newest: Option<(u8, f32)>,
}

#[derive(Clone, Serialize)]
enum Kind {
    Fixed(f64),
    Range { from: f64, to: f64 },
    Pair(f64, f64),
    None,
}

fn rates(kind: Kind) -> Rates {
    let by_currency = BTreeMap::from([("EUR".to_owned(), vec![Kind::None, kind])]);
    Rates { by_currency, ..Rates::default() }
}

#[test]
fn numbers_that_json_does_not_have_are_refused_wherever_they_are() {
    let wrong = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    for number in wrong {
        let refused = [
            (rates(Kind::Fixed(number)), r#"`by_currency["EUR"][1].Fixed`"#),
            (rates(Kind::Range { from: number, to: 1. }), r#"`by_currency["EUR"][1].from`"#),
            (rates(Kind::Pair(0., number)), r#"`by_currency["EUR"][1][1]`"#),
            (Rates { newest: Some((7, number as f32)), ..rates(Kind::None) }, "`newest[1]`"),
        ];
        for (rates, place) in refused {
            let said = text(&rates).unwrap_err();
            assert!(said.contains(&format!("at {place}: the number is {number}")), "{said}");
            assert!(said.contains("neither NaN nor infinity"), "{said}");
        }
        let said = text(&number).unwrap_err();
        assert!(said.starts_with("the number is"), "there is no way to it: {said}");
    }
    let mut finite = rates(Kind::Range { from: f64::MIN, to: f64::MIN_POSITIVE });
    finite.newest = Some((1, -0.0));
    assert_eq!(text(&finite).unwrap(), serde_json::to_string(&finite).unwrap());
}

/// A map whose `Serialize` writes key and value separately. The key is a number.
struct InParts(f64, f64);

impl Serialize for InParts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(&1, &1)?;
        map.serialize_key(&self.0)?;
        map.serialize_value(&self.1)?;
        map.end()
    }
}

#[test]
fn keys_are_looked_at_too() {
    let said = text(&InParts(f64::NAN, 1.)).unwrap_err();
    assert!(said.contains("`[the key of entry 1]`"), "{said}");
    let said = text(&InParts(1., f64::NAN)).unwrap_err();
    assert!(said.contains("`[1]`"), "{said}");
    assert_eq!(text(&InParts(1.5, 2.)).unwrap(), r#"{"1":1,"1.5":2.0}"#);
    let said = text(&BTreeMap::from([([1, 2], 3)])).unwrap_err();
    assert!(said.contains("key must be a string"), "{said}");
}

#[test]
fn long_ways_and_keys_are_told_in_part() {
    let long = BTreeMap::from([("x".repeat(1000), f64::NAN)]);
    let said = text(&long).unwrap_err();
    assert!(said.contains("xxx…]`") && said.len() < 300, "{said}");
    let said = text(&Deep { levels: DEEPEST_LEVEL, shape: Shape::Seq, end: f64::NAN }).unwrap_err();
    assert!(said.contains("[0][0]…`") && said.contains("NaN") && said.len() < 400, "{said}");
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Some,
    Newtype,
    Variant,
    Seq,
    Map,
    Key,
    Struct,
    /// Serializes in the way that serde derives from `#[serde(tag = "t")]`.
    Tagged,
}

/// Values nested to the given depth, which take no memory.
#[derive(Clone, Copy)]
struct Deep {
    levels: usize,
    shape: Shape,
    end: f64,
}

#[derive(Serialize)]
#[serde(tag = "t")]
enum Tagged {
    One { inner: Deep },
}

impl Serialize for Deep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(levels) = self.levels.checked_sub(1) else {
            return serializer.serialize_f64(self.end);
        };
        let inner = Self { levels, ..*self };
        match self.shape {
            Shape::Some => serializer.serialize_some(&inner),
            Shape::Newtype => serializer.serialize_newtype_struct("N", &inner),
            Shape::Variant => serializer.serialize_newtype_variant("E", 0, "V", &inner),
            Shape::Seq => {
                let mut seq = serializer.serialize_seq(Some(1))?;
                seq.serialize_element(&inner)?;
                seq.end()
            }
            Shape::Map => serializer.collect_map([("k", inner)]),
            Shape::Key => serializer.collect_map([(inner, 1)]),
            Shape::Struct => {
                let mut fields = serializer.serialize_struct("S", 1)?;
                fields.serialize_field("f", &inner)?;
                fields.end()
            }
            Shape::Tagged => Tagged::One { inner }.serialize(serializer),
        }
    }
}

const SHAPES: [Shape; 8] = [
    Shape::Some,
    Shape::Newtype,
    Shape::Variant,
    Shape::Seq,
    Shape::Map,
    Shape::Key,
    Shape::Struct,
    Shape::Tagged,
];

/// Runs on a thread with the default stack of std. An overflow would end the process.
#[test]
fn what_is_too_deep_is_refused_before_the_stack_is_used_up() {
    let small = std::thread::Builder::new().stack_size(2 << 20);
    let all = small.spawn(|| {
        for shape in SHAPES {
            for levels in [DEEPEST_LEVEL + 1, 1_000_000] {
                let said = text(&Deep { levels, shape, end: 1. }).unwrap_err();
                assert!(said.contains("levels deep"), "{shape:?}: {said}");
            }
            let deepest = text(&Deep { levels: DEEPEST_LEVEL, shape, end: 1. });
            // A key that is no text is refused for that.
            assert!(deepest.is_ok() || matches!(shape, Shape::Key), "{shape:?}: {deepest:?}");
        }
    });
    all.unwrap().join().unwrap();
}
