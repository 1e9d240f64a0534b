//! Tests that a value that JSON cannot hold is an error that says where it is, and never another
//! value that looks right.

use imbl::OrdMap;
use prevalence::{Command, Context, Database, Error, Model};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Quotes {
    prices: OrdMap<String, f64>,
    nested: Nested,
    tree: Tree,
}

impl Model for Quotes {
    type Event = ();
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Tree {
    children: OrdMap<u32, Tree>,
}

/// A value with this many levels in JSON, but only a number in other formats, so that only its JSON
/// is deep.
#[derive(Clone, Copy, Default)]
struct Nested(u32);

impl Serialize for Nested {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.checked_sub(1) {
            Some(inner) if serializer.is_human_readable() => {
                serializer.collect_seq([Nested(inner)])
            }
            _ => serializer.serialize_u32(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Nested {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(Nested)
    }
}

#[derive(Serialize, Deserialize)]
struct Quote {
    of: String,
    prices: Vec<f64>,
    nested: Nested,
}

impl Command<Quotes> for Quote {
    type Output = ();
    type Rejection = ();

    fn apply(self, quotes: &mut Quotes, _: &mut Context<'_, Quotes>) -> Result<(), ()> {
        quotes.prices.extend(self.prices.last().map(|&price| (self.of, price)));
        quotes.nested = self.nested;
        Ok(())
    }
}

prevalence::commands! { Quotes { 1 => Quote } }

fn quote(of: &str, prices: &[f64], levels: u32) -> Quote {
    Quote { of: of.to_owned(), prices: prices.to_vec(), nested: Nested(levels) }
}

fn export(database: &Database<Quotes>) -> Result<String, Error> {
    let mut json = Vec::new();
    let exported = database.export_json(&mut json);
    assert!(exported.is_ok() || json.is_empty(), "nothing was written of what is refused");
    exported.map(|_| String::from_utf8(json).unwrap())
}

fn command(database: &Database<Quotes>) -> Result<String, Error> {
    let newest = database.sequence();
    let record = database.history().records(newest..=newest).unwrap().next().unwrap().unwrap();
    record.command_json()
}

fn assert_refused(json: Result<String, Error>, what: &str, says: &[&str]) {
    match json {
        Err(Error::Encode { what: found, reason }) => {
            assert!(found.contains(what) && found.contains("as JSON"), "{found}");
            assert!(says.iter().all(|expected| reason.contains(expected)), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn numbers_that_json_does_not_have_are_an_error_with_their_place() {
    let database = Database::<Quotes>::in_memory().unwrap();
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        database.execute(quote("EUR", &[1.5], 0)).unwrap();
        database.execute(quote("USD", &[1.0, number], 0)).unwrap();
        let said = format!("the number is {number}, but JSON has neither NaN nor infinity");
        assert_refused(export(&database), "the model", &[&said, r#"at `prices["USD"]`"#]);
        assert_refused(command(&database), "command `Quote` at seq", &[&said, "at `prices[1]`"]);
    }
    database.execute(quote("USD", &[-0.25], 1)).unwrap();
    let exported = r#"{"prices":{"EUR":1.5,"USD":-0.25},"nested":[0],"tree":{"children":{}}}"#;
    assert_eq!(export(&database).unwrap(), exported);
    let told = r#"{"of":"USD","prices":[-0.25],"nested":[0]}"#;
    assert_eq!(command(&database).unwrap(), told);
}

/// This runs on the stack of a test's thread, 2 MiB. An overflow would end the process.
#[test]
fn what_is_too_deep_is_an_error_and_not_the_end_of_the_process() {
    let database = Database::<Quotes>::in_memory().unwrap();
    database.execute(quote("EUR", &[], 1_000_000)).unwrap();
    assert_refused(export(&database), "the model", &["more than 512 levels", "at `nested[0]["]);
    assert_refused(command(&database), "command `Quote`", &["more than 512 levels deep"]);
    database.execute(quote("EUR", &[], 511)).unwrap();
    assert_eq!(export(&database).unwrap().matches('[').count(), 511);
    assert_eq!(command(&database).unwrap().matches('[').count(), 512, "with that of the prices");
}

#[test]
fn a_tree_of_that_depth_is_written() {
    // Each takes two levels: its map, and itself in that of the one above.
    let deepest = Tree::default();
    let tree =
        (0..254).fold(deepest, |inner, number| Tree { children: OrdMap::unit(number, inner) });
    let quotes = Quotes { tree, ..Quotes::default() };
    let database = Database::builder().initial(quotes).open_in_memory().unwrap();
    assert_eq!(export(&database).unwrap().matches("children").count(), 255);
}
