//! Owns what a vector looks like to serde: as a `Vec`. Knows nothing of nodes.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::super::elements::{self, are_equal, serialize_elements};
use super::super::tree::{DecodeEntry, Edit, Tree, sequence_edits};
use super::Vector;
use crate::codec::{
    BeforeReading, Collection, Comparison, DecodeError, Entries, PartDecoder, StoredEntries,
};

impl<T: Serialize + Send + Sync + 'static> Serialize for Vector<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_elements(self, serializer, |(), element| element)
    }
}

impl<T: Send + Sync + 'static> Collection for Vector<T> {
    fn family(&self) -> Option<usize> {
        self.tree.family_id()
    }

    fn memory_bytes(&self) -> u64 {
        self.tree.memory_bytes()
    }

    fn load_all(&self, goes_on: &mut dyn FnMut() -> bool) -> bool {
        self.tree.warm_all(goes_on)
    }
}

impl<T: Serialize + Send + Sync + 'static> elements::Entries for Vector<T> {
    type Key = ();
    type Value = T;

    fn len(&self) -> usize {
        self.tree.len()
    }

    fn entries(&self) -> impl Iterator<Item = (&(), &T)> {
        self.iter().map(|element| (&(), element))
    }

    fn edits<'a>(
        &'a self,
        base: &'a Self,
        comparison: &'a mut Comparison,
    ) -> impl Iterator<Item = Edit<'a, (), T>> {
        sequence_edits(&base.tree, &self.tree, |old, new| are_equal(old, new, comparison))
    }
}

impl<'de, T: DeserializeOwned + Clone + Send + Sync + 'static> Deserialize<'de> for Vector<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let elements = Elements { before: BeforeReading::new(), vector: PhantomData };
        deserializer.deserialize_seq(elements)
    }
}

struct Elements<T> {
    before: BeforeReading,
    vector: PhantomData<T>,
}

impl<'de, T: DeserializeOwned + Clone + Send + Sync + 'static> Visitor<'de> for Elements<T> {
    type Value = Vector<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vector<T>, A::Error> {
        match self.before.entries(elements.size_hint()).map_err(A::Error::custom)? {
            Entries::OneByOne => {}
            Entries::InParts(stored) => return load(stored).map_err(A::Error::custom),
            Entries::NotKept(count) => {
                for _ in 0..count {
                    elements.next_element::<T>()?;
                }
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
fn load<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    stored: StoredEntries,
) -> Result<Vector<T>, String> {
    let (tree, _) = Tree::load::<Element>(stored.parts())?;
    let vector = Vector { tree };
    stored.skip(&vector);
    Ok(vector)
}

/// An element of a vector, which has no key.
struct Element;

impl<T: DeserializeOwned + 'static> DecodeEntry<(), T> for Element {
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

    #[inline(always)]
    fn are_same((): &(), (): &()) -> bool {
        true
    }
}
