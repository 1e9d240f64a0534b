//! Owns what a set looks like to serde: as a `BTreeSet`. Knows nothing of nodes.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::super::elements::{self, are_equal, serialize_elements};
use super::super::map::Map;
use super::super::tree::{DecodeEntry, Edit, Tree, TreeBuilder, edits};
use super::Set;
use crate::codec::{
    BeforeReading, Collection, Comparison, DecodeError, Entries, PartDecoder, StoredEntries,
};

impl<K: Serialize + Ord + Send + Sync + 'static> Serialize for Set<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_elements(self, serializer, |key, ()| key)
    }
}

impl<K: Send + Sync + 'static> Collection for Set<K> {
    fn family(&self) -> Option<usize> {
        self.map.tree.family_id()
    }

    fn memory_bytes(&self) -> u64 {
        self.map.tree.memory_bytes()
    }

    fn load_all(&self, goes_on: &mut dyn FnMut() -> bool) -> bool {
        self.map.tree.warm_all(goes_on)
    }
}

impl<K: Serialize + Ord + Send + Sync + 'static> elements::Entries for Set<K> {
    type Key = K;
    type Value = ();

    fn len(&self) -> usize {
        self.map.tree.len()
    }

    fn entries(&self) -> impl Iterator<Item = (&K, &())> {
        self.map.iter()
    }

    fn edits<'a>(
        &'a self,
        base: &'a Self,
        comparison: &'a mut Comparison,
    ) -> impl Iterator<Item = Edit<'a, K, ()>> {
        edits(&base.map.tree, &self.map.tree, |old, new| are_equal(old, new, comparison))
    }
}

impl<'de, K: DeserializeOwned + Ord + Clone + Send + Sync + 'static> Deserialize<'de> for Set<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Elements { before: BeforeReading::new(), set: PhantomData })
    }
}

struct Elements<K> {
    before: BeforeReading,
    set: PhantomData<K>,
}

impl<'de, K: DeserializeOwned + Ord + Clone + Send + Sync + 'static> Visitor<'de> for Elements<K> {
    type Value = Set<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    /// Elements in ascending order, as a set writes them, are appended; others are inserted.
    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Set<K>, A::Error> {
        match self.before.entries(elements.size_hint()).map_err(A::Error::custom)? {
            Entries::OneByOne => {}
            Entries::InParts(stored) => return load(stored).map_err(A::Error::custom),
            Entries::NotKept(count) => {
                for _ in 0..count {
                    elements.next_element::<K>()?;
                }
                return Ok(Set::new());
            }
        }
        let mut builder = TreeBuilder::new();
        while let Some(key) = elements.next_element()? {
            if let Err((key, ())) = builder.push(key, ()) {
                let mut set = Set { map: Map { tree: builder.finish() } };
                set.insert(key);
                while let Some(key) = elements.next_element()? {
                    set.insert(key);
                }
                return Ok(set);
            }
        }
        Ok(Set { map: Map { tree: builder.finish() } })
    }
}

/// Loads a set on several threads.
fn load<K>(stored: StoredEntries) -> Result<Set<K>, String>
where
    K: DeserializeOwned + Ord + Clone + Send + Sync + 'static,
{
    let (tree, is_ordered) = Tree::load::<Element>(stored.parts())?;
    let set = Set { map: Map { tree } };
    if is_ordered {
        stored.skip(&set);
        return Ok(set);
    }
    stored.skip_rebuilt();
    // The set cannot find its elements if their order has changed since they were written.
    Ok(set.iter().cloned().collect())
}

/// An element of a set: a key without a value.
struct Element;

impl<K: DeserializeOwned + Ord + 'static> DecodeEntry<K, ()> for Element {
    #[inline(always)]
    fn key<const LIMIT: usize>(decoder: &mut PartDecoder<'_, LIMIT>) -> Result<K, DecodeError> {
        decoder.decode()
    }

    #[inline(always)]
    fn value<const LIMIT: usize>(_: &mut PartDecoder<'_, LIMIT>) -> Result<(), DecodeError> {
        Ok(())
    }

    #[inline(always)]
    fn are_ordered(first: &K, second: &K) -> bool {
        first < second
    }

    #[inline(always)]
    fn are_same(first: &K, second: &K) -> bool {
        first.cmp(second).is_eq()
    }
}
