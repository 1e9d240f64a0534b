//! A schema has all names, and makes of stored bytes the JSON that serde_json makes of the value.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::io::BufReader;

use proptest::prelude::*;
use serde::Serialize;

use super::*;
use crate::codec::encode_onto;
use crate::collections::{Map, Set, Vector};

fn json_of<T: DeserializeOwned + 'static>() -> String {
    serde_json::to_string(&Schema::of::<T>()).unwrap()
}

#[derive(Clone, Debug, Serialize, serde::Deserialize)]
struct Account {
    owner: String,
    cents: i64,
    #[serde(skip)]
    _cached: u8,
    #[serde(rename = "kind")]
    status: Status,
    nothing: (),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
enum Status {
    Open,
    Frozen(u32, char),
    Closed { by: Newtype, at: Option<u16> },
    Other(Newtype),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
struct Newtype(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
enum Currency {
    Euro,
    Yen,
}

#[test]
fn fields_variants_and_equal_types_have_their_names_once() {
    assert_eq!(json_of::<Newtype>(), r#"{"root":"u64","types":[]}"#);
    assert_eq!(json_of::<()>(), r#"{"root":"unit","types":[]}"#);
    assert_eq!(
        json_of::<Account>(),
        concat!(
            r#"{"root":0,"types":[{"struct":[["owner","string"],["cents","i64"],["kind",1],"#,
            r#"["nothing","unit"]]},{"enum":{"variants":[["Open","unit"],"#,
            r#"["Frozen",{"tuple":["u32","char"]}],["Closed",{"struct":[["by","u64"],["at",2]]}],"#,
            r#"["Other",{"newtype":"u64"}]]}},{"option":"u16"}]}"#
        )
    );
    assert_eq!(
        json_of::<(Vec<(u8, f32)>, Map<u32, Vec<(u8, f32)>>, [bool; 2])>(),
        concat!(
            r#"{"root":0,"types":[{"tuple":[1,3,4]},{"sequence":2},{"tuple":["u8","f32"]},"#,
            r#"{"map":["u32",1]},{"tuple":["bool","bool"]}]}"#
        )
    );
}

#[derive(Clone, Debug, Serialize, serde::Deserialize)]
enum Term {
    Sum(Box<Term>, Box<Term>),
    Call { name: String, arguments: Vec<Term> },
    Number(f64),
    Tree(Tree),
}

#[derive(Clone, Debug, Serialize, serde::Deserialize)]
struct Tree(Vec<Tree>);

#[test]
fn types_that_contain_themselves_have_a_schema() {
    assert_eq!(json_of::<Tree>(), r#"{"root":0,"types":[{"sequence":0}]}"#);
    assert_eq!(
        json_of::<Term>(),
        concat!(
            r#"{"root":0,"types":[{"enum":{"variants":[["Sum",{"tuple":[0,0]}],"#,
            r#"["Call",{"struct":[["name","string"],["arguments",1]]}],["Number",{"newtype":"f64"}],"#,
            r#"["Tree",{"newtype":2}]]}},{"sequence":0},{"sequence":2}]}"#
        )
    );
    let text = Schema::of::<Term>().to_string();
    assert!(text.starts_with("enum { Sum(…, …), Call { name: String, arguments: […] }"), "{text}");
}

fn check<T: Serialize + DeserializeOwned + Debug + 'static>(value: &T) {
    let mut bytes = Vec::new();
    encode_onto(value, &mut bytes, 1 << 30).unwrap();
    let schema = Schema::of::<T>();
    let expected = serde_json::to_string(value).unwrap();
    assert_eq!(schema.json(&bytes).unwrap(), expected, "{schema}");
    // Read in pieces of any size, and as another program reads the schema.
    let schema: Schema = serde_json::from_str(&serde_json::to_string(&schema).unwrap()).unwrap();
    for capacity in [1, 3, 1 << 16] {
        let mut json = Vec::new();
        schema.write_json(&mut BufReader::with_capacity(capacity, &bytes[..]), &mut json).unwrap();
        assert_eq!(String::from_utf8(json).unwrap(), expected);
    }
    // Bytes that are cut or changed are an error or another value, and never a panic.
    for cut in 0..bytes.len().min(64) {
        assert!(schema.json(&bytes[..cut]).is_err(), "{schema}");
        let mut wrong = bytes.clone();
        wrong[cut] ^= 0xff;
        schema.json(&wrong).ok();
    }
}

#[test]
fn stored_values_become_the_json_of_serde() {
    let statuses = [
        Status::Open,
        Status::Frozen(70_000, 'ß'),
        Status::Closed { by: Newtype(u64::MAX), at: Some(251) },
        Status::Closed { by: Newtype(250), at: None },
        Status::Other(Newtype(0)),
    ];
    for status in statuses {
        check(&Account {
            owner: "Ann \"the\" \u{1F600}\n".to_owned(),
            cents: i64::MIN,
            _cached: 0,
            status,
            nothing: (),
        });
    }
    check(&(u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX, i8::MIN, i16::MIN, i32::MIN));
    check(&(i64::MIN, i128::MIN, i128::MAX, true, 'a', '\u{10FFFF}', 0.1_f32, 1e300_f64));
    check(&Term::Call {
        name: String::new(),
        arguments: vec![
            Term::Number(-0.5),
            Term::Sum(Box::new(Term::Number(1.0)), Box::new(Term::Tree(Tree(vec![Tree(vec![])])))),
        ],
    });
    check(&(Some(Some(7_u8)), None::<u8>, Vec::<u8>::new(), [(); 2], "x".repeat(200_000)));
    check(&BTreeMap::from([(Currency::Euro, 1_u8), (Currency::Yen, 2)]));
    check(&BTreeMap::from([('ä', BTreeMap::from([(true, -1_i8)]))]));
    check(&HashMap::<u64, String>::from([(u64::MAX, "largest".to_owned())]));
    let map: Map<u32, Vector<String>> = (0..500).map(|key| (key, Vector::new())).collect();
    check(&(map, (0..100).collect::<Set<i32>>()));
}

#[derive(Debug, Serialize, serde::Deserialize)]
struct Empty {}

#[derive(Debug, Serialize, serde::Deserialize)]
struct AllSkipped {
    #[serde(skip)]
    _cached: u8,
}

#[derive(Debug, Serialize, serde::Deserialize)]
struct NoValues();

#[derive(Debug, Serialize, serde::Deserialize)]
enum Hollow {
    Struct {},
    Tuple(),
    Unit,
}

#[test]
fn what_has_no_fields_is_still_a_struct() {
    check(&(Empty {}, AllSkipped { _cached: 0 }, NoValues(), 7_u8));
    check(&vec![Hollow::Struct {}, Hollow::Tuple(), Hollow::Unit]);
}

proptest! {
    #[test]
    fn any_value_becomes_the_json_of_serde(
        entries in proptest::collection::btree_map(
            any::<i32>(),
            proptest::collection::vec(any::<Option<(String, char)>>(), 0..3),
            0..4,
        ),
        rest in any::<(u64, Result<i128, String>)>(),
    ) {
        check(&(entries, rest));
    }
}

#[test]
fn what_json_has_no_form_for_gets_another_one() {
    let json = |bytes: &[u8], schema: Schema| schema.json(bytes).unwrap();
    let mut bytes = Vec::new();
    let value = (f64::NAN, f32::INFINITY, BTreeMap::from([((1_u8, true), 7_u8)]));
    encode_onto(&value, &mut bytes, 100).unwrap();
    let schema = Schema::of::<(f64, f32, BTreeMap<(u8, bool), u8>)>();
    assert_eq!(json(&bytes, schema), r#"["NaN","Infinity",[[[1,true],7]]]"#);
}

/// Accepts only some texts, as a checked name does.
#[derive(Debug, Serialize)]
struct Name(String);

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_name = text.starts_with("name:");
        is_name.then_some(Self(text)).ok_or_else(|| serde::de::Error::custom("no name"))
    }
}

#[derive(Debug, Serialize, serde::Deserialize)]
struct NameLast {
    number: u32,
    name: Name,
}

#[derive(Debug, Serialize, serde::Deserialize)]
struct NameFirst {
    name: Name,
    number: u32,
}

#[test]
fn what_was_not_seen_is_opaque_and_says_why() {
    let mut bytes = Vec::new();
    let value = NameLast { number: 7, name: Name("name:ann".to_owned()) };
    encode_onto(&value, &mut bytes, 100).unwrap();
    let last = Schema::of::<NameLast>();
    assert_eq!(last.json(&bytes).unwrap(), r#"{"number":7,"name":"name:ann"}"#);
    assert_eq!(last.why_opaque(), None);
    let first = Schema::of::<NameFirst>();
    assert_eq!(first.types.len(), 1);
    let fields = r#""struct":[["name","string"],["number",{"opaque":"its Deserialize refuses"#;
    assert!(json_of::<NameFirst>().contains(fields), "{}", json_of::<NameFirst>());
    let mut bytes = Vec::new();
    let value = NameFirst { name: Name("name:ann".to_owned()), number: 7 };
    encode_onto(&value, &mut bytes, 100).unwrap();
    assert!(matches!(first.json(&bytes), Err(JsonError::Opaque(_))));
    // By hand.
    let mut given = first.clone();
    given.types = vec![Type::Struct(vec![
        ("name".to_owned(), Part::Leaf(Leaf::String)),
        ("number".to_owned(), Part::Leaf(Leaf::U32)),
    ])];
    assert_eq!(given.json(&bytes).unwrap(), r#"{"name":"name:ann","number":7}"#);
    assert_eq!(given.why_opaque(), None);
}

#[test]
fn a_wrong_schema_is_an_error_and_no_panic() {
    let parse = |text: &str| serde_json::from_str::<Schema>(text).unwrap();
    let endless = parse(r#"{"root":0,"types":[{"tuple":[0]}]}"#);
    assert!(matches!(endless.json(&[]), Err(JsonError::Unfit(_))));
    assert_eq!(Shape::of(&endless).text(), "1*");
    let options = parse(r#"{"root":0,"types":[{"option":0}]}"#);
    let select =
        |path: &[String]| write_stored(&options, path, &mut &vec![1; 1 << 20][..], &mut Vec::new());
    assert!(matches!(select(&[]), Err(JsonError::Unfit(_))));
    assert!(matches!(select(&["x".to_owned()]), Err(JsonError::Unfit(_))));
    let missing = parse(r#"{"root":7,"types":[]}"#);
    assert!(matches!(missing.json(&[1]), Err(JsonError::Unfit(_))));
    // It would be followed without end in each of two places.
    let wide: Vec<String> = (1..200).map(|at| format!(r#"{{"tuple":[{at},{at}]}}"#)).collect();
    let wide = parse(&format!(r#"{{"root":0,"types":[{},{{"option":"u8"}}]}}"#, wide.join(",")));
    assert!(Shape::of(&wide).text().len() < 20 << 10);
    assert!(wide.to_string().len() < 20 << 10);
    assert!(wide.json(&[0; 10]).is_err());
    let many: Vec<String> = (1..100).map(|at| format!(r#"{{"tuple":[{at},{at}]}}"#)).collect();
    let many = parse(&format!(r#"{{"root":0,"types":[{},{{"tuple":["unit"]}}]}}"#, many.join(",")));
    assert!(many.json(&[]).is_err());
    assert!(Schema::of::<Vec<()>>().json(&[253, 0, 0, 0, 0, 0, 0, 0, 1]).is_err());
    assert!(serde_json::from_str::<Schema>(r#"{"root":{"opaque":1},"types":[]}"#).is_err());
}
