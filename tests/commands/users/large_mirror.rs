//! Tests of large models that are decoded to see whether they can be: the entries of their
//! collections are not kept, and what that does not answer is asked of the whole model.

use prevalence::collections::Map;
use prevalence::{Command, Context, Database, Error, Model, SnapshotPolicy};
use serde::{Deserialize, Deserializer, Serialize};

use crate::common::temporary;

const ENTRIES: u64 = 30_000;
/// Together these are more than is decoded as a whole at once.
const TEXT_BYTES: usize = 200;
const UNREADABLE: u64 = 29_000;

/// A text that can be written, but not read behind one key.
#[derive(Clone, Serialize)]
struct Text(u64, String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (number, text) = Deserialize::deserialize(deserializer)?;
        match number {
            UNREADABLE => Err(serde::de::Error::custom("this text is not readable")),
            _ => Ok(Self(number, text)),
        }
    }
}

/// A model that is decoded only with all of its texts.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
struct Library {
    count: usize,
    texts: Map<u64, Text>,
}

#[derive(Deserialize)]
struct Stored {
    count: usize,
    texts: Map<u64, Text>,
}

impl TryFrom<Stored> for Library {
    type Error = String;

    fn try_from(Stored { count, texts }: Stored) -> Result<Self, String> {
        match texts.len() {
            found if found == count => Ok(Self { count, texts }),
            found => Err(format!("{found} texts of {count}")),
        }
    }
}

impl Model for Library {
    type Event = ();
}

/// Adds texts with these keys; the first of them is a text with that number.
#[derive(Serialize, Deserialize)]
struct Add {
    from: u64,
    entries: u64,
    number: u64,
}

impl Command<Library> for Add {
    type Output = ();
    type Rejection = ();

    fn apply(self, library: &mut Library, _: &mut Context<'_, Library>) -> Result<(), ()> {
        for key in self.from..self.from + self.entries {
            let number = if key == self.from { self.number } else { 0 };
            library.texts.put(key, Text(number, format!("{key:0TEXT_BYTES$}")));
        }
        library.count = library.texts.len();
        Ok(())
    }
}

prevalence::commands! { Library { 1 => Add } }

#[test]
fn a_large_model_is_seen_to_be_readable_or_not() {
    let (_directory, path) = temporary();
    let policy = SnapshotPolicy::manual();
    let library = Database::<Library>::builder().snapshots(policy).open(&path).unwrap();
    library.execute(Add { from: 0, entries: ENTRIES, number: 0 }).unwrap();
    let info = library.snapshot().unwrap();
    assert!(info.raw_bytes > 5 << 20, "{} bytes are no large model", info.raw_bytes);

    library.execute(Add { from: ENTRIES, entries: 2 * ENTRIES, number: UNREADABLE }).unwrap();
    let error = library.snapshot().unwrap_err();
    let told = matches!(&error, Error::UnreadableModel { reason, .. }
        if reason.contains("this text is not readable"));
    assert!(told, "{error}");
    library.close().unwrap();
    let library = Database::<Library>::open(&path).unwrap();
    assert_eq!(library.query(|library| library.texts.len() as u64), 3 * ENTRIES);
}
