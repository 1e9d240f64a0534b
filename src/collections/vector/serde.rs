//! Owns what a vector looks like to serde: as a `Vec`. Knows nothing of nodes.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::super::elements::serialize_elements;
use super::super::tree::{DecodeEntry, Tree};
use super::Vector;
use crate::codec::{BeforeReading, DecodeError, Entries, PartDecoder, StoredEntries};

impl<T: Serialize> Serialize for Vector<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_elements(self.iter(), serializer)
    }
}

impl<'de, T: DeserializeOwned + Clone + Send> Deserialize<'de> for Vector<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let elements = Elements { before: BeforeReading::new(), vector: PhantomData };
        deserializer.deserialize_seq(elements)
    }
}

struct Elements<T> {
    before: BeforeReading,
    vector: PhantomData<T>,
}

impl<'de, T: DeserializeOwned + Clone + Send> Visitor<'de> for Elements<T> {
    type Value = Vector<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vector<T>, A::Error> {
        match self.before.entries(elements.size_hint()) {
            Entries::OneByOne => {}
            Entries::InParts(stored) => return load(stored).map_err(A::Error::custom),
            Entries::NotKept => {
                while elements.next_element::<T>()?.is_some() {}
                return Ok(Vector::new());
            }
        }
        let mut vector = Vector::new();
        let mut end = vector.appender();
        while let Some(element) = elements.next_element()? {
            end.push(element);
        }
        Ok(vector)
    }
}

/// Loads a vector on several threads.
fn load<T: DeserializeOwned + Clone + Send>(stored: StoredEntries) -> Result<Vector<T>, String> {
    let (tree, _) = Tree::load::<Element>(&stored.parts())?;
    stored.skip();
    Ok(Vector { tree })
}

/// An element of a vector, which has no key.
struct Element;

impl<T: DeserializeOwned> DecodeEntry<(), T> for Element {
    #[inline(always)]
    fn key<const LIMIT: usize>(_: &mut PartDecoder<'_, LIMIT>) -> Result<(), DecodeError> {
        Ok(())
    }

    #[inline(always)]
    fn value<const LIMIT: usize>(decoder: &mut PartDecoder<'_, LIMIT>) -> Result<T, DecodeError> {
        decoder.decode()
    }

    #[inline(always)]
    fn are_ordered((): &(), (): &()) -> bool {
        true
    }
}
